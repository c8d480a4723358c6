//! A tier decorator that tells the near caches of this process about every change that the process
//! itself makes, before the change is acknowledged to the caller.
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
    fn note<'a>(&'a self, changed: Invalidated<'a>) -> impl Drop + use<'a> {
        Note {
            generations: &self.generations,
            changed,
        }
    }
}

struct Note<'a> {
    generations: &'a Generations,
    changed: Invalidated<'a>,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.generations.on_invalidate(self.changed);
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
        let note = self.note(Invalidated::Key(key.as_str()));
        Box::pin(async move {
            let _note = note;
            self.tier.block(key, request).await
        })
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        let note = self.note(Invalidated::Key(key.as_str()));
        Box::pin(async move {
            let _note = note;
            self.tier.done(key, request).await
        })
    }

    fn invalidate_all<'a>(&'a self, prefix: &'a str, request: Done) -> Reply<'a, u64> {
        let note = self.note(Invalidated::All);
        Box::pin(async move {
            let _note = note;
            self.tier.invalidate_all(prefix, request).await
        })
    }

    fn announce<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        let note = self.note(Invalidated::Key(key.as_str()));
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
