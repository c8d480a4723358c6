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

/// What is replayed at a time.
struct Batch {
    keys: Vec<(Key, Owed)>,
    entities: Vec<(Arc<str>, u64)>,
}

#[derive(Debug, Default)]
struct Ledger {
    keys: HashMap<Key, Owed>,
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
            // The latest block is the one still standing; earlier ones lapse.
            Some(earlier) => {
                earlier.floor = earlier.floor.max(owed.floor);
                earlier.token = owed.token;
            }
            None if full => ledger.owe_all(prefix),
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
        let keys = ledger
            .keys
            .iter()
            .take(BATCH)
            .map(|(key, owed)| (key.clone(), *owed));
        let entities = ledger
            .entities
            .iter()
            .map(|(prefix, times)| (Arc::clone(prefix), *times));
        Batch {
            keys: keys.collect(),
            entities: entities.collect(),
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
        let Batch { keys, entities } = queue.batch();
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
        for (prefix, times) in entities {
            let owed = Owed {
                token: Token::fresh(),
                floor: Version::ZERO,
            };
            if tier.invalidate_all(&prefix, done(owed)).await.is_ok() {
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
mod tests {
    use std::{collections::HashMap, future::ready};

    use super::*;
    use crate::{
        protocol::{
            KeySpace, Timestamp,
            state::{Block, Blocked, Fill, Filled, Lease, Leased, Published},
        },
        tier::{Held, Reply, TierError},
    };

    const LIMIT: Duration = Duration::from_secs(10);

    /// A tier that can be told only as often as the test allows, and reports what it was told.
    #[derive(Debug)]
    struct Scripted {
        /// One permit for one answer; without one a call waits.
        answers: tokio::sync::Semaphore,
        /// Called and waiting.
        waiting: AtomicUsize,
        told: Mutex<Vec<(String, Version)>>,
        fails: std::sync::atomic::AtomicBool,
    }

    impl Scripted {
        async fn answer<T>(&self, key: &str, request: &Done, reply: T) -> Result<T, TierError> {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let permit = self.answers.acquire().await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            permit.map_err(|_| TierError::Unavailable)?.forget();
            if self.fails.load(Ordering::SeqCst) {
                return Err(TierError::Unavailable);
            }
            let Outcome::Invalidate { floor } = request.outcome else {
                panic!("only invalidations are owed");
            };
            self.told.lock().push((key.to_owned(), floor));
            Ok(reply)
        }

        async fn until_waiting(&self, calls: usize) {
            until("the tier is called", || {
                self.waiting.load(Ordering::SeqCst) >= calls
            })
            .await;
        }
    }

    impl Tier for Scripted {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }
        fn get<'a>(&'a self, _: &'a Key) -> Reply<'a, Held> {
            Box::pin(ready(Err(TierError::Unavailable)))
        }
        fn lease<'a>(&'a self, _: &'a Key, _: Lease) -> Reply<'a, Leased> {
            Box::pin(ready(Err(TierError::Unavailable)))
        }
        fn fill<'a>(&'a self, _: &'a Key, _: Fill) -> Reply<'a, Filled> {
            Box::pin(ready(Err(TierError::Unavailable)))
        }
        fn block<'a>(&'a self, _: &'a Key, _: Block) -> Reply<'a, Blocked> {
            Box::pin(ready(Err(TierError::Unavailable)))
        }
        fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
            Box::pin(async move {
                self.answer(key.as_str(), &request, Published::Invalidated)
                    .await
            })
        }
        fn invalidate_all<'a>(&'a self, prefix: &'a str, request: Done) -> Reply<'a, u64> {
            Box::pin(async move { self.answer(prefix, &request, 1).await })
        }
    }

    async fn until(what: &str, mut reached: impl FnMut() -> bool) {
        let wait = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, wait).await;
        assert!(in_time.is_ok(), "never happened: {what}");
    }

    fn space() -> KeySpace {
        KeySpace::new("test", "row")
    }

    fn owed(floor: u64) -> Owed {
        Owed {
            token: Token::fresh(),
            floor: Version::new(floor).unwrap(),
        }
    }

    fn start(capacity: usize) -> (Arc<Scripted>, Pending) {
        let tier = Arc::new(Scripted {
            answers: tokio::sync::Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            told: Mutex::default(),
            fails: false.into(),
        });
        let config = Config {
            pending_capacity: capacity,
            ..Config::default()
        };
        let pending = Pending::start(Arc::clone(&tier) as Arc<dyn Tier>, &config);
        (tier, pending)
    }

    #[tokio::test]
    async fn a_key_is_distrusted_until_the_tier_was_told() {
        let (tier, pending) = start(10);
        let (key, other) = (space().row(1i64), space().row(2i64));
        pending.owe(&key, space().prefix(), owed(3));
        assert!(pending.distrusts(&key) && !pending.distrusts(&other));
        tier.until_waiting(1).await;
        assert!(pending.distrusts(&key), "told is not acknowledged");
        tier.answers.add_permits(1);
        tokio::time::timeout(LIMIT, pending.drained())
            .await
            .unwrap();
        assert!(!pending.distrusts(&key));
        let floor = Version::new(3).unwrap();
        assert_eq!(*tier.told.lock(), [(key.to_string(), floor)]);
    }

    #[tokio::test]
    async fn a_failed_replay_is_tried_again() {
        let (tier, pending) = start(10);
        let key = space().row(1i64);
        tier.fails.store(true, Ordering::SeqCst);
        pending.owe(&key, space().prefix(), owed(0));
        tier.answers.add_permits(2);
        until("two attempts have failed", || {
            tier.answers.available_permits() == 0
        })
        .await;
        assert!(pending.distrusts(&key));
        tier.fails.store(false, Ordering::SeqCst);
        tier.answers.add_permits(1);
        tokio::time::timeout(LIMIT, pending.drained())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_comes_during_a_replay_is_still_owed() {
        let (tier, pending) = start(10);
        let key = space().row(1i64);
        pending.owe(&key, space().prefix(), owed(3));
        tier.until_waiting(1).await;
        pending.owe(&key, space().prefix(), owed(2));
        tier.answers.add_permits(1);
        until("the first replay is acknowledged", || {
            tier.told.lock().len() == 1
        })
        .await;
        tier.until_waiting(1).await;
        assert!(pending.distrusts(&key));
        tier.answers.add_permits(1);
        tokio::time::timeout(LIMIT, pending.drained())
            .await
            .unwrap();
        let floors: Vec<u64> = tier.told.lock().iter().map(|(_, v)| v.get()).collect();
        assert_eq!(floors, [3, 3], "the highest floor counts");
    }

    #[tokio::test]
    async fn beyond_the_capacity_the_entity_is_owed_as_a_whole() {
        let (tier, pending) = start(2);
        for id in 0..5i64 {
            pending.owe(&space().row(id), space().prefix(), owed(0));
        }
        assert_eq!(pending.len(), 3);
        assert!(pending.distrusts(&space().row(99i64)));
        let stranger = KeySpace::new("test", "row2").row(1i64);
        assert!(!pending.distrusts(&stranger));
        tier.answers.add_permits(100);
        tokio::time::timeout(LIMIT, pending.drained())
            .await
            .unwrap();
        let told: HashMap<String, Version> = tier.told.lock().iter().cloned().collect();
        assert!(told.contains_key(&**space().prefix()) && told.len() == 3);
    }

    /// The scan may have passed the key that is added while it runs.
    #[tokio::test]
    async fn what_overflows_during_the_replay_of_its_entity_is_still_owed() {
        let (tier, pending) = start(1);
        pending.owe_all(space().prefix());
        tier.until_waiting(1).await;
        pending.owe_all(space().prefix());
        tier.answers.add_permits(1);
        until("the first replay is acknowledged", || {
            tier.told.lock().len() == 1
        })
        .await;
        tier.until_waiting(1).await;
        assert!(pending.distrusts(&space().row(1i64)));
        tier.answers.add_permits(1);
        tokio::time::timeout(LIMIT, pending.drained())
            .await
            .unwrap();
        assert_eq!(tier.told.lock().len(), 2);
    }
}
