//! The invalidations that the tier did not acknowledge yet, and the task that replays them.
//!
//! Invariants:
//! - A key whose invalidation is queued is not read from the cache by this process.
//! - An invalidation is queued before the write that caused it is acknowledged, and removed only
//!   when the tier has acknowledged it.
//! - The queue holds at most `pending_capacity` keys; beyond that, entities as a whole are queued.
//!
//! Does not survive the process: other processes may serve what was queued when it died, for at
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
use tokio::{runtime::Handle, sync::Notify, task::JoinHandle, time::Instant};

use super::Epochs;
use crate::{
    backoff::Backoff,
    clock::ms,
    config::Config,
    protocol::{
        Key, Token, Version,
        state::{Done, Outcome},
    },
    tier::Tier,
};

/// Invalidations that are replayed at a time.
const BATCH: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One invalidation to be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalidation {
    /// The block that it takes off.
    pub(crate) token: Token,
    pub(crate) floor: Version,
    /// Not before then; at once without it.
    pub(crate) due: Option<Instant>,
}

/// All that is queued for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queued {
    token: Token,
    floor: Version,
    /// An invalidation is due now.
    now: bool,
    /// Another one is due then.
    late: Option<Instant>,
}

impl Queued {
    fn first(invalidation: Invalidation) -> Self {
        Self {
            token: invalidation.token,
            floor: invalidation.floor,
            now: invalidation.due.is_none(),
            late: invalidation.due,
        }
    }

    /// The latest block is the one that still stands; earlier ones lapse.
    fn add(&mut self, invalidation: Invalidation) {
        self.floor = self.floor.max(invalidation.floor);
        self.token = invalidation.token;
        self.now |= invalidation.due.is_none();
        self.late = self.late.max(invalidation.due);
    }

    fn is_due(&self) -> bool {
        self.now || self.late.is_some_and(|late| late <= Instant::now())
    }
}

/// The invalidations that are queued, and the task that replays them.
#[derive(Debug)]
pub(crate) struct InvalidationQueue {
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    queued: Mutex<Contents>,
    /// How many are queued, to be read without the lock.
    len: AtomicUsize,
    capacity: usize,
    changed: Notify,
    drained: Notify,
}

/// What is replayed at a time.
struct Batch {
    keys: Vec<(Key, Queued)>,
    entities: Vec<(Arc<str>, QueuedEntity)>,
    /// When something else is due, if anything is queued for later.
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct Contents {
    keys: HashMap<Key, Queued>,
    /// Entities that are queued as a whole, by what their keys start with.
    entities: HashMap<Arc<str>, QueuedEntity>,
}

/// All that is queued for an entity as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct QueuedEntity {
    /// How often it was asked for.
    times: u64,
    /// An invalidation is due now.
    now: bool,
    /// Another one is due then.
    late: Option<Instant>,
}

impl QueuedEntity {
    fn is_due(&self) -> bool {
        self.now || self.late.is_some_and(|late| late <= Instant::now())
    }
}

impl InvalidationQueue {
    pub(crate) fn start(
        tier: Arc<dyn Tier>,
        epochs: Arc<Epochs>,
        config: &Config,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            queued: Mutex::default(),
            len: AtomicUsize::new(0),
            capacity: config.pending_capacity,
            changed: Notify::new(),
            drained: Notify::new(),
        });
        let replay = replay(Arc::clone(&shared), tier, epochs, ms(config.tombstone_ttl));
        let worker = runtime.spawn(replay);
        Self { shared, worker }
    }

    /// Queues an invalidation of `key`, whose entity's keys start with `prefix`.
    pub(crate) fn enqueue(&self, key: &Key, prefix: &Arc<str>, invalidation: Invalidation) {
        let mut queued = self.shared.queued.lock();
        let full = queued.keys.len() >= self.shared.capacity;
        match queued.keys.get_mut(key) {
            Some(earlier) => earlier.add(invalidation),
            None if full => queued.add_entity(prefix, invalidation.due),
            None => {
                queued.keys.insert(key.clone(), Queued::first(invalidation));
            }
        }
        self.shared.recount(&queued);
        self.shared.changed.notify_one();
    }

    /// Queues an invalidation of every key that starts with `prefix`, at once or at `due`.
    pub(crate) fn enqueue_entity(&self, prefix: &Arc<str>, due: Option<Instant>) {
        let mut queued = self.shared.queued.lock();
        queued.add_entity(prefix, due);
        self.shared.recount(&queued);
        self.shared.changed.notify_one();
    }

    /// Whether an invalidation of `key` is queued, so that the cache may hold an older state than
    /// this process has written.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        if self.is_empty() {
            return false;
        }
        let queued = self.shared.queued.lock();
        queued.keys.contains_key(key)
            || queued
                .entities
                .keys()
                .any(|prefix| key.as_str().starts_with(&**prefix))
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many invalidations are queued; an entity as a whole counts as one.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Makes what is queued for later due now.
    pub(crate) fn hurry(&self) {
        let mut contents = self.shared.queued.lock();
        for queued in contents.keys.values_mut() {
            queued.now |= queued.late.take().is_some();
        }
        for queued in contents.entities.values_mut() {
            queued.now |= queued.late.take().is_some();
        }
        drop(contents);
        self.shared.changed.notify_one();
    }

    /// How many of them are of the entity whose keys start with `prefix`. Takes time in proportion
    /// to the queue's length.
    pub(crate) fn len_of(&self, prefix: &str) -> usize {
        if self.is_empty() {
            return 0;
        }
        let queued = self.shared.queued.lock();
        let keys = queued.keys.keys();
        let keys = keys.filter(|key| key.as_str().starts_with(prefix));
        keys.count() + usize::from(queued.entities.contains_key(prefix))
    }

    /// Waits until the queue is empty.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.shared.drained.notified();
            if self.is_empty() {
                return;
            }
            drained.await;
        }
    }
}

impl Drop for InvalidationQueue {
    fn drop(&mut self) {
        self.worker.abort();
        if !self.is_empty() {
            tracing::error!(
                lost = self.len(),
                "queued invalidations are lost with their `CachedDb`: other processes may serve stale \
                 rows until their TTL; await `shutdown` first"
            );
        }
    }
}

impl Shared {
    fn recount(&self, queued: &Contents) {
        let len = queued.keys.len() + queued.entities.len();
        self.len.store(len, Ordering::Release);
        if len == 0 {
            self.drained.notify_waiters();
        }
    }

    /// Some of what is due.
    fn batch(&self) -> Batch {
        let queued = self.queued.lock();
        let due = queued.keys.iter().filter(|(_, queued)| queued.is_due());
        let keys = due.take(BATCH).map(|(key, queued)| (key.clone(), *queued));
        let entities = queued.entities.iter();
        let entities = entities.filter(|(_, queued)| queued.is_due());
        let entities = entities.map(|(prefix, queued)| (Arc::clone(prefix), *queued));
        let late_keys = queued.keys.values().filter_map(|queued| queued.late);
        let late_entities = queued.entities.values().filter_map(|queued| queued.late);
        Batch {
            keys: keys.collect(),
            entities: entities.collect(),
            next: late_keys.chain(late_entities).min(),
        }
    }

    /// The tier has acknowledged the invalidation of a key as it was queued then.
    fn acknowledged(&self, key: &Key, sent: &Queued) {
        let mut queued = self.queued.lock();
        // What was queued meanwhile stays.
        if queued.keys.get(key) == Some(sent) {
            match sent.late.filter(|late| *late > Instant::now()) {
                Some(late) => {
                    let later = Queued {
                        now: false,
                        late: Some(late),
                        ..*sent
                    };
                    queued.keys.insert(key.clone(), later);
                }
                None => {
                    queued.keys.remove(key);
                }
            }
        }
        self.recount(&queued);
    }

    /// The tier has acknowledged the invalidation of an entity as it was queued then.
    fn entity_acknowledged(&self, prefix: &Arc<str>, sent: &QueuedEntity) {
        let mut queued = self.queued.lock();
        // What was queued meanwhile may have changed after the epoch was raised.
        if queued.entities.get(prefix) == Some(sent) {
            match sent.late.filter(|late| *late > Instant::now()) {
                Some(_) => {
                    let later = QueuedEntity {
                        now: false,
                        ..*sent
                    };
                    queued.entities.insert(Arc::clone(prefix), later);
                }
                None => {
                    queued.entities.remove(prefix);
                }
            }
        }
        self.recount(&queued);
    }
}

impl Contents {
    fn add_entity(&mut self, prefix: &Arc<str>, due: Option<Instant>) {
        let queued = self.entities.entry(Arc::clone(prefix)).or_default();
        queued.times += 1;
        queued.now |= due.is_none();
        queued.late = queued.late.max(due);
    }
}

/// Replays what is queued, with growing pauses while the tier does not answer.
async fn replay(shared: Arc<Shared>, tier: Arc<dyn Tier>, epochs: Arc<Epochs>, tombstone_ms: u64) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let invalidate = |token, floor| Done {
        token,
        tombstone_ms,
        outcome: Outcome::Invalidate { floor },
    };
    loop {
        let Batch {
            keys,
            entities,
            next,
        } = shared.batch();
        if keys.is_empty() && entities.is_empty() {
            let changed = shared.changed.notified();
            match next {
                // Woken early or late, the next batch is what is due by then.
                Some(next) => drop(tokio::time::timeout_at(next, changed).await),
                None => changed.await,
            }
            continue;
        }
        let mut progress = false;
        let sent = keys
            .iter()
            .map(|(key, queued)| tier.done(key, invalidate(queued.token, queued.floor)));
        for ((key, queued), reply) in keys.iter().zip(join_all(sent).await) {
            if reply.is_ok() {
                progress = true;
                shared.acknowledged(key, queued);
            }
        }
        let prefixes: Vec<_> = entities
            .iter()
            .map(|(prefix, _)| Arc::clone(prefix))
            .collect();
        if !prefixes.is_empty() && epochs.raise(prefixes).await.is_ok() {
            progress = true;
            for (prefix, sent) in entities {
                shared.entity_acknowledged(&prefix, &sent);
            }
        }
        if progress {
            backoff.reset();
        } else {
            backoff.pause().await;
        }
    }
}

/// Queues an invalidation when it is dropped, unless it was disarmed: whatever becomes of the
/// caller who waits for the tier's acknowledgement.
pub(crate) struct EnqueueOnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> EnqueueOnDrop<F> {
    pub(crate) fn new(enqueue: F) -> Self {
        Self(Some(enqueue))
    }

    /// The tier has acknowledged it.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for EnqueueOnDrop<F> {
    fn drop(&mut self) {
        if let Some(enqueue) = self.0.take() {
            enqueue();
        }
    }
}

#[cfg(test)]
mod tests;
