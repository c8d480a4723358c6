//! The keys that a write, or a transaction, blocks before its SQL commits, until the cache knows
//! what became of it.
//!
//! Invariants:
//! - All keys are blocked in one round trip, and published in one.
//! - A row is put only under a block of its own, and if its entity is not invalidated as a whole; else
//!   its key is invalidated.
//! - What the tier does not acknowledge is queued, whatever becomes of the caller.
//! - An entity any row of which may change is blocked as a whole, by its epoch.
//!
//! Does not run SQL.

use std::{collections::HashMap, mem, sync::Arc};

use futures_util::future::join;

use tokio::time::Instant;

use crate::{
    clock::ms,
    context::Context,
    invalidation::{Change, EnqueueOnDrop, Invalidation, Journal, Put},
    policy::OnCacheFailure,
    protocol::{
        Key, Token, Version,
        state::{Block, Done, Outcome, Published},
    },
    tier::{TierError, run_bounded},
};

/// The keys that a write, or a transaction, is about to change.
pub(super) struct BlockSet {
    shared: Arc<Context>,
    token: Token,
    keys: Vec<BlockedKey>,
    /// Entities any row of which may change, by what their keys start with.
    entities: HashMap<Arc<str>, BlockedEntity>,
    /// When the first block lapses, at the earliest.
    deadline: Instant,
}

struct BlockedKey {
    key: Key,
    change: Change,
    state: BlockState,
}

struct BlockedEntity {
    on_failure: OnCacheFailure,
    state: BlockState,
}

/// Whether a key, or an entity, is blocked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockState {
    /// The tier was not asked.
    Unasked,
    Blocked,
    /// The tier did not answer; it may be.
    Unknown,
}

impl BlockSet {
    /// The keys of a journal; none is blocked yet.
    pub(super) fn new(shared: &Arc<Context>, journal: Journal) -> Self {
        let keys = journal.keys.into_iter().map(|(key, change)| BlockedKey {
            key,
            change,
            state: BlockState::Unasked,
        });
        Self {
            shared: Arc::clone(shared),
            token: Token::fresh(),
            keys: keys.collect(),
            entities: unasked(journal.entities).collect(),
            deadline: Instant::now() + shared.config.block_ttl,
        }
    }

    /// By when what it stands for must be committed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.entities.is_empty()
    }

    /// Adds a key, or what became of one that is listed.
    pub(super) fn note(&mut self, key: Key, change: Change) {
        match self.keys.iter_mut().find(|blocked| blocked.key == key) {
            Some(blocked) => blocked.change.absorb(change),
            None => self.keys.push(BlockedKey {
                key,
                change,
                state: BlockState::Unasked,
            }),
        }
    }

    /// Adds what a journal lists.
    pub(super) fn absorb(&mut self, journal: Journal) {
        let listed = self.keys.len();
        for (key, change) in journal.keys {
            let mut earlier = self.keys[..listed].iter_mut();
            match earlier.find(|blocked| blocked.key == key) {
                Some(blocked) => blocked.change.absorb(change),
                None => self.keys.push(BlockedKey {
                    key,
                    change,
                    state: BlockState::Unasked,
                }),
            }
        }
        for (prefix, entity) in unasked(journal.entities) {
            self.entities.entry(prefix).or_insert(entity);
        }
    }

    /// Blocks every key and entity for which that was not tried. On an error the tier did not
    /// acknowledge a block, and the policy is to refuse; those that were placed are to be released.
    pub(super) async fn block(&mut self) -> Result<(), TierError> {
        // Entities first: it takes some time until all processes know, which no key's block need last.
        let entities = self.block_entities().await;
        let config = &self.shared.config;
        let request = Block {
            token: self.token,
            block_ms: ms(config.block_ttl),
            tombstone_ms: ms(config.tombstone_ttl),
        };
        let tier = &self.shared.tier;
        let unasked = self
            .keys
            .iter_mut()
            .filter(|blocked| blocked.state == BlockState::Unasked);
        let blocks = unasked.map(
            async |blocked| match tier.block(&blocked.key, request).await {
                Ok(()) => {
                    blocked.state = BlockState::Blocked;
                    Ok(())
                }
                Err(error) => {
                    // Nothing was sent, or it may have arrived.
                    blocked.state = BlockState::Unknown;
                    match blocked.change.on_failure {
                        OnCacheFailure::Proceed => Ok(()),
                        OnCacheFailure::Refuse => Err(error),
                    }
                }
            },
        );
        let keys = run_bounded(blocks).await;
        keys.into_iter().collect::<Result<(), _>>().and(entities)
    }

    async fn block_entities(&mut self) -> Result<(), TierError> {
        let prefixes = self.entities_that(|state| state == BlockState::Unasked);
        if prefixes.is_empty() {
            return Ok(());
        }
        let is_first = (self.keys.iter()).all(|key| key.state == BlockState::Unasked)
            && prefixes.len() == self.entities.len();
        let mut refuses = false;
        for prefix in &prefixes {
            if let Some(entity) = self.entities.get_mut(prefix) {
                // If the caller goes away, it may arrive.
                entity.state = BlockState::Unknown;
                refuses |= entity.on_failure == OnCacheFailure::Refuse;
            }
        }
        let (epochs, ttl) = (&self.shared.epochs, self.shared.config.block_ttl);
        let until = match epochs.block(prefixes.clone(), self.token, ttl).await {
            Ok(until) => until,
            Err(error) => return if refuses { Err(error) } else { Ok(()) },
        };
        for prefix in &prefixes {
            if let Some(entity) = self.entities.get_mut(prefix) {
                entity.state = BlockState::Blocked;
            }
        }
        if is_first {
            // The wait until all processes know it is not the write's.
            self.deadline = until.min(Instant::now() + ttl);
        }
        Ok(())
    }

    /// To be held while the SQL runs, and disarmed when it has returned. If it never returns (a row
    /// that panics when it is decoded), the keys without a block that would lapse are queued.
    pub(super) fn enqueue_if_lost(&self) -> EnqueueOnDrop<impl FnOnce() + Send + use<>> {
        let unblocked = |blocked: &&BlockedKey| blocked.state != BlockState::Blocked;
        let keys = self.keys.iter().filter(unblocked);
        let keys: Vec<_> = keys
            .map(|blocked| (blocked.key.clone(), Arc::clone(&blocked.change.prefix)))
            .collect();
        let (shared, token) = (Arc::clone(&self.shared), self.token);
        EnqueueOnDrop::new(move || {
            for (key, prefix) in &keys {
                let invalidation = Invalidation {
                    token,
                    floor: Version::ZERO,
                    due: None,
                };
                shared.queue.enqueue(key, prefix, invalidation);
            }
        })
    }

    /// Tells the tier what was committed. On an error, what it did not acknowledge is queued.
    pub(super) async fn publish(self) -> Result<(), TierError> {
        let keys = run_bounded(self.keys.iter().map(|blocked| self.publish_key(blocked)));
        let (keys, entities) = join(keys, self.end_entities()).await;
        keys.into_iter().collect::<Result<(), _>>().and(entities)
    }

    async fn publish_key(&self, blocked: &BlockedKey) -> Result<(), TierError> {
        let BlockedKey { key, change, state } = blocked;
        change.stats.writes.add(change.writes);
        let put = change.put.clone();
        let put = put.filter(|put| *state == BlockState::Blocked && put.version >= change.floor);
        // Any row of the entity may have changed since: what was saved may never have been committed.
        let put = put.filter(|_| !self.entities.contains_key(&change.prefix));
        let floor = change.known();
        let invalidate = Outcome::Invalidate { floor };
        let tell = async |outcome| {
            let request = Done {
                token: self.token,
                tombstone_ms: ms(self.shared.config.tombstone_ttl),
                outcome,
            };
            self.shared.tier.done(key, request).await
        };
        let unsent = EnqueueOnDrop::new(|| self.enqueue(blocked, floor, None));
        let mut reply = match put {
            Some(put) => tell(put.into()).await,
            None => tell(invalidate.clone()).await,
        };
        if let Err(TierError::Full) = reply {
            // Without room for the row the cache can still be told that it has changed.
            reply = tell(invalidate).await;
        }
        match reply {
            Ok(published) => {
                unsent.disarm();
                match published {
                    Published::Put => change.stats.puts.add(1),
                    _ => change.stats.invalidations.add(1),
                }
                Ok(())
            }
            Err(error) => {
                change.stats.unpublished.add(1);
                Err(error)
            }
        }
    }

    /// Nothing was written: the blocks go, the tombstones stay until someone reads.
    pub(super) async fn release(self) {
        let asked = self
            .keys
            .iter()
            .filter(|blocked| blocked.state != BlockState::Unasked);
        let releases = asked.map(|blocked| {
            let request = Done {
                token: self.token,
                tombstone_ms: ms(self.shared.config.tombstone_ttl),
                outcome: Outcome::RolledBack,
            };
            self.shared.tier.done(&blocked.key, request)
        });
        let entities = async {
            let asked = self.entities_that(|state| state != BlockState::Unasked);
            if !asked.is_empty() {
                self.shared.epochs.release(asked, self.token).await;
            }
        };
        // Without a reply a block lapses by itself.
        let _ = join(run_bounded(releases), entities).await;
    }

    /// Nothing was written, because the cache may hold what misled the caller: `row` is
    /// invalidated, with the version that the database has as its floor, and the other blocks go.
    pub(super) async fn contradict(mut self, row: Option<&Key>, found: Version) {
        let (mut misleading, others): (Vec<_>, Vec<_>) = mem::take(&mut self.keys)
            .into_iter()
            .partition(|blocked| Some(&blocked.key) == row);
        for blocked in &mut misleading {
            // Without a floor, whoever wrote it could not put what it wrote.
            blocked.change.floor = found;
        }
        self.keys = others;
        let misleading = Self {
            shared: Arc::clone(&self.shared),
            token: self.token,
            keys: misleading,
            entities: HashMap::new(),
            deadline: self.deadline,
        };
        // What the tier does not acknowledge is queued.
        let _ = tokio::join!(self.release(), misleading.publish());
    }

    /// The outcome is unknown: the blocks stay until they lapse, because the statement may still
    /// commit, and until then nobody stores what it is about to change. It may even commit after
    /// that; so every key is invalidated some time later, and one that is not blocked also now.
    /// None of it has a floor: what was to be written may never be.
    pub(super) async fn abandon(self) {
        let late = self.deadline + self.shared.config.block_ttl;
        for blocked in &self.keys {
            blocked.change.stats.unpublished.add(1);
            let due = (blocked.state == BlockState::Blocked).then_some(late);
            self.enqueue(blocked, Version::ZERO, due);
        }
        for (prefix, entity) in &self.entities {
            self.shared.queue.enqueue_entity(prefix, Some(late));
            if entity.state != BlockState::Blocked {
                self.shared.queue.enqueue_entity(prefix, None);
            }
        }
    }

    /// Queues an invalidation of a key, at once or at `due`.
    fn enqueue(&self, blocked: &BlockedKey, floor: Version, due: Option<Instant>) {
        let invalidation = Invalidation {
            token: self.token,
            floor,
            due,
        };
        let prefix = &blocked.change.prefix;
        self.shared
            .queue
            .enqueue(&blocked.key, prefix, invalidation);
    }

    /// Ends the blocks of entities, whose entries are outdated already, and outdates those of the
    /// others. Of a block whose acknowledgement is lost nobody has waited until all processes know it.
    async fn end_entities(&self) -> Result<(), TierError> {
        let unblocked = self.entities_that(|state| state != BlockState::Blocked);
        let blocked = self.entities_that(|state| state == BlockState::Blocked);
        let ended = async {
            if blocked.is_empty() {
                return Ok(());
            }
            let unsent = enqueue_entities_if_lost(&self.shared, &blocked);
            self.shared.epochs.end(blocked.clone(), self.token).await?;
            unsent.disarm();
            Ok(())
        };
        let (raised, ended) = join(invalidate_entities(&self.shared, unblocked), ended).await;
        raised.and(ended)
    }

    fn entities_that(&self, are: impl Fn(BlockState) -> bool) -> Vec<Arc<str>> {
        let entities = self.entities.iter();
        let entities = entities.filter(|(_, entity)| are(entity.state));
        entities.map(|(prefix, _)| Arc::clone(prefix)).collect()
    }
}

fn unasked(
    entities: HashMap<Arc<str>, OnCacheFailure>,
) -> impl Iterator<Item = (Arc<str>, BlockedEntity)> {
    entities.into_iter().map(|(prefix, on_failure)| {
        let state = BlockState::Unasked;
        (prefix, BlockedEntity { on_failure, state })
    })
}

/// Outdates every entry of these entities, now or later.
pub(super) async fn invalidate_entities(
    shared: &Context,
    prefixes: Vec<Arc<str>>,
) -> Result<(), TierError> {
    if prefixes.is_empty() {
        return Ok(());
    }
    let unsent = enqueue_entities_if_lost(shared, &prefixes);
    shared.epochs.raise(prefixes.clone()).await?;
    unsent.disarm();
    Ok(())
}

fn enqueue_entities_if_lost<'a>(
    shared: &'a Context,
    prefixes: &'a [Arc<str>],
) -> EnqueueOnDrop<impl FnOnce() + use<'a>> {
    let enqueue = move || {
        for prefix in prefixes {
            shared.queue.enqueue_entity(prefix, None);
        }
    };
    EnqueueOnDrop::new(enqueue)
}

impl From<Put> for Outcome {
    fn from(
        Put {
            version,
            inserted,
            value,
        }: Put,
    ) -> Self {
        Self::Put {
            version,
            inserted,
            value,
        }
    }
}
