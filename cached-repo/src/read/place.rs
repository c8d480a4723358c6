//! One key of an entity, and what a reader may ask of the tier about it: the right to load, whether
//! what it loaded is stored, and that what it was to replace is taken away.
//!
//! Invariants:
//! - From before the tier is asked until the load is stored, a lease is a [`Tenure`]: a caller
//!   that goes away and a load that panics leave none behind for others to wait for.
//!
//! Does not know what is stored under the key, and does not load it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::ms;
use crate::{
    CachedEntity,
    db::EntityState,
    protocol::{
        Entry, Key, Token, Version,
        state::{Done, Fill, Filled, Found, Lease, Leased, Outcome, Want},
    },
    tier::TierError,
};

const FIRST_LEASE_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_LEASE_PAUSE: Duration = Duration::from_millis(50);

/// One key of an entity.
pub(crate) struct Place<M: CachedEntity> {
    pub(super) state: Arc<EntityState<M>>,
    pub(super) key: Key,
}

/// What the tier says to a reader that asks for a lease.
pub(super) enum Answer<M: CachedEntity> {
    Granted(Tenure<M>),
    Hit(Entry),
    Wait,
    Blocked,
    /// The tier gave no answer.
    Unknown,
}

/// What came of asking for a lease until there was an answer.
pub(super) enum Claim<M: CachedEntity, T> {
    /// This reader loads.
    Granted(Tenure<M>),
    /// It is in the cache by now.
    Known(T),
    /// A write is in flight, another load takes too long, or the tier gave no answer: the
    /// database knows, and nothing is stored.
    Past,
}

impl<M: CachedEntity> Clone for Place<M> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            key: self.key.clone(),
        }
    }
}

impl<M: CachedEntity> Place<M> {
    pub(super) fn new(state: &Arc<EntityState<M>>, key: &Key) -> Self {
        Self {
            state: Arc::clone(state),
            key: key.clone(),
        }
    }

    /// Asks for the right to load.
    pub(super) async fn lease(&self, want: Want) -> Answer<M> {
        let tenure = Tenure::begin(self, want);
        let lease_ms = ms(self.state.core.config.lease);
        let request = Lease {
            token: tenure.token,
            lease_ms,
            floor: Version::ZERO,
            want,
        };
        let answer = match self.state.core.tier.lease(&self.key, request).await {
            Ok(Leased::Granted) => return Answer::Granted(tenure),
            // It may still be granted; nobody should wait for a reader that has moved on.
            Err(TierError::Timeout(_)) => return Answer::Unknown,
            Ok(Leased::Hit(entry)) => Answer::Hit(entry),
            Ok(Leased::Wait) => Answer::Wait,
            Ok(Leased::Blocked) => Answer::Blocked,
            Err(_) => Answer::Unknown,
        };
        tenure.end();
        answer
    }

    /// After a miss: gets the right to load, or what another process loaded meanwhile, if `accept`
    /// takes it.
    pub(super) async fn claim<T>(
        &self,
        mut want: Want,
        accept: impl Fn(&Entry) -> Option<T>,
    ) -> Claim<M, T> {
        let patience = Instant::now() + self.state.core.config.lease_wait;
        let mut pause = FIRST_LEASE_PAUSE;
        loop {
            match self.lease(want).await {
                Answer::Granted(tenure) => return Claim::Granted(tenure),
                Answer::Hit(entry) => match accept(&entry) {
                    Some(known) => return Claim::Known(known),
                    None => want = Want::Refresh,
                },
                Answer::Wait => {
                    self.state.stats.lease_waits.add(1);
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_LEASE_PAUSE);
                    // What the other one stores will do.
                    want = Want::Value;
                }
                Answer::Blocked | Answer::Unknown => return Claim::Past,
            }
            if Instant::now() >= patience {
                return Claim::Past;
            }
        }
    }

    /// Gets the right to load whatever the cache holds; `None` if nothing must be stored.
    pub(super) async fn lease_anew(&self) -> Option<Tenure<M>> {
        // Someone else's lease may belong to a load that began before this call, so it is
        // revoked; at most once, because whoever comes next reads no earlier than this call.
        for _ in 0..2 {
            match self.lease(Want::Refresh).await {
                Answer::Granted(tenure) => return Some(tenure),
                Answer::Wait => self.invalidate().await,
                // What a write in flight puts may be older than what this call is to show.
                Answer::Blocked => {
                    self.invalidate().await;
                    break;
                }
                Answer::Hit(_) | Answer::Unknown => break,
            }
        }
        None
    }

    /// Ends a lease with what a load found; `None` if the tier gave no answer.
    pub(super) async fn fill(&self, token: Token, found: Found) -> Option<Filled> {
        let gives_back = matches!(found, Found::Nothing);
        let request = Fill { token, found };
        let filled = self.state.core.tier.fill(&self.key, request).await.ok();
        if filled == Some(Filled::Stored) {
            self.state.stats.fills.add(1);
        } else if !gives_back {
            self.state.stats.fills_refused.add(1);
        }
        filled
    }

    /// Ends a load's lease with what it found, `None` if it failed; takes away what it was to
    /// replace if that may not be stored in its place. After an `authoritative` load the old state
    /// is not served any more, whatever happens, also from near caches.
    pub(super) async fn settle(
        &self,
        tenure: Tenure<M>,
        found: Option<Found>,
        authoritative: bool,
    ) -> Option<Filled> {
        let failed = found.is_none();
        // After a lease for a value there is nothing to take away but a placeholder.
        let replaces = tenure.want == Want::Refresh;
        let filled = self
            .fill(tenure.token, found.unwrap_or(Found::Nothing))
            .await;
        if authoritative && !failed {
            self.announce().await;
        }
        if filled.is_some() {
            tenure.end();
        }
        let kept = match filled {
            Some(Filled::Stored) => false,
            Some(Filled::Released | Filled::BelowFloor) => true,
            // The lease lapsed, or Redis has no room.
            Some(Filled::LeaseLost) | None => authoritative,
        };
        if kept && replaces && !failed {
            self.invalidate().await;
        }
        filled
    }

    /// Tells near caches that what they hold may be older than what was read from the database. If
    /// the tier gives no answer, those of other processes keep it for their TTL: this only repairs.
    pub(super) async fn announce(&self) {
        let _ = self.state.core.tier.announce(&self.key).await;
    }

    /// Makes the entry a tombstone. If the tier gives no answer, the entry stays as it is: this
    /// only repairs what someone wrote past the library.
    pub(super) async fn invalidate(&self) {
        let request = Done {
            token: Token::fresh(),
            keep_ms: ms(self.state.core.config.keep),
            outcome: Outcome::Invalidate {
                floor: Version::ZERO,
            },
        };
        if self.state.core.tier.done(&self.key, request).await.is_ok() {
            self.state.stats.invalidations.add(1);
        }
    }
}

/// A lease that was asked for and perhaps granted; given back on drop.
pub(crate) struct Tenure<M: CachedEntity> {
    place: Place<M>,
    token: Token,
    want: Want,
    ended: bool,
}

impl<M: CachedEntity> Tenure<M> {
    /// Of an attempt of its own.
    fn begin(place: &Place<M>, want: Want) -> Self {
        Self {
            place: place.clone(),
            token: Token::fresh(),
            want,
            ended: false,
        }
    }

    /// There is nothing to give back (any more).
    fn end(mut self) {
        self.ended = true;
    }
}

impl<M: CachedEntity> Drop for Tenure<M> {
    fn drop(&mut self) {
        // Outside a runtime the lease lapses by itself.
        if self.ended || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (place, token) = (self.place.clone(), self.token);
        let tasks = &self.place.state.core.tasks;
        tasks.spawn(async move { place.fill(token, Found::Nothing).await });
    }
}
