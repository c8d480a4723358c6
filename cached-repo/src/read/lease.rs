//! What a reader may ask of the tier about one key: the right to load (a lease), that its load is
//! stored, and that an outdated entry is taken away.
//!
//! Invariants:
//! - From before the tier is asked until the load is stored, a lease is a [`LeaseGuard`]: a caller
//!   that goes away and a load that panics leave no lease behind for others to wait for.
//!
//! Does not know what is stored under the key, and does not load it.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    backoff::Backoff,
    clock::ms,
    context::{Context, EntityContext},
    invalidation::Usable,
    protocol::{
        Entry, Key, Token, Version,
        epoch::{NO_SCHEMA, stamped},
        state::{Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Schemas, Want},
    },
    telemetry::EntityStats,
    tier::TierError,
};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The leases of one entity's readers.
#[derive(Clone)]
pub(super) struct Leases {
    context: Arc<EntityContext>,
    shared: Arc<Context>,
    stats: Arc<EntityStats>,
}

/// What the tier replies to a request for a lease.
pub(super) enum LeaseReply {
    Granted(LeaseGuard),
    Hit(Entry),
    Wait,
    Blocked,
    /// The tier gave no answer.
    Unknown,
}

/// How a request for a lease ended.
pub(super) enum Acquired<T> {
    /// This reader loads.
    Lease(LeaseGuard),
    /// It is in the cache by now.
    Known(T),
    /// A write is in flight, another load takes too long, or the tier gave no answer: the reader
    /// asks the database, and nothing is stored.
    Nothing,
}

impl Leases {
    pub(super) fn new(context: &Arc<EntityContext>) -> Self {
        Self {
            context: Arc::clone(context),
            shared: Arc::clone(&context.shared),
            stats: Arc::clone(&context.entity.stats),
        }
    }

    /// The time of background work.
    pub(super) fn budget(&self) -> Budget {
        Budget::of(self.shared.config.cache_timeout)
    }

    /// Asks for the right to load, once.
    pub(super) async fn request(&self, key: &Key, want: Want, budget: Budget) -> LeaseReply {
        let storable = Box::pin(self.context.storable().map(Ok));
        let storable = budget.continued().within(storable).await;
        let epoch = match storable.unwrap_or(Usable::Unknown) {
            Usable::Of(epoch) => epoch,
            Usable::Blocked => return LeaseReply::Blocked,
            Usable::Unknown => return LeaseReply::Unknown,
        };
        let guard = LeaseGuard {
            leases: self.clone(),
            key: key.clone(),
            token: Token::fresh(),
            want,
            epoch,
            ended: false,
        };
        let request = Lease {
            token: guard.token,
            lease_ms: ms(self.shared.config.lease_ttl),
            floor: Version::ZERO,
            schemas: Schemas {
                value: stamped(self.context.entity.definition.schema, epoch),
                absence: stamped(NO_SCHEMA, epoch),
            },
            want,
        };
        let reply = match budget.within(self.shared.tier.lease(key, request)).await {
            Ok(Leased::Granted) => return LeaseReply::Granted(guard),
            // It may still be granted, so the guard gives it back.
            Err(TierError::Timeout(_)) => return LeaseReply::Unknown,
            Ok(Leased::Hit(entry)) => LeaseReply::Hit(entry),
            Ok(Leased::Wait) => LeaseReply::Wait,
            Ok(Leased::Blocked) => LeaseReply::Blocked,
            Err(_) => LeaseReply::Unknown,
        };
        guard.end();
        reply
    }

    /// Asks for the right to load until there is an answer, at most for `lease_wait`. Gives what
    /// another process loaded meanwhile instead, if `accept` takes it.
    pub(super) async fn acquire<T>(
        &self,
        key: &Key,
        mut want: Want,
        mut budget: Budget,
        accept: impl Fn(&Entry) -> Option<T>,
    ) -> Acquired<T> {
        let deadline = Instant::now() + self.shared.config.lease_wait;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut waits = false;
        loop {
            match self.request(key, want, budget).await {
                LeaseReply::Granted(guard) => return Acquired::Lease(guard),
                LeaseReply::Hit(entry) => match accept(&entry) {
                    Some(known) => return Acquired::Known(known),
                    None => want = Want::Refresh,
                },
                LeaseReply::Wait => {
                    self.stats.lease_waits.add(u64::from(!waits));
                    waits = true;
                    let began = Instant::now();
                    backoff.pause().await;
                    budget = budget.resumed_after(began.elapsed());
                    // What the other one stores will do.
                    want = Want::Value;
                }
                LeaseReply::Blocked | LeaseReply::Unknown => return Acquired::Nothing,
            }
            if Instant::now() >= deadline {
                return Acquired::Nothing;
            }
        }
    }

    /// Gets the right to load whatever the cache holds; `None` if nothing must be stored.
    pub(super) async fn acquire_fresh(&self, key: &Key, budget: Budget) -> Option<LeaseGuard> {
        // Another reader's lease may belong to a load that began before this call, so it is
        // revoked; at most once, because whoever comes next reads no earlier than this call.
        for _ in 0..2 {
            match self.request(key, Want::Refresh, budget).await {
                LeaseReply::Granted(guard) => return Some(guard),
                LeaseReply::Wait => self.invalidate(key, budget).await,
                // A write in flight may put an older row than this call is to show.
                LeaseReply::Blocked => {
                    self.invalidate(key, budget).await;
                    break;
                }
                LeaseReply::Hit(_) | LeaseReply::Unknown => break,
            }
        }
        None
    }

    /// Ends a load's lease with what it found, `None` if it failed; takes the outdated entry away
    /// if the load may not be stored in its place. After an `authoritative` load the old state is
    /// not served any more, whatever happens, also from near caches.
    pub(super) async fn settle(
        &self,
        guard: LeaseGuard,
        loaded: Option<Loaded>,
        authoritative: bool,
    ) -> Option<Filled> {
        let failed = loaded.is_none();
        // After a lease for a value there is nothing to take away but a placeholder.
        let replaces = guard.want == Want::Refresh;
        let loaded = loaded.unwrap_or(Loaded::Nothing);
        let filled = self.fill(&guard.key, guard.token, loaded).await;
        if authoritative && !failed {
            self.announce(&guard.key).await;
        }
        let kept = match filled {
            Some(Filled::Stored) => false,
            Some(Filled::Released | Filled::BelowFloor) => true,
            // The lease lapsed, or Redis has no room.
            Some(Filled::LeaseLost) | None => authoritative,
        };
        let key = guard.key.clone();
        if filled.is_some() {
            guard.end();
        }
        if kept && replaces && !failed {
            self.invalidate(&key, self.budget()).await;
        }
        filled
    }

    /// Ends a lease with what a load found; `None` if the tier gave no answer.
    async fn fill(&self, key: &Key, token: Token, loaded: Loaded) -> Option<Filled> {
        let gives_back = matches!(loaded, Loaded::Nothing);
        let request = Fill { token, loaded };
        let filled = self.shared.tier.fill(key, request).await.ok();
        if filled == Some(Filled::Stored) {
            self.stats.fills.add(1);
        } else if !gives_back {
            self.stats.fills_refused.add(1);
        }
        filled
    }

    /// Tells near caches that they may hold an older state than the database. If the tier gives no
    /// answer, other processes keep it for their near TTL: this only repairs.
    pub(super) async fn announce(&self, key: &Key) {
        let _ = self.shared.tier.announce(key).await;
    }

    /// Makes the entry a tombstone. If the tier gives no answer, the entry stays: this only repairs
    /// what was written past the library.
    pub(super) async fn invalidate(&self, key: &Key, budget: Budget) {
        let request = Done {
            token: Token::fresh(),
            tombstone_ms: ms(self.shared.config.tombstone_ttl),
            outcome: Outcome::Invalidate {
                floor: Version::ZERO,
            },
        };
        if budget
            .within(self.shared.tier.done(key, request))
            .await
            .is_ok()
        {
            self.stats.invalidations.add(1);
        }
    }
}

/// A lease that was asked for and perhaps granted; given back on drop.
pub(crate) struct LeaseGuard {
    leases: Leases,
    key: Key,
    token: Token,
    want: Want,
    /// The entity's epoch before the load.
    epoch: u32,
    ended: bool,
}

impl LeaseGuard {
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// There is nothing to give back (any more).
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (leases, key, token) = (self.leases.clone(), self.key.clone(), self.token);
        let shared = Arc::clone(&self.leases.shared);
        // If the runtime has ended, the lease lapses by itself.
        shared
            .tasks
            .spawn(async move { leases.fill(&key, token, Loaded::Nothing).await });
    }
}
