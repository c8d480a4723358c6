//! A tier decorator that tells the near caches of this process about every change of a key that the
//! process itself makes, before the change is acknowledged to the caller. Who changes epochs tells them.
//!
//! Invariants:
//! - A near cache is told when the tier has answered, has failed, or is no longer waited for: until
//!   then a reader may still get the state before.
//!
//! Does not change requests or replies.

use std::sync::Arc;

use super::generations::Generations;
use crate::{
    protocol::{
        Key, Timestamp,
        epoch::{EpochReply, EpochRequest},
        state::{Block, Done, Fill, Filled, Lease, Leased, Published},
    },
    tier::{Fetched, Invalidated, InvalidationListener, Reply, Tier, TierError},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct NotifyingTier {
    tier: Arc<dyn Tier>,
    generations: Arc<Generations>,
}

impl NotifyingTier {
    pub(crate) fn new(tier: Arc<dyn Tier>, generations: &Arc<Generations>) -> Self {
        Self {
            tier,
            generations: Arc::clone(generations),
        }
    }

    /// Tells the near caches when it is dropped.
    fn note<'a>(&'a self, key: &'a Key) -> impl Drop + use<'a> {
        Note {
            generations: &self.generations,
            key,
        }
    }
}

struct Note<'a> {
    generations: &'a Generations,
    key: &'a Key,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        let changed = Invalidated::Key(self.key.as_str());
        self.generations.on_invalidate(changed);
    }
}

impl Tier for NotifyingTier {
    fn now(&self) -> Timestamp {
        self.tier.now()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Fetched> {
        self.tier.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Reply<'a, Vec<Fetched>> {
        self.tier.get_many(keys)
    }

    fn lease<'a>(&'a self, key: &'a Key, request: Lease) -> Reply<'a, Leased> {
        self.tier.lease(key, request)
    }

    fn fill<'a>(&'a self, key: &'a Key, request: Fill) -> Reply<'a, Filled> {
        self.tier.fill(key, request)
    }

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, ()> {
        let note = self.note(key);
        Box::pin(async move {
            let _note = note;
            self.tier.block(key, request).await
        })
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        let note = self.note(key);
        Box::pin(async move {
            let _note = note;
            self.tier.done(key, request).await
        })
    }

    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply> {
        self.tier.epochs(request)
    }

    fn is_shared(&self) -> bool {
        self.tier.is_shared()
    }

    fn announce<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        let note = self.note(key);
        Box::pin(async move {
            let _note = note;
            self.tier.announce(key).await
        })
    }

    fn listen(&self, listener: Arc<dyn InvalidationListener>) {
        self.tier.listen(listener);
    }

    fn problem(&self) -> Option<TierError> {
        self.tier.problem()
    }
}
