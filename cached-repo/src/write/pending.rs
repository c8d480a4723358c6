//! Invalidations that the tier could not be told of yet.
//!
//! Invariants:
//! - A key that is owed an invalidation is not read from the cache by this process.
//! - An invalidation is remembered before the write that owes it is acknowledged, and forgotten
//!   only when the tier has acknowledged it.
//! - At most `pending_capacity` keys; beyond that the entity as a whole is owed one.
//!
//! Does not survive the process: what is owed when it dies stays stale in other processes for at
//! most its TTL.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use crate::{
    config::Config,
    protocol::{
        Key, Token, Version,
        state::{Done, Outcome},
    },
    read::ms,
    tier::Tier,
};

/// Invalidations that are replayed at a time.
const BATCH: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One owed invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The block to take off with it.
    pub(super) token: Token,
    pub(super) floor: Version,
    /// Not before then; at once without it.
    pub(super) due: Option<Instant>,
}

/// All that is owed to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    token: Token,
    floor: Version,
    /// An invalidation is due now.
    now: bool,
    /// Another one is due then.
    late: Option<Instant>,
}

impl Account {
    fn open(owed: Owed) -> Self {
        Self {
            token: owed.token,
            floor: owed.floor,
            now: owed.due.is_none(),
            late: owed.due,
        }
    }

    /// The latest block is the one still standing; earlier ones lapse.
    fn add(&mut self, owed: Owed) {
        self.floor = self.floor.max(owed.floor);
        self.token = owed.token;
        self.now |= owed.due.is_none();
        self.late = self.late.max(owed.due);
    }

    fn is_due(&self) -> bool {
        self.now || self.late.is_some_and(|late| late <= Instant::now())
    }
}

/// The invalidations that are owed, and the task that replays them.
#[derive(Debug)]
pub(crate) struct Pending {
    queue: Arc<Queue>,
    worker: JoinHandle<()>,
}

#[derive(Debug)]
struct Queue {
    owed: Mutex<Ledger>,
    /// How many are owed, to be read without the lock.
    len: AtomicUsize,
    capacity: usize,
    changed: Notify,
    drained: Notify,
}

/// What is replayed at a time.
struct Batch {
    keys: Vec<(Key, Account)>,
    entities: Vec<(Arc<str>, u64)>,
    /// When something else is due, if anything is owed for later.
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct Ledger {
    keys: HashMap<Key, Account>,
    /// Prefixes of entities that are owed one as a whole, and how often it was asked for.
    entities: HashMap<Arc<str>, u64>,
}

impl Pending {
    pub(crate) fn start(tier: Arc<dyn Tier>, config: &Config) -> Self {
        let queue = Arc::new(Queue {
            owed: Mutex::default(),
            len: AtomicUsize::new(0),
            capacity: config.pending_capacity,
            changed: Notify::new(),
            drained: Notify::new(),
        });
        let worker = tokio::spawn(replay(Arc::clone(&queue), tier, ms(config.keep)));
        Self { queue, worker }
    }

    /// Remembers an invalidation of `key`, whose entity's keys start with `prefix`.
    pub(super) fn owe(&self, key: &Key, prefix: &Arc<str>, owed: Owed) {
        let mut ledger = self.queue.owed.lock();
        let full = ledger.keys.len() >= self.queue.capacity;
        match ledger.keys.get_mut(key) {
            Some(account) => account.add(owed),
            None if full => ledger.owe_all(prefix),
            None => {
                ledger.keys.insert(key.clone(), Account::open(owed));
            }
        }
        self.queue.recount(&ledger);
        self.queue.changed.notify_one();
    }

    /// Remembers an invalidation of every key that starts with `prefix`.
    pub(super) fn owe_all(&self, prefix: &Arc<str>) {
        let mut ledger = self.queue.owed.lock();
        ledger.owe_all(prefix);
        self.queue.recount(&ledger);
        self.queue.changed.notify_one();
    }

    /// Whether the cache may hold something older than this process has written under `key`.
    pub(crate) fn distrusts(&self, key: &Key) -> bool {
        if self.queue.len.load(Ordering::Acquire) == 0 {
            return false;
        }
        let ledger = self.queue.owed.lock();
        ledger.keys.contains_key(key)
            || ledger
                .entities
                .keys()
                .any(|prefix| key.as_str().starts_with(&**prefix))
    }

    /// How many invalidations are owed; an entity as a whole counts as one.
    pub(crate) fn len(&self) -> usize {
        self.queue.len.load(Ordering::Acquire)
    }

    /// Makes what is owed for later due now.
    pub(crate) fn hurry(&self) {
        for account in self.queue.owed.lock().keys.values_mut() {
            account.now |= account.late.take().is_some();
        }
        self.queue.changed.notify_one();
    }

    /// How many of them are of the entity whose keys start with `prefix`. Takes time in proportion
    /// to what is owed.
    pub(crate) fn len_of(&self, prefix: &str) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let ledger = self.queue.owed.lock();
        let keys = ledger.keys.keys();
        let keys = keys.filter(|key| key.as_str().starts_with(prefix));
        keys.count() + usize::from(ledger.entities.contains_key(prefix))
    }

    /// Waits until nothing is owed.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.queue.drained.notified();
            if self.len() == 0 {
                return;
            }
            drained.await;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Queue {
    fn recount(&self, ledger: &Ledger) {
        let len = ledger.keys.len() + ledger.entities.len();
        self.len.store(len, Ordering::Release);
        if len == 0 {
            self.drained.notify_waiters();
        }
    }

    /// Some of what is owed.
    fn batch(&self) -> Batch {
        let ledger = self.owed.lock();
        let due = ledger.keys.iter().filter(|(_, account)| account.is_due());
        let keys = due
            .take(BATCH)
            .map(|(key, account)| (key.clone(), *account));
        let entities = ledger
            .entities
            .iter()
            .map(|(prefix, times)| (Arc::clone(prefix), *times));
        Batch {
            keys: keys.collect(),
            entities: entities.collect(),
            next: ledger
                .keys
                .values()
                .filter_map(|account| account.late)
                .min(),
        }
    }
}

impl Ledger {
    fn owe_all(&mut self, prefix: &Arc<str>) {
        *self.entities.entry(Arc::clone(prefix)).or_default() += 1;
    }
}

/// Replays what is owed, with growing pauses while the tier does not answer.
async fn replay(queue: Arc<Queue>, tier: Arc<dyn Tier>, keep_ms: u64) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Batch {
            keys,
            entities,
            next,
        } = queue.batch();
        if keys.is_empty() && entities.is_empty() {
            let changed = queue.changed.notified();
            match next {
                // Woken early or late, the next batch is what is due by then.
                Some(next) => drop(tokio::time::timeout_at(next, changed).await),
                None => changed.await,
            }
            continue;
        }
        let mut progress = false;
        let done = |token, floor| Done {
            token,
            keep_ms,
            outcome: Outcome::Invalidate { floor },
        };
        let told = keys
            .iter()
            .map(|(key, account)| tier.done(key, done(account.token, account.floor)));
        for ((key, account), reply) in keys.iter().zip(join_all(told).await) {
            if reply.is_err() {
                continue;
            }
            progress = true;
            let mut ledger = queue.owed.lock();
            // What came meanwhile is still owed.
            if ledger.keys.get(key) == Some(account) {
                match account.late.filter(|late| *late > Instant::now()) {
                    Some(late) => {
                        let account = Account {
                            now: false,
                            late: Some(late),
                            ..*account
                        };
                        ledger.keys.insert(key.clone(), account);
                    }
                    None => {
                        ledger.keys.remove(key);
                    }
                }
            }
            queue.recount(&ledger);
        }
        for (prefix, times) in entities {
            let done = done(Token::fresh(), Version::ZERO);
            if tier.invalidate_all(&prefix, done).await.is_ok() {
                progress = true;
                let mut ledger = queue.owed.lock();
                // What came meanwhile may be of a key that was already passed.
                if ledger.entities.get(&prefix) == Some(&times) {
                    ledger.entities.remove(&prefix);
                }
                queue.recount(&ledger);
            }
        }
        if progress {
            pause = FIRST_PAUSE;
        } else {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What is owed unless it is paid, whatever becomes of the one who waits for the payment.
pub(super) struct Debt<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Debt<F> {
    pub(super) fn of(owe: F) -> Self {
        Self(Some(owe))
    }

    pub(super) fn paid(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Debt<F> {
    fn drop(&mut self) {
        if let Some(owe) = self.0.take() {
            owe();
        }
    }
}

#[cfg(test)]
mod tests;
