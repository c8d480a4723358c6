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
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

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

#[derive(Debug, Default)]
struct Ledger {
    keys: HashMap<Key, Owed>,
    /// Prefixes of entities that are owed one as a whole.
    entities: HashSet<Arc<str>>,
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
            // The latest block is the one still standing; earlier ones lapse.
            Some(earlier) => {
                earlier.floor = earlier.floor.max(owed.floor);
                earlier.token = owed.token;
            }
            None if full => {
                ledger.entities.insert(Arc::clone(prefix));
            }
            None => {
                ledger.keys.insert(key.clone(), owed);
            }
        }
        self.queue.recount(&ledger);
        self.queue.changed.notify_one();
    }

    /// Remembers an invalidation of every key that starts with `prefix`.
    pub(super) fn owe_all(&self, prefix: &Arc<str>) {
        let mut ledger = self.queue.owed.lock();
        ledger.entities.insert(Arc::clone(prefix));
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
                .iter()
                .any(|prefix| key.as_str().starts_with(&**prefix))
    }

    /// How many invalidations are owed; an entity as a whole counts as one.
    pub(crate) fn len(&self) -> usize {
        self.queue.len.load(Ordering::Acquire)
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
    fn batch(&self) -> (Vec<(Key, Owed)>, Vec<Arc<str>>) {
        let ledger = self.owed.lock();
        let keys = ledger
            .keys
            .iter()
            .take(BATCH)
            .map(|(key, owed)| (key.clone(), *owed));
        (keys.collect(), ledger.entities.iter().cloned().collect())
    }
}

/// Replays what is owed, with growing pauses while the tier does not answer.
async fn replay(queue: Arc<Queue>, tier: Arc<dyn Tier>, keep_ms: u64) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (keys, entities) = queue.batch();
        if keys.is_empty() && entities.is_empty() {
            queue.changed.notified().await;
            continue;
        }
        let mut progress = false;
        let done = |owed: Owed| Done {
            token: owed.token,
            keep_ms,
            outcome: Outcome::Invalidate { floor: owed.floor },
        };
        let replies = join_all(keys.iter().map(|(key, owed)| tier.done(key, done(*owed)))).await;
        for ((key, owed), reply) in keys.iter().zip(replies) {
            if reply.is_err() {
                continue;
            }
            progress = true;
            let mut ledger = queue.owed.lock();
            // What came meanwhile is still owed.
            if ledger.keys.get(key) == Some(owed) {
                ledger.keys.remove(key);
            }
            queue.recount(&ledger);
        }
        for prefix in entities {
            let owed = Owed {
                token: Token::fresh(),
                floor: Version::ZERO,
            };
            if tier.invalidate_all(&prefix, done(owed)).await.is_ok() {
                progress = true;
                let mut ledger = queue.owed.lock();
                ledger.entities.remove(&prefix);
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
