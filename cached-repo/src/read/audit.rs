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
use sea_orm::sea_query::ValueTuple;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    backoff::Backoff,
    clock::ms,
    config::ReadPolicy,
    context::{Context, EntityContext},
    database::Executor,
    entity::{ops::ModelRef, statements::find_by_id},
    protocol::{
        Claims, Content, Entry, Format, Key, Kind, RowDecoder, Timestamp, Version,
        epoch::{NO_SCHEMA, stamped},
        holds, open, seal_row,
    },
    tier::{Fetched, TierError},
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

/// One hit that is compared.
struct Audit {
    context: Arc<EntityContext>,
    id: ValueTuple,
    key: Key,
    served: Entry,
    /// When the entry would no longer be served.
    end: Timestamp,
}

impl Auditor {
    /// Draws the lot for an entry that is served; if it is drawn, audits it in the background.
    #[inline]
    pub(super) fn audit(
        self: &Arc<Self>,
        context: &Arc<EntityContext>,
        id: &ValueTuple,
        key: &Key,
        policy: &ReadPolicy,
        served: &Entry,
    ) {
        if !self.draws() {
            return;
        }
        let Ok(admitted) = Arc::clone(&self.checks).try_acquire_owned() else {
            context.entity.stats.audit_skipped.add(1);
            return;
        };
        let audit = Audit {
            context: Arc::clone(context),
            id: id.clone(),
            key: key.clone(),
            served: unclaimed(served.clone()),
            end: served.fresh_until().plus_ms(ms(policy.stale_ttl)),
        };
        let (auditor, tasks) = (Arc::clone(self), context.shared.tasks.clone());
        tasks.spawn(async move {
            let verdict = audit.check().await;
            drop(admitted);
            auditor.report(audit, verdict).await;
        });
    }

    /// Counts what came of an audit; watches an entry that is stale.
    async fn report(self: Arc<Self>, audit: Audit, verdict: Verdict) {
        let stats = &audit.context.entity.stats;
        match verdict {
            Verdict::Skipped => return stats.audit_skipped.add(1),
            Verdict::Failed => return stats.audit_failed.add(1),
            Verdict::Right => {}
            Verdict::InMotion => stats.audit_in_motion.add(1),
            Verdict::Stale(_) => stats.audit_stale.add(1),
        }
        stats.audit_checked.add(1);
        if let Verdict::Stale(since) = verdict {
            let watch = Watch::begin(&self, &audit, since);
            // A `CachedDb` that nobody has any more is not kept for the sake of a watch.
            drop(audit);
            if let Some(watch) = watch {
                watch.follow().await;
            }
        }
    }
}

impl Audit {
    async fn check(&self) -> Verdict {
        let EntityContext { shared, entity, .. } = &*self.context;
        let conn = Executor::Pool(&shared.conn);
        let Ok(found) = find_by_id(entity, &conn, &self.id).await else {
            return Verdict::Failed;
        };
        let since = Instant::now();
        match self.compare(found.as_deref()) {
            Comparison::Same => return Verdict::Right,
            Comparison::Unclear => return Verdict::Skipped,
            Comparison::Other => {}
        }
        match still_serves(&self.context, &self.key, &self.served, self.end).await {
            Ok(true) => Verdict::Stale(since),
            Ok(false) => Verdict::InMotion,
            Err(_) => Verdict::Failed,
        }
    }

    fn compare(&self, found: Option<ModelRef<'_>>) -> Comparison {
        let model = match (self.served.kind, found) {
            (Kind::Absent, None) => return Comparison::Same,
            (Kind::Value, Some(model)) => model,
            _ => return Comparison::Other,
        };
        let version = self.context.entity.ops.version(model);
        if version.unwrap_or(Version::ZERO) != self.served.version {
            return Comparison::Other;
        }
        // Raw SQL that changes a row often leaves its version alone.
        match self.sealed(model) {
            Some(payload) if holds(&self.key, &self.served, &payload) => Comparison::Same,
            Some(payload) if self.is_reproducible(&payload) => Comparison::Other,
            _ if version.is_some() => Comparison::Same,
            _ => Comparison::Unclear,
        }
    }

    fn sealed(&self, model: ModelRef<'_>) -> Option<Bytes> {
        let entity = &self.context.entity;
        let encode = |out: &mut _| entity.ops.encode(model, out);
        let format = Format {
            schema: self.served.schema,
            ..entity.definition.format()
        };
        seal_row(&self.key, self.served.version, format, encode).ok()
    }

    /// Whether the row of this payload has these bytes whenever it is read and encoded: not with
    /// a `HashMap` in it, nor with a codec that encrypts.
    fn is_reproducible(&self, payload: &Bytes) -> bool {
        let entry = Entry {
            payload: payload.clone(),
            ..self.served.clone()
        };
        let decode = |row: &mut RowDecoder<'_>| self.context.entity.ops.decode(row);
        (0..ENCODINGS).all(|_| match open(&self.key, &entry, decode) {
            Ok(Content::Row(model)) => self.sealed(&*model).as_ref() == Some(payload),
            _ => false,
        })
    }
}

/// Whether the key holds the very entry that was served, and would serve it again.
async fn still_serves(
    context: &EntityContext,
    key: &Key,
    served: &Entry,
    end: Timestamp,
) -> Result<bool, TierError> {
    let Context { tier, epochs, .. } = &*context.shared;
    let Fetched::Entry(entry) = tier.get(key).await? else {
        return Ok(false);
    };
    let is_readable = entry.claims.writers().is_empty() && tier.now() < end;
    if !is_readable || unclaimed(entry) != *served {
        return Ok(false);
    }
    // After the look, so that an epoch that was raised before it is known.
    epochs.read().await?;
    let schema = match served.kind {
        Kind::Absent => NO_SCHEMA,
        Kind::Value | Kind::Tombstone => context.entity.definition.schema,
    };
    let current = context.usable().epoch();
    Ok(current.map(|epoch| stamped(schema, epoch)) == Some(served.schema))
}

/// The entry without the leases and writes on it.
fn unclaimed(entry: Entry) -> Entry {
    Entry {
        claims: Claims::None,
        ..entry
    }
}

/// A stale entry, watched until it is no longer served.
struct Watch {
    context: Weak<EntityContext>,
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

impl Watch {
    /// Reports the finding and begins to watch it; `None` if its key is watched already, or too
    /// many are.
    fn begin(auditor: &Auditor, audit: &Audit, since: Instant) -> Option<Self> {
        let Audit {
            context,
            key,
            served,
            ..
        } = audit;
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
        let stored_ms_ago = ms(context.shared.tier.now().since(served.at));
        tracing::warn!(
            %key,
            version = served.version.get(),
            stored_ms_ago,
            "a stale cache entry is served: the database holds another state of the row"
        );
        context.entity.stats.audit_stale_entries.add(1);
        let mut watch = Self {
            context: Arc::downgrade(context),
            end: audit.end,
            served: served.clone(),
            since,
            counted_ms: 0,
            watched: Watched {
                key: key.clone(),
                list: Arc::clone(&auditor.watched),
            },
            awaited: auditor.awaited.subscribe(),
        };
        watch.count(context);
        has_room.then_some(watch)
    }

    /// Looks at the key, with growing pauses, until it no longer serves the entry.
    async fn follow(mut self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            tokio::select! {
                () = backoff.pause() => {}
                // Shut down, or nobody has the `CachedDb` any more.
                _ = self.awaited.wait_for(|calls| *calls > 0) => return,
            }
            let Some(context) = self.context.upgrade() else {
                return;
            };
            let tier = &context.shared.tier;
            let looked = still_serves(&context, &self.watched.key, &self.served, self.end);
            let is_over = match looked.await {
                Ok(serves) => !serves,
                // A tier that gives no answer serves nothing now, and perhaps again later.
                Err(_) => tier.now() >= self.end,
            };
            self.count(&context);
            if is_over {
                return;
            }
        }
    }

    /// Brings the statistics up to date, so that they show a long staleness before its end.
    fn count(&mut self, context: &EntityContext) {
        let stats = &context.entity.stats;
        let staleness_ms = ms(self.since.elapsed());
        stats.audit_staleness_ms.add(staleness_ms - self.counted_ms);
        self.counted_ms = staleness_ms;
        stats.audit_staleness_max_ms.raise(staleness_ms);
        let age_ms = ms(context.shared.tier.now().since(self.served.at));
        stats.audit_age_max_ms.raise(age_ms);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.list.lock().remove(&self.key);
    }
}
