//! One question, step by step: what the shared tier says of it, its load from the database, and
//! how the load is stored. The [pipeline](super::pipeline) puts the steps in order.
//!
//! Invariants:
//! - What is kept near is stamped before the shared tier is asked.
//!
//! Does not decide which step comes next.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use futures_util::future::join;
use parking_lot::Mutex;
use sea_orm::sea_query::ValueTuple;
use tokio::time::Instant;

use super::{
    audit::Auditor,
    batch::{Load, Missed},
    budget::Budget,
    lease::{LeaseGuard, LeaseReply, Leases},
    load_limit::LoadLimit,
    loader::Loader,
    near::Near,
    question::{By, Question, Rows},
    repair::Repairs,
    seen::{Freshness, Seen, View, judge},
    select::{Selects, Spellings},
    single_flight::SingleFlight,
    store::to_store,
};
use crate::{
    cached::Row,
    config::ReadPolicy,
    context::EntityContext,
    entity::{Entity, LookupKind, description::Lookup, ops::NearRows},
    error::ReadError,
    invalidation::Usable,
    near::GenerationStamp,
    protocol::{
        Entry, Key, MissReason,
        state::{Filled, Loaded, Want},
    },
    session::Scope,
    telemetry::EntityStats,
    tier::{Fetched, Reply},
};

/// The rows that answer a question, or why there is no answer.
pub(crate) type Answer = Result<Rows, ReadError>;

/// The reads of one entity.
pub(crate) struct Reader {
    pub(crate) context: Arc<EntityContext>,
    pub(super) near: Near,
    pub(super) leases: Leases,
    pub(super) selects: Arc<Selects>,
    pub(super) flights: SingleFlight<Answer>,
    loader: Arc<Loader>,
    auditor: Arc<Auditor>,
    /// Keys that a background task reloads.
    refreshing: Mutex<HashSet<Key>>,
}

impl Reader {
    pub(crate) fn new(
        context: &Arc<EntityContext>,
        near: Option<Arc<dyn NearRows>>,
        limit: &Arc<LoadLimit>,
        auditor: &Arc<Auditor>,
    ) -> Self {
        let selects = Arc::new(Selects::new(context, limit));
        Self {
            context: Arc::clone(context),
            near: Near::new(near),
            leases: Leases::new(context),
            flights: SingleFlight::new(),
            loader: Arc::new(Loader::new(&selects)),
            selects,
            auditor: Arc::clone(auditor),
            refreshing: Mutex::default(),
        }
    }

    pub(super) fn stats(&self) -> &EntityStats {
        &self.context.entity.stats
    }

    /// Whether the cache may be asked for this key: no invalidation of it is queued.
    pub(super) fn trusts(&self, key: &Key) -> bool {
        !self.context.shared.queue.contains(key)
    }

    /// What the near cache keeps of a row; counted.
    pub(super) fn find_near(
        &self,
        scope: &Scope,
        policy: &ReadPolicy,
        id: &ValueTuple,
        key: &Key,
    ) -> Option<Option<Row>> {
        // Trusted before the look: an invalidation that leaves the queue has reached the near cache.
        if !policy.near || scope.is_transaction() || !self.near.is_on() || !self.trusts(key) {
            return None;
        }
        let row = self.near.get(id)?;
        self.stats().near_hits.add(1);
        self.stats().absent_hits.add(u64::from(row.is_none()));
        Some(row)
    }

    /// What the shared tier says of a question.
    pub(super) async fn look(
        &self,
        question: &Question,
        policy: &ReadPolicy,
        budget: Budget,
    ) -> Seen {
        let stamp = self.stamp(question);
        let asked = self.context.shared.tier.get(&question.key);
        let (held, view) = self.ask(asked, budget).await;
        self.see(question, policy, held.as_ref(), stamp, view)
    }

    /// Asks the tier, also for the epoch if that is not known.
    pub(super) async fn ask<T>(&self, asked: Reply<'_, T>, budget: Budget) -> (Option<T>, View) {
        let context = &self.context;
        let (reply, usable) = match context.usable() {
            Usable::Unknown => join(budget.within(asked), context.usable_or_asked()).await,
            known => (budget.within(asked).await, known),
        };
        // Whatever is committed and invalidated since the read began need not be seen by it.
        let now = context.shared.tier.now();
        (reply.ok(), View { now, usable })
    }

    /// To be taken before the tier is asked.
    pub(super) fn stamp(&self, question: &Question) -> Option<GenerationStamp> {
        match &question.by {
            By::Id(_) => self.near.stamp(&question.key),
            By::Lookup { .. } => None,
        }
    }

    /// What it means that the shared tier holds this, or gave no answer; a row is kept near.
    pub(super) fn see(
        &self,
        question: &Question,
        policy: &ReadPolicy,
        held: Option<&Fetched>,
        stamp: Option<GenerationStamp>,
        view: View,
    ) -> Seen {
        let entry = match held {
            Some(Fetched::Entry(entry)) => entry,
            Some(Fetched::Empty) => return Seen::Miss(MissReason::Nothing),
            Some(Fetched::Foreign) => return Seen::Miss(MissReason::Corrupt),
            None => return Seen::Unknown,
        };
        let seen = self.judge(question, policy, entry, view);
        if let (Some(_), By::Id(id), Seen::Rows(rows, _)) = (stamp, &question.by, &seen) {
            // Its life near counts from now: the rows of a batch are decoded one after the other.
            let now = self.context.shared.tier.now();
            self.near.keep_seen(id, stamp, entry, rows, now);
        }
        seen
    }

    /// What an entry says of a question; a row that is served may be audited.
    pub(super) fn judge(
        &self,
        question: &Question,
        policy: &ReadPolicy,
        entry: &Entry,
        view: View,
    ) -> Seen {
        let seen = judge(&self.context, question, policy, entry, view);
        if let (By::Id(id), Seen::Rows(..)) = (&question.by, &seen) {
            self.auditor
                .audit(&self.context, id, &question.key, policy, entry);
        }
        seen
    }

    /// Counts an answer that the cache gave.
    pub(super) fn count_hit(&self, rows: &Rows, freshness: Freshness) {
        let stats = self.stats();
        match freshness {
            Freshness::Stale => stats.stale_hits.add(1),
            Freshness::Fresh | Freshness::Early => stats.shared_hits.add(1),
        }
        if rows.as_slice().is_empty() {
            stats.absent_hits.add(1);
        }
    }

    /// Counts an index entry that leads to so many rows; they are counted themselves, none is an
    /// absence.
    pub(super) fn count_index_hit(&self, rows: usize) {
        self.stats().index_hits.add(1);
        if rows == 0 {
            self.count_hit(&Rows::None, Freshness::Fresh);
        }
    }

    /// Counts a question that the cache could not answer, and why.
    pub(super) fn count_miss(&self, by: &By, reason: MissReason) {
        let stats = self.stats();
        stats.misses.add(1);
        match reason {
            MissReason::Writing => stats.misses_writing.add(1),
            MissReason::OtherSchema => stats.misses_other_schema.add(1),
            MissReason::Corrupt => stats.misses_corrupt.add(1),
            _ => {}
        }
        if let By::Lookup { .. } = by {
            stats.index_misses.add(1);
        }
    }

    /// Whether a load of this would be turned away because too many wait.
    pub(super) fn is_overloaded(&self, question: &Question) -> bool {
        matches!(question.by, By::Id(_)) && self.loader.is_full()
    }

    /// Asks the database, when it is this load's turn.
    pub(super) async fn select(&self, scope: &Scope, question: &Question) -> Answer {
        match (&question.by, scope) {
            (By::Id(id), Scope::Pool) => {
                let row = self.loader.load(id.clone(), question.key.clone()).await?;
                Ok(row.into_iter().collect())
            }
            (By::Id(id), Scope::Transaction(_)) => {
                let row = self.selects.by_id(scope, id).await?;
                Ok(row.into_iter().collect())
            }
            (By::Lookup { lookup, values }, _) => {
                let values = [values.clone()];
                let rows = self.selects.by_lookup(scope, *lookup, &values).await?;
                let mut rows: Rows = rows.into_iter().collect();
                if self.is_ambiguous(*lookup, &rows) {
                    // As a batch has it: first what is spelt as it was asked for.
                    let spelt_alike = |row: &Row| {
                        question.by.key_of(&self.context.entity, row).as_ref()
                            == Some(&question.key)
                    };
                    rows.sort_by_key(|row| !spelt_alike(row));
                }
                Ok(rows)
            }
        }
    }

    /// Whether a lookup that expects one row has found several; counted, and warned of once.
    fn is_ambiguous(&self, lookup: usize, rows: &Rows) -> bool {
        let EntityContext { entity, .. } = &*self.context;
        let Lookup {
            kind,
            name,
            is_ambiguous,
            ..
        } = &entity.lookups[lookup];
        if *kind != LookupKind::Unique || rows.as_slice().len() < 2 {
            return false;
        }
        entity.stats.lookups_ambiguous.add(1);
        if !is_ambiguous.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                entity = entity.name,
                columns = name,
                "a unique lookup has found several rows: it gives the one with the least primary key, \
                 and is not cached; if the columns are unique among some rows only, say among which: \
                 `unique(…, where = \"deleted_at IS NULL\")`"
            );
        }
        true
    }

    /// Asks the database all questions at once.
    pub(super) async fn select_each(
        &self,
        scope: &Scope,
        questions: Vec<&Question>,
    ) -> Result<Found, ReadError> {
        let selects = &self.selects;
        let rows = match questions.first().map(|question| &question.by) {
            None => return Ok(Found::default()),
            Some(By::Id(_)) => {
                let ids = questions.iter().filter_map(|question| match &question.by {
                    By::Id(id) => Some(id.clone()),
                    By::Lookup { .. } => None,
                });
                selects.by_ids(scope, ids.collect()).await?
            }
            Some(By::Lookup { lookup, .. }) => {
                let values = questions.iter().filter_map(|question| match &question.by {
                    By::Lookup { values, .. } => Some(values.clone()),
                    By::Id(_) => None,
                });
                let values: Vec<_> = values.collect();
                selects.by_lookup(scope, *lookup, &values).await?
            }
        };
        let entity = &self.context.entity;
        let mut found: HashMap<Key, Rows> = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(key) = questions[0].by.key_of(entity, &row) {
                found.entry(key).or_default().push(row);
            }
        }
        if let By::Lookup { lookup, .. } = &questions[0].by {
            for rows in found.values() {
                self.is_ambiguous(*lookup, rows);
            }
        }
        let asked = questions.iter().map(|question| &question.key);
        let are_exact = questions
            .iter()
            .all(|question| question.by.is_exact(entity));
        let spellings = (!are_exact).then(|| Spellings::of(entity.backend, found.keys(), asked));
        Ok(Found {
            spellings: spellings.unwrap_or_default(),
            rows: found,
        })
    }

    /// Asks, once, for the right to load an answer.
    pub(super) async fn acquire(
        &self,
        scope: &Scope,
        policy: &ReadPolicy,
        budget: Budget,
        missed: &Missed,
    ) -> Load {
        let Missed { question, want, .. } = missed;
        if policy.fresh {
            return Load::Mine(match scope.is_transaction() {
                true => None,
                // Also of a key whose invalidation is queued: this repairs it.
                false => self.leases.acquire_fresh(&question.key, budget).await,
            });
        }
        let Some(want) = *want else {
            return Load::Mine(None);
        };
        match self.leases.request(&question.key, want, budget).await {
            LeaseReply::Granted(guard) => Load::Mine(Some(guard)),
            LeaseReply::Hit(entry) => {
                let view = View::of(&self.context);
                match self.judge(question, policy, &entry, view) {
                    Seen::Rows(rows, _) => Load::Known(rows),
                    Seen::Index(..) | Seen::Miss(_) | Seen::Unknown => Load::Others,
                }
            }
            LeaseReply::Wait => Load::Others,
            LeaseReply::Blocked | LeaseReply::Unknown => Load::Mine(None),
        }
    }

    /// What to tell the cache after rows were read past it.
    pub(super) fn repairs<'a>(&'a self, policy: &'a ReadPolicy) -> Repairs<'a> {
        Repairs {
            context: &self.context,
            leases: &self.leases,
            policy,
            near: self.near.is_on(),
        }
    }
}

/// What the database answers to several questions.
#[derive(Default)]
pub(super) struct Found {
    /// By the keys of the rows.
    pub(super) rows: HashMap<Key, Rows>,
    /// For keys under which nothing was found, unless all keys are exact.
    spellings: Spellings,
}

impl Found {
    /// Whether the database may have rows for a question for which none were found.
    pub(super) fn may_have(&self, entity: &Entity, question: &Question) -> bool {
        self.spellings.may_have(&question.key) && !question.by.is_exact(entity)
    }
}

/// A question outside a transaction, and how to answer it.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) reader: Arc<Reader>,
    pub(crate) policy: ReadPolicy,
    pub(crate) question: Question,
    pub(crate) budget: Budget,
}

impl Query {
    /// Asks the database.
    pub(super) async fn select(&self) -> Answer {
        self.reader.select(&Scope::Pool, &self.question).await
    }

    /// Loads the answer under a granted lease, shows it to `show`, and stores it.
    pub(super) async fn load(&self, guard: LeaseGuard, show: impl FnOnce(&Answer)) -> Answer {
        let began = Instant::now();
        let answer = self.select().await;
        let cost_ms = load_cost_ms(began);
        show(&answer);
        self.store(guard, answer.as_ref().ok(), cost_ms).await;
        answer
    }

    /// The rows that an index entry leads to, if they are as many as it says and all of them match.
    pub(super) fn matching(&self, mut rows: Vec<Row>, expected: usize) -> Option<Rows> {
        let (entity, Question { key, by }) = (&self.reader.context.entity, &self.question);
        rows.retain(|row| by.is_answered_by(entity, key, row));
        if rows.len() < expected {
            self.reader.stats().index_outdated.add(1);
            return None;
        }
        Some(rows.into_iter().collect())
    }

    /// Ends a load with what it found, `None` if it failed: stores it in the shared tier, if its
    /// lease still stands, and then keeps it near.
    pub(super) async fn store(&self, guard: LeaseGuard, rows: Option<&Rows>, load_cost_ms: u32) {
        let Self {
            reader,
            policy,
            question,
            ..
        } = self;
        let (context, epoch) = (&reader.context, guard.epoch());
        // In this order: a stamp that an epoch raised meanwhile does not outdate was taken after this
        // process knew of it.
        let stamp = reader.stamp(question);
        let is_newest = context.is_newest(epoch);
        let stamp = stamp.filter(|_| is_newest);
        context.note_load_cost(load_cost_ms);
        let found = rows.map(|rows| {
            if !is_newest {
                // Nobody would use it.
                reader.stats().fills_refused.add(1);
                return Loaded::Nothing;
            }
            to_store(context, question, policy, rows, load_cost_ms, epoch)
        });
        let stored = found.as_ref().and_then(|found| found.value());
        let stored = stored.map(|value| (value.payload.len(), value.fresh_ms));
        let filled = reader.leases.settle(guard, found, policy.fresh).await;
        if let (Some(Filled::Stored), Some(rows), Some((bytes, fresh_ms)), By::Id(id)) =
            (filled, rows, stored, &question.by)
        {
            reader.near.keep_stored(id, stamp, rows, bytes, fresh_ms);
        }
    }

    /// Reloads the answer in the background, unless this process already does.
    pub(super) fn refresh_behind(self) {
        let key = self.question.key.clone();
        if !self.reader.refreshing.lock().insert(key) {
            return;
        }
        let tasks = self.reader.context.shared.tasks.clone();
        tasks.spawn(async move {
            let _done = Refreshing(&self);
            let leases = &self.reader.leases;
            let reply = leases
                .request(&self.question.key, Want::Refresh, leases.budget())
                .await;
            if let LeaseReply::Granted(guard) = reply {
                self.reader.stats().refreshes.add(1);
                // A failure is counted, and the next reader tries again.
                let _ = self.load(guard, |_| {}).await;
            }
        });
    }
}

/// Takes a key off the list of background refreshes, however the refresh ended.
struct Refreshing<'a>(&'a Query);

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        let Query {
            reader, question, ..
        } = self.0;
        reader.refreshing.lock().remove(&question.key);
    }
}

pub(super) fn load_cost_ms(began: Instant) -> u32 {
    // Whole milliseconds, and never none: a load that costs nothing would never be repeated early.
    u32::try_from(began.elapsed().as_millis()).map_or(u32::MAX, |ms| ms.max(1))
}
