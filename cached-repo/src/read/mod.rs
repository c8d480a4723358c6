//! The read pipeline: the only place that knows the order of the tiers.
//!
//! ```text
//! find ─ near cache ─ hit ─────────────────────────────────▶ row
//!             │ miss
//!        shared tier ─ fresh ──────────────────────────────▶ row, kept near
//!             │ early or stale ── row, and a refresh behind it
//!             │ miss, or no answer
//!             ▼
//!          flight ─ lease ─ granted ─ SELECT ─ row ─ fill
//!                     │ hit ────────────────── row
//!                     │ wait ── ask again, until `lease_wait` is over
//!                     └ blocked, no answer ─── SELECT, nothing stored
//! ```
//! Invariants:
//! - Only a SELECT that began after its lease was granted is stored.
//! - A cache that fails, or cannot be trusted for a key, costs a SELECT, never an error, unless
//!   more are needed at a time than the load limit lets through within `load_wait`.
//! - Nothing that is served waits for its audit.
//!
//! Does not write rows. Inside a transaction it only asks the database.

pub(crate) mod aside;
mod audit;
mod flight;
mod limit;
mod loader;
pub(crate) mod many;
mod near;
mod place;
mod repair;
pub(crate) mod search;
pub(crate) mod searches;
mod select;
mod store;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::audit::Auditor;
pub(crate) use self::flight::Flights;
pub(crate) use self::limit::LoadLimit;
pub(crate) use self::loader::Loader;
pub(crate) use self::place::Tenure;
use self::{
    flight::{Landing, Lost, Turn},
    place::{Answer, Claim, Place},
};
use crate::{
    CachedEntity, Id, ReadError,
    cached::{Cached, Provenance, Source},
    config::ReadPolicy,
    db::EntityState,
    near::Stamp,
    protocol::{
        Content, Entry, Key, Lookup, MissReason, Policy, Timestamp, Version, classify, open,
        state::Want,
    },
    session::Scope,
    telemetry::EntityStats,
    tier::Held,
};

/// What a read gives: the row, or that there is none.
pub(crate) type Row<M> = Option<Cached<M>>;
/// What a flight gives each of its passengers.
pub(crate) type Flown<M> = Result<Row<M>, ReadError>;

/// One row and how to read it.
pub(crate) struct Query<M: CachedEntity> {
    pub(crate) state: Arc<EntityState<M>>,
    pub(crate) scope: Scope,
    pub(crate) id: Id<M>,
    pub(crate) key: Key,
    pub(crate) policy: ReadPolicy,
}

impl<M: CachedEntity> Clone for Query<M> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            scope: self.scope.clone(),
            id: self.id.clone(),
            key: self.key.clone(),
            policy: self.policy,
        }
    }
}

/// What the cache knows of a row.
enum Seen<M> {
    Row(Cached<M>, Reload),
    Absent,
    Miss(MissReason),
    /// The tier gave no answer.
    Unknown,
}

/// Whether a row that is served should be loaded again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reload {
    No,
    Yes,
}

impl<M: CachedEntity> Query<M> {
    pub(crate) fn new(
        state: &Arc<EntityState<M>>,
        scope: &Scope,
        id: Id<M>,
        policy: ReadPolicy,
    ) -> Self {
        let key = state.keys.row(id.clone());
        Self {
            state: Arc::clone(state),
            scope: scope.clone(),
            id,
            key,
            policy,
        }
    }

    fn place(&self) -> Place<M> {
        Place::new(&self.state, &self.key)
    }

    /// Reads the row, from the nearest place behind the near cache that may be trusted. What only a
    /// load needs is boxed: neither a hit nor the caller's future carries it.
    pub(crate) async fn find(self) -> Flown<M> {
        let stats = &self.state.stats;
        if let Scope::Transaction(_) = self.scope {
            // It sees its own writes, and its loads are nobody else's.
            stats.bypasses.add(1);
            return self.select().await;
        }
        if self.policy.fresh {
            // Also a key that is owed an invalidation: that one may have reached the cache already,
            // before what this call is to show.
            return Box::pin(self.find_fresh()).await;
        }
        if self.state.core.pending.distrusts(&self.key) {
            stats.bypasses.add(1);
            return Box::pin(self.board(None)).await;
        }
        match self.serve(self.look().await) {
            Ok(row) => Ok(row),
            Err(reason) => Box::pin(self.board(reason)).await,
        }
    }

    /// Shares a load with everyone who wants the row; without a `reason`, past the cache.
    async fn board(&self, reason: Option<MissReason>) -> Flown<M> {
        let pilot = {
            let query = self.clone();
            move |turn, landing| query.clone().fly(turn, reason, landing)
        };
        match self
            .state
            .flights
            .board(&self.key, &self.state.core.tasks, pilot)
            .await
        {
            Ok(flown) => flown,
            Err(Lost) => Err(self.state.aborted()),
        }
    }

    /// Serves what was seen, or says why it is no good, if the tier gave an answer; counts either.
    fn serve(&self, seen: Seen<M>) -> Result<Row<M>, Option<MissReason>> {
        let stats = &self.state.stats;
        match seen {
            Seen::Row(row, reload) => {
                if row.is_stale() {
                    &stats.stale_hits
                } else {
                    &stats.shared_hits
                }
                .add(1);
                if reload == Reload::Yes {
                    self.refresh_behind();
                }
                Ok(Some(row))
            }
            Seen::Absent => {
                stats.shared_hits.add(1);
                stats.absent_hits.add(1);
                Ok(None)
            }
            Seen::Miss(reason) => {
                stats.miss(reason);
                Err(Some(reason))
            }
            Seen::Unknown => {
                stats.bypasses.add(1);
                Err(None)
            }
        }
    }

    /// Asks the database whatever the cache holds, and repairs the cache.
    pub(crate) async fn find_fresh(&self) -> Flown<M> {
        let flown = match self.place().lease_anew().await {
            Some(tenure) => self.load(tenure, |_| {}).await,
            None => {
                let flown = self.select().await;
                self.place().announce().await;
                flown
            }
        };
        if let Ok(Some(row)) = &flown {
            self.state.repair_hints(&[row]).await;
        }
        flown
    }

    /// One flight: gets the row for everyone aboard.
    async fn fly(self, turn: Turn, reason: Option<MissReason>, landing: Landing<Flown<M>>) {
        let mut reason = reason;
        if turn == Turn::Following {
            self.state.stats.joined.add(landing.passengers());
        }
        if self.state.core.pending.distrusts(&self.key) {
            reason = None;
        } else if turn == Turn::Following {
            match self.look().await {
                // Not everyone aboard need accept a stale row; who does was served before.
                Seen::Row(row, _) if row.is_stale() => reason = Some(MissReason::Expired),
                Seen::Row(row, _) => return landing.land(Ok(Some(row))),
                Seen::Absent => return landing.land(Ok(None)),
                Seen::Miss(now) => reason = Some(now),
                Seen::Unknown => reason = None,
            }
        }
        // A tier that did not answer is not asked for a lease: that would cost another time-out.
        let Some(reason) = reason else {
            return landing.land(self.select().await);
        };
        match self.claim(reason).await {
            Claim::Granted(tenure) => {
                // The rows go to the passengers before they go to the cache.
                let land = |flown: &Flown<M>| landing.land(flown.clone());
                // Everyone has the result by then.
                let _ = self.load(tenure, land).await;
            }
            Claim::Known(row) => landing.land(Ok(row)),
            Claim::Past => landing.land(self.select().await),
        }
    }

    /// After a miss: gets the right to load, or what another process loaded meanwhile.
    async fn claim(&self, reason: MissReason) -> Claim<M, Row<M>> {
        let accept = |entry: &Entry| match self.judge(entry, self.state.core.tier.now()) {
            Seen::Row(row, _) => Some(Some(row)),
            Seen::Absent => Some(None),
            Seen::Miss(_) | Seen::Unknown => None,
        };
        self.place().claim(wanted(reason), accept).await
    }

    /// Reloads the row in the background, unless this process already does.
    fn refresh_behind(&self) {
        if !self.state.refreshing.lock().insert(self.key.clone()) {
            return;
        }
        let query = self.clone();
        self.state.core.tasks.spawn(async move {
            let _done = Refreshing(&query);
            if let Answer::Granted(tenure) = query.place().lease(Want::Refresh).await {
                query.state.stats.refreshes.add(1);
                // A failure is counted, and the next reader tries again.
                let _ = query.load(tenure, |_| {}).await;
            }
        });
    }

    /// Loads the row under a granted lease, shows it to `land`, and stores it.
    async fn load(&self, tenure: Tenure<M>, land: impl FnOnce(&Flown<M>)) -> Flown<M> {
        let began = Instant::now();
        let flown = self.select().await;
        let load_cost_ms = load_cost_ms(began);
        land(&flown);

        self.store(tenure, flown.as_ref().ok(), load_cost_ms).await;
        flown
    }

    /// Reads the row from the database when it is this load's turn.
    async fn select(&self) -> Flown<M> {
        match &self.scope {
            Scope::Pool => self.state.load(self.id.clone(), self.key.clone()).await,
            inside => self.state.select_by_id(inside, self.id.clone()).await,
        }
    }

    /// What the shared tier knows of the row.
    async fn look(&self) -> Seen<M> {
        let stamp = self.stamp();
        let held = self.state.core.tier.get(&self.key).await;
        self.see(held.as_ref().ok(), stamp, self.state.core.tier.now())
    }

    /// What it means that the shared tier holds this, or gave no answer. It is `now` by the tier's
    /// clock.
    fn see(&self, held: Option<&Held>, stamp: Option<Stamp>, now: Timestamp) -> Seen<M> {
        match held {
            Some(Held::Entry(entry)) => {
                let seen = self.judge(entry, now);
                self.keep_seen(stamp, entry, &seen);
                seen
            }
            Some(Held::Nothing) => Seen::Miss(MissReason::Nothing),
            Some(Held::Foreign) => Seen::Miss(MissReason::Corrupt),
            None => Seen::Unknown,
        }
    }

    /// What an entry says of the row.
    fn judge(&self, entry: &Entry, now: Timestamp) -> Seen<M> {
        let config = &self.state.core.config;
        let lookup = classify(
            entry,
            now,
            &Policy {
                schema: M::DEFINITION.schema,
                floor: Version::ZERO,
                serve_stale: now.since(entry.fresh_until()) < self.policy.stale_ttl,
                early_refresh: config.early_refresh,
                chance: fastrand::f64(),
            },
        );
        let (stale, reload) = match lookup {
            Lookup::Miss(reason) => return Seen::Miss(reason),
            Lookup::Fresh | Lookup::KnownAbsent => (false, Reload::No),
            Lookup::Early => (false, Reload::Yes),
            Lookup::Stale => (true, Reload::Yes),
        };
        let opened = open(&self.key, entry, M::decode);
        if opened.is_ok() {
            self.audit(entry);
        }
        match opened {
            Ok(Content::Row(row)) => {
                let age = now.since(entry.at);
                let provenance = Provenance {
                    source: Source::Shared,
                    age,
                    stale,
                    pending: false,
                };
                Seen::Row(Cached::new(Arc::new(row), provenance), reload)
            }
            Ok(Content::Absent) => Seen::Absent,
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "an entry is corrupt");
                Seen::Miss(MissReason::Corrupt)
            }
        }
    }
}

/// Takes a key off the list of background refreshes, however the refresh ended.
struct Refreshing<'a, M: CachedEntity>(&'a Query<M>);

impl<M: CachedEntity> Drop for Refreshing<'_, M> {
    fn drop(&mut self) {
        self.0.state.refreshing.lock().remove(&self.0.key);
    }
}

impl EntityStats {
    /// Counts a read that found nothing it could use, and why.
    fn miss(&self, reason: MissReason) {
        self.misses.add(1);
        match reason {
            MissReason::Writing => self.misses_writing.add(1),
            MissReason::OtherSchema => self.misses_other_schema.add(1),
            MissReason::Corrupt => self.misses_corrupt.add(1),
            _ => {}
        }
    }
}

/// What a reader that missed asks for.
fn wanted(reason: MissReason) -> Want {
    if reason.wants_replacement() {
        Want::Refresh
    } else {
        Want::Value
    }
}

fn load_cost_ms(began: Instant) -> u32 {
    u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX)
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
