//! The auditor: compares a share of the hits with the database, and measures how stale what it
//! finds is.
//!
//! ```text
//! hit ─ drawn ─ SELECT ─ the same ────────────────────────────────▶ right
//!                 │ another state
//!                 ▼
//!           look at the key again ─ gone, blocked or replaced ────▶ in motion
//!                 │ still served
//!                 ▼
//!               stale: looked at until it is no longer served
//! ```
//! Invariants:
//! - Stale is only what is certain to be: the entry was served before the SELECT that shows another
//!   state, and is the same entry, still served, after it. Whoever read in between got what the
//!   database no longer had. A write that passed by in the meantime has blocked or replaced the
//!   entry, and proves nothing.
//! - A hit is never held up, changed or repaired by its audit.
//! - At most [`CHECKS`] SELECTs and [`WATCHES`] watched keys at a time; beyond, hits are skipped
//!   and staleness is not followed.
//! - What is measured is too short rather than too long, by what passed before the SELECT, and
//!   off by the pause between two looks at most.
//!
//! Does not know what went wrong, and does not find what nobody reads.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{Query, ms};
use crate::{
    CachedEntity,
    db::EntityState,
    protocol::{Claims, Content, Entry, Key, Kind, Timestamp, Version, holds, open, seal_row},
    tier::{Held, TierError},
};

/// Hits that are compared at a time.
const CHECKS: usize = 16;
/// Stale keys that are watched at a time.
const WATCHES: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a row is encoded anew before its bytes are trusted to say that another row differs.
/// Two entries of a `HashMap` change places in half of the attempts.
const ENCODINGS: usize = 32;

/// What the audits of a [`CachedDb`](crate::CachedDb) share.
#[derive(Debug)]
pub(crate) struct Auditor {
    rate: f64,
    checks: Arc<Semaphore>,
    watched: Arc<Mutex<HashSet<Key>>>,
    /// How many calls of `shutdown` wait for the audits to end.
    awaited: watch::Sender<usize>,
}

impl Auditor {
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            rate,
            checks: Arc::new(Semaphore::new(CHECKS)),
            watched: Arc::default(),
            awaited: watch::Sender::new(0),
        }
    }

    /// Ends every watch, now and until what this returns is dropped.
    pub(crate) fn end_watches(&self) -> Ending {
        self.awaited.send_modify(|calls| *calls += 1);
        Ending(self.awaited.clone())
    }

    fn draws(&self) -> bool {
        self.rate > 0.0 && fastrand::f64() < self.rate
    }

    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.checks).try_acquire_owned().ok()
    }
}

/// As long as it lives, stale entries are watched no further.
pub(crate) struct Ending(watch::Sender<usize>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

/// What the database says of an entry that was served.
enum Comparison {
    Same,
    Other,
    /// The row's bytes differ each time it is encoded, and it has no version.
    Unclear,
}

/// What came of an audit.
enum Verdict {
    Right,
    InMotion,
    /// Certain, and for at least as long as this instant lies back.
    Stale(Instant),
    Skipped,
    Failed,
}

impl<M: CachedEntity> Query<M> {
    /// Draws the lot for an entry that is served; if it is drawn, audits it in the background.
    pub(super) fn audit(&self, served: &Entry) {
        let core = &self.state.core;
        if !core.auditor.draws() {
            return;
        }
        let Some(admitted) = core.auditor.admit() else {
            self.state.stats.audit_skipped.add(1);
            return;
        };
        let (query, served) = (self.clone(), unclaimed(served.clone()));
        core.tasks.spawn(async move {
            let verdict = query.check(&served).await;
            drop(admitted);
            let stats = &query.state.stats;
            match verdict {
                Verdict::Skipped => return stats.audit_skipped.add(1),
                Verdict::Failed => return stats.audit_failed.add(1),
                Verdict::Right => {}
                Verdict::InMotion => stats.audit_in_motion.add(1),
                Verdict::Stale(_) => stats.audit_stale.add(1),
            }
            stats.audit_checked.add(1);
            if let Verdict::Stale(since) = verdict {
                let watch = Watch::begin(&query, served, since);
                // A `CachedDb` that nobody has any more is not kept for the sake of a watch.
                drop(query);
                if let Some(watch) = watch {
                    watch.follow().await;
                }
            }
        });
    }

    async fn check(&self, served: &Entry) -> Verdict {
        let Ok(found) = self
            .state
            .row_in_database(&self.scope, self.id.clone())
            .await
        else {
            return Verdict::Failed;
        };
        let since = Instant::now();
        match self.compare(served, found.as_ref()) {
            Comparison::Same => return Verdict::Right,
            Comparison::Unclear => return Verdict::Skipped,
            Comparison::Other => {}
        }
        match still_serves(&self.state, &self.key, served, self.end_of(served)).await {
            Ok(true) => Verdict::Stale(since),
            Ok(false) => Verdict::InMotion,
            Err(_) => Verdict::Failed,
        }
    }

    fn compare(&self, served: &Entry, found: Option<&M>) -> Comparison {
        let row = match (served.kind, found) {
            (Kind::Absent, None) => return Comparison::Same,
            (Kind::Value, Some(row)) => row,
            _ => return Comparison::Other,
        };
        let version = row.version();
        if version.unwrap_or(Version::ZERO) != served.version {
            return Comparison::Other;
        }
        // Raw SQL that changes a row often leaves its version alone.
        match self.sealed(row, served.version) {
            Some(payload) if holds(&self.key, served, &payload) => Comparison::Same,
            Some(payload) if self.is_reproducible(served, &payload) => Comparison::Other,
            _ if version.is_some() => Comparison::Same,
            _ => Comparison::Unclear,
        }
    }

    fn sealed(&self, row: &M, version: Version) -> Option<Bytes> {
        let encode = |out: &mut _| row.encode(out);
        seal_row(&self.key, version, M::DEFINITION.format(), encode).ok()
    }

    /// Whether the row of this payload has these bytes whenever it is read and encoded: not with
    /// a `HashMap` in it, nor with a codec that encrypts.
    fn is_reproducible(&self, served: &Entry, payload: &Bytes) -> bool {
        let entry = Entry {
            payload: payload.clone(),
            ..served.clone()
        };
        (0..ENCODINGS).all(|_| match open(&self.key, &entry, M::decode) {
            Ok(Content::Row(row)) => {
                let again = self.sealed(&row, entry.version);
                again.as_ref() == Some(payload)
            }
            _ => false,
        })
    }

    /// When this query would no longer be served the entry.
    fn end_of(&self, served: &Entry) -> Timestamp {
        served.fresh_until().plus_ms(ms(self.policy.stale_ttl))
    }
}

/// Whether the key holds the very entry that was served, and would serve it again.
async fn still_serves<M: CachedEntity>(
    state: &EntityState<M>,
    key: &Key,
    served: &Entry,
    end: Timestamp,
) -> Result<bool, TierError> {
    let tier = &state.core.tier;
    let Held::Entry(entry) = tier.get(key).await? else {
        return Ok(false);
    };
    let is_readable = entry.claims.writers().is_empty() && tier.now() < end;
    Ok(is_readable && unclaimed(entry) == *served)
}

/// The entry without the leases and writes on it.
fn unclaimed(entry: Entry) -> Entry {
    Entry {
        claims: Claims::None,
        ..entry
    }
}

/// A stale entry, watched until it is no longer served.
struct Watch<M: CachedEntity> {
    state: Weak<EntityState<M>>,
    served: Entry,
    end: Timestamp,
    since: Instant,
    /// How much of the time since is in the statistics.
    counted_ms: u64,
    watched: Watched,
    awaited: watch::Receiver<usize>,
}

/// A key on the list of those that are watched.
struct Watched {
    key: Key,
    list: Arc<Mutex<HashSet<Key>>>,
}

impl<M: CachedEntity> Watch<M> {
    /// Reports the finding and begins to watch it; `None` if its key is watched already, or too
    /// many are.
    fn begin(query: &Query<M>, served: Entry, since: Instant) -> Option<Self> {
        let Query { state, key, .. } = query;
        let auditor = &state.core.auditor;
        let has_room = {
            let mut watched = auditor.watched.lock();
            let has_room = watched.len() < WATCHES;
            if watched.contains(key) {
                return None;
            }
            if has_room {
                watched.insert(key.clone());
            }
            has_room
        };
        let stored_ms_ago = ms(state.core.tier.now().since(served.at));
        tracing::warn!(
            %key,
            version = served.version.get(),
            stored_ms_ago,
            "a stale cache entry is served: the database holds another state of the row"
        );
        state.stats.audit_stale_entries.add(1);
        let mut watch = Self {
            state: Arc::downgrade(state),
            end: query.end_of(&served),
            served,
            since,
            counted_ms: 0,
            watched: Watched {
                key: key.clone(),
                list: Arc::clone(&auditor.watched),
            },
            awaited: auditor.awaited.subscribe(),
        };
        watch.count(state);
        has_room.then_some(watch)
    }

    /// Looks at the key, with growing pauses, until it no longer serves the entry.
    async fn follow(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Shut down, or nobody has the `CachedDb` any more.
                _ = self.awaited.wait_for(|calls| *calls > 0) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let Some(state) = self.state.upgrade() else {
                return;
            };
            let key = &self.watched.key;
            let is_over = match still_serves(&state, key, &self.served, self.end).await {
                Ok(serves) => !serves,
                // A tier that gives no answer serves nothing now, and perhaps again later.
                Err(_) => state.core.tier.now() >= self.end,
            };
            self.count(&state);
            if is_over {
                return;
            }
        }
    }

    /// Brings the statistics up to date, so that they show a long staleness before its end.
    fn count(&mut self, state: &EntityState<M>) {
        let stats = &state.stats;
        let staleness_ms = ms(self.since.elapsed());
        stats.audit_staleness_ms.add(staleness_ms - self.counted_ms);
        self.counted_ms = staleness_ms;
        stats.audit_staleness_max_ms.raise(staleness_ms);
        let age_ms = ms(state.core.tier.now().since(self.served.at));
        stats.audit_age_max_ms.raise(age_ms);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.list.lock().remove(&self.key);
    }
}
