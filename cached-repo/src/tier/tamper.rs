//! A tier without a part of the protocol, so that a checker can show that it sees what is then
//! missing. Built only with the feature `tamper`, which no user needs.

use std::sync::Arc;

use futures_util::future::ready;

use super::{Fetched, InvalidationListener, Reply, Tier, TierError};
use crate::protocol::{
    Key, Timestamp,
    epoch::{EpochReply, EpochRequest},
    state::{Block, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Published},
};

/// A part of the protocol that is left out, so that a checker can show that it sees what is then
/// missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tamper {
    /// Nothing.
    #[default]
    Nothing,
    /// Blocks are acknowledged and not placed.
    Blocks,
    /// Every load is granted a lease, and stores its row whether the lease still stands or not.
    Leases,
}

impl Tamper {
    pub(crate) fn with(self, tier: Arc<dyn Tier>) -> Arc<dyn Tier> {
        match self {
            Self::Nothing => tier,
            omitted => Arc::new(Tampered { tier, omitted }),
        }
    }
}

#[derive(Debug)]
struct Tampered {
    tier: Arc<dyn Tier>,
    omitted: Tamper,
}

impl Tier for Tampered {
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
        match self.omitted {
            Tamper::Leases => Box::pin(ready(Ok(Leased::Granted))),
            _ => self.tier.lease(key, request),
        }
    }

    fn fill<'a>(&'a self, key: &'a Key, request: Fill) -> Reply<'a, Filled> {
        let Tamper::Leases = self.omitted else {
            return self.tier.fill(key, request);
        };
        let Loaded::Row { version, value } = request.loaded else {
            return Box::pin(ready(Ok(Filled::Released)));
        };
        // As a write that read its row long ago would: what it takes for a lease is its own block.
        Box::pin(async move {
            let (token, block_ms, tombstone_ms) = (request.token, value.ttl_ms, value.ttl_ms);
            let block = Block {
                token,
                block_ms,
                tombstone_ms,
            };
            self.tier.block(key, block).await?;
            let outcome = Outcome::Put {
                version,
                inserted: true,
                value,
            };
            let done = Done {
                token,
                tombstone_ms,
                outcome,
            };
            self.tier.done(key, done).await?;
            Ok(Filled::Stored)
        })
    }

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, ()> {
        match self.omitted {
            Tamper::Blocks => Box::pin(ready(Ok(()))),
            _ => self.tier.block(key, request),
        }
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        self.tier.done(key, request)
    }

    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply> {
        self.tier.epochs(request)
    }

    fn is_shared(&self) -> bool {
        self.tier.is_shared()
    }

    fn announce<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        self.tier.announce(key)
    }

    fn listen(&self, listener: Arc<dyn InvalidationListener>) {
        self.tier.listen(listener);
    }

    fn problem(&self) -> Option<TierError> {
        self.tier.problem()
    }
}
