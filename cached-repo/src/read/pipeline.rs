//! The order of the steps, for one question and for many; see [`super`] for the picture.
//!
//! Does not know how a step is done.

use std::{
    mem,
    ops::ControlFlow::{self, Break, Continue},
    sync::Arc,
};

use futures_util::future::{BoxFuture, try_join_all};
use sea_orm::sea_query::{Value, ValueTuple};
use tokio::time::Instant;

use super::{
    batch::{Batch, Load, Missed, Place},
    budget::Budget,
    lease::Acquired,
    load::{Answer, Query, Reader, load_cost_ms},
    question::{By, Question, Rows},
    seen::{Freshness, Seen, View, wanted},
    select::MAX_KEYS_PER_STATEMENT,
    settle::settle,
    single_flight::{Lost, Turn, Waiters},
};
use crate::{
    config::ReadPolicy,
    error::ReadError,
    protocol::{Entry, Key, state::Want},
    session::Scope,
    tier::run_bounded,
};

/// How a repository reads.
#[derive(Clone, Copy)]
pub(crate) struct Read<'a> {
    pub(crate) reader: &'a Arc<Reader>,
    pub(crate) scope: &'a Scope,
    pub(crate) policy: ReadPolicy,
    pub(crate) budget: Budget,
}

impl<'a> Read<'a> {
    /// Answers a question from the nearest place behind the near cache that may be trusted. What
    /// only a load needs is boxed: neither a hit nor the caller's future carries it.
    pub(crate) async fn find(self, question: Question) -> Answer {
        let reader = self.reader;
        if self.scope.is_transaction() {
            // It sees its own writes, and its loads are nobody else's.
            reader.stats().bypasses.add(1);
            return Box::pin(reader.select(self.scope, &question)).await;
        }
        if self.policy.fresh {
            // Also a key whose invalidation is queued: that one may have reached the cache already,
            // before what this call is to show.
            return Box::pin(find_fresh(self.query(question))).await;
        }
        if !reader.trusts(&question.key) {
            reader.stats().bypasses.add(1);
            return Box::pin(join(self.query(question), None)).await;
        }
        match reader.look(&question, &self.policy, self.budget).await {
            Seen::Rows(rows, freshness) => {
                reader.count_hit(&rows, freshness);
                if freshness.wants_reload() {
                    self.query(question).refresh_behind();
                }
                Ok(rows)
            }
            seen => Box::pin(self.find_behind(question, seen)).await,
        }
    }

    /// The row with this primary key, to be written again after a conflict. In a transaction it is
    /// locked: the transaction may see an older state than the database has.
    pub(crate) async fn find_again(self, question: Question) -> Answer {
        match &question.by {
            By::Id(id) if self.scope.is_transaction() => {
                let row = self.reader.selects.by_id_for_update(self.scope, id).await?;
                Ok(row.into_iter().collect())
            }
            _ => self.find(question).await,
        }
    }

    /// The rows that a lookup finds by these values.
    pub(crate) async fn find_rows(self, lookup: usize, values: Vec<Value>) -> Answer {
        match Question::lookup(&self.reader.context.entity, lookup, values) {
            Some(question) => self.find(question).await,
            None => Ok(Rows::None),
        }
    }

    /// Answers a question that the shared tier did not.
    async fn find_behind(self, question: Question, seen: Seen) -> Answer {
        let query = self.query(question);
        match serve(&query, seen).await? {
            Break(rows) => Ok(rows),
            Continue(want) => join(query, want).await,
        }
    }

    /// The row with this primary key.
    async fn find_by_id(self, id: ValueTuple) -> Answer {
        let question = Question::row(&self.reader.context.entity, id);
        if let By::Id(id) = &question.by
            && let Some(row) = self
                .reader
                .find_near(self.scope, &self.policy, id, &question.key)
        {
            return Ok(row.into_iter().collect());
        }
        self.find(question).await
    }

    /// The rows with these primary keys, in their order; a key may be there several times.
    pub(crate) async fn find_by_ids(self, ids: Vec<ValueTuple>) -> Result<Vec<Rows>, ReadError> {
        let entity = &self.reader.context.entity;
        let mut batch = Batch::with_capacity(ids.len());
        let mut order = Vec::with_capacity(ids.len());
        for id in ids {
            let key = entity.row_key(&id);
            if let Some(row) = self.reader.find_near(self.scope, &self.policy, &id, &key) {
                order.push(Place::Near(row));
                continue;
            }
            order.push(Place::At(batch.add(key, By::Id(id))));
        }
        let each_once = order.len() == batch.keys.len();
        let rows = self.find_each(batch).await?;
        if each_once {
            return Ok(rows);
        }
        let row = |place| match place {
            Place::Near(row) => row.into_iter().collect(),
            Place::At(at) => rows[at].clone(),
        };
        Ok(order.into_iter().map(row).collect())
    }

    /// The rows that a lookup finds by each of these values, in their order.
    pub(crate) async fn find_by_lookup(
        self,
        lookup: usize,
        values: Vec<Vec<Value>>,
    ) -> Result<Vec<Rows>, ReadError> {
        let entity = &self.reader.context.entity;
        let mut batch = Batch::with_capacity(values.len());
        let mut order = Vec::with_capacity(values.len());
        for values in values {
            let question = Question::lookup(entity, lookup, values);
            order.push(question.map(|Question { key, by }| batch.add(key, by)));
        }
        let rows = self.find_each(batch).await?;
        let rows = order
            .into_iter()
            .map(|at| at.map_or(Rows::None, |at| rows[at].clone()));
        Ok(rows.collect())
    }

    /// Answers questions of one kind that differ, but for those that share a fingerprint.
    async fn find_each(self, batch: Batch) -> Result<Vec<Rows>, ReadError> {
        let mut answers: Vec<Rows> = Vec::with_capacity(batch.keys.len());
        let mut missed = self.look_each(batch, &mut answers).await?;
        let mut read = self;
        // A statement's worth at a time: a lease for more would lapse before its load is stored.
        while !missed.is_empty() {
            let later = missed.split_off(missed.len().min(MAX_KEYS_PER_STATEMENT));
            let portion = mem::replace(&mut missed, later);
            read.load_each(portion, &mut answers).await?;
            read.budget = self.reader.leases.budget();
        }
        Ok(answers)
    }

    /// What the cache answers, each in its place, and the questions that it does not.
    async fn look_each(
        self,
        batch: Batch,
        answers: &mut Vec<Rows>,
    ) -> Result<Vec<Missed>, ReadError> {
        let Batch { keys, by, .. } = batch;
        let reader = self.reader;
        let trusted = |key: &Key| !self.scope.is_transaction() && reader.trusts(key);
        // Asked before the tier: an invalidation that has left the queue when the tier answers may
        // have been queued when it looked.
        let trusted: Vec<bool> = keys.iter().map(trusted).collect();
        let mut missed = Vec::new();
        if self.policy.fresh || !trusted.contains(&true) {
            reader.stats().bypasses.add(keys.len() as u64);
            answers.resize_with(keys.len(), Rows::default);
            let questions = keys.into_iter().zip(by).enumerate();
            missed.extend(questions.map(|(at, (key, by))| Missed {
                question: Question { key, by },
                at,
                want: None,
            }));
            return Ok(missed);
        }
        let stamps: Vec<_> = match by.first() {
            Some(By::Id(_)) if reader.near.is_on() => {
                keys.iter().map(|key| reader.near.stamp(key)).collect()
            }
            _ => Vec::new(),
        };
        // Kept until all rows are read: freed in between, the values would leave gaps of which the
        // allocator would have to make the rows.
        let asked = reader.context.shared.tier.get_many(&keys);
        // Judged at one moment, since reading the clock takes time too.
        let (held, view) = reader.ask(asked, self.budget).await;
        let mut indexed = Vec::new();
        for (at, (key, by)) in keys.into_iter().zip(by).enumerate() {
            let question = Question { key, by };
            let held = held.as_ref().filter(|_| trusted[at]).map(|held| &held[at]);
            let stamp = stamps.get(at).copied().flatten();
            match reader.see(&question, &self.policy, held, stamp, view) {
                Seen::Rows(rows, freshness) => {
                    reader.count_hit(&rows, freshness);
                    if freshness.wants_reload() {
                        self.query(question).refresh_behind();
                    }
                    answers.push(rows);
                }
                Seen::Index(ids, freshness) => {
                    reader.count_index_hit(ids.len());
                    answers.push(Rows::None);
                    indexed.push((at, question, ids, freshness));
                }
                Seen::Miss(reason) => {
                    reader.count_miss(&question.by, reason);
                    answers.push(Rows::None);
                    let want = Some(wanted(reason));
                    missed.push(Missed { question, at, want });
                }
                Seen::Unknown => {
                    reader.stats().bypasses.add(1);
                    answers.push(Rows::None);
                    let want = None;
                    missed.push(Missed { question, at, want });
                }
            }
        }
        if !indexed.is_empty() {
            self.follow_each(indexed, answers, &mut missed).await?;
        }
        Ok(missed)
    }

    /// Follows index entries to their rows, all at once.
    async fn follow_each(
        self,
        indexed: Vec<(usize, Question, Vec<ValueTuple>, Freshness)>,
        answers: &mut [Rows],
        missed: &mut Vec<Missed>,
    ) -> Result<(), ReadError> {
        let ids = indexed.iter().flat_map(|(_, _, ids, _)| ids).cloned();
        let rows = rows_of(self, ids.collect()).await?;
        let mut rows = rows.into_iter();
        for (at, question, ids, freshness) in indexed {
            let found = rows.by_ref().take(ids.len()).filter_map(Rows::into_one);
            let query = self.query(question);
            match query.matching(found.collect(), ids.len()) {
                Some(rows) => {
                    answers[at] = rows;
                    if freshness.wants_reload() {
                        query.refresh_behind();
                    }
                }
                None => missed.push(Missed {
                    question: query.question,
                    at,
                    want: Some(Want::Refresh),
                }),
            }
        }
        Ok(())
    }

    /// Loads what the cache does not answer: with one statement what this reader gets a lease for
    /// and what is read past the cache; then what other readers load is waited for.
    async fn load_each(self, missed: Vec<Missed>, answers: &mut [Rows]) -> Result<(), ReadError> {
        let inside = self.scope.is_transaction();
        let entity = &self.reader.context.entity;
        let tasks = &self.reader.context.shared.tasks;
        let budget = self.budget.continued();
        let loads = missed
            .iter()
            .map(|missed| (self.reader).acquire(self.scope, &self.policy, budget, missed));
        let loads = run_bounded(loads).await;
        let began = Instant::now();
        let (mut mine, mut awaited) = (Vec::new(), Vec::new());
        for (missed, load) in missed.into_iter().zip(loads) {
            match load {
                Load::Known(rows) => answers[missed.at] = rows,
                Load::Mine(guard) => mine.push((missed, guard)),
                Load::Others => awaited.push(missed),
            }
        }
        let questions = mine.iter().map(|(missed, _)| &missed.question);
        let found = self
            .reader
            .select_each(self.scope, questions.collect())
            .await?;
        let loaded = mine.into_iter().map(async |(missed, guard)| {
            let rows = match found.rows.get(&missed.question.key) {
                Some(rows) => rows.clone(),
                // The database may call equal what is spelt otherwise.
                None if found.may_have(entity, &missed.question) => {
                    self.reader.select(self.scope, &missed.question).await?
                }
                None => Rows::None,
            };
            Ok((missed, guard, rows))
        });
        let mut stores = Vec::new();
        for loaded in run_bounded(loaded).await {
            let (missed, guard, rows) = loaded?;
            answers[missed.at] = rows.clone();
            if !inside && (guard.is_some() || self.policy.fresh) {
                stores.push((self.query(missed.question), guard, rows));
            }
        }
        let budget = budget.resumed_after(began.elapsed());
        if !stores.is_empty() {
            let stored = tasks.spawn(settle(stores, load_cost_ms(began)));
            budget.wait_for(stored).await;
        }
        let awaited = awaited.into_iter().map(async |missed| {
            let Missed { question, at, want } = missed;
            let query = Query {
                budget,
                ..self.query(question)
            };
            Ok((at, join(query, want).await?))
        });
        for (at, rows) in try_join_all(awaited).await? {
            answers[at] = rows;
        }
        Ok(())
    }

    fn query(&self, question: Question) -> Query {
        Query {
            reader: Arc::clone(self.reader),
            policy: self.policy,
            question,
            budget: self.budget,
        }
    }
}

/// Asks the database whatever the cache holds, and repairs the cache.
async fn find_fresh(query: Query) -> Answer {
    let reader = Arc::clone(&query.reader);
    let guard = reader
        .leases
        .acquire_fresh(&query.question.key, query.budget)
        .await;
    let began = Instant::now();
    let rows = query.select().await?;
    let budget = query.budget.continued().resumed_after(began.elapsed());
    let stores = vec![(query, guard, rows.clone())];
    let tasks = &reader.context.shared.tasks;
    let settled = tasks.spawn(settle(stores, load_cost_ms(began)));
    budget.wait_for(settled).await;
    Ok(rows)
}

/// Serves what was seen, or says what to ask the tier for when it is loaded, `None` to load it past the
/// cache; counts either.
async fn serve(query: &Query, seen: Seen) -> Result<ControlFlow<Rows, Option<Want>>, ReadError> {
    let reader = &query.reader;
    Ok(match seen {
        Seen::Rows(rows, freshness) => {
            reader.count_hit(&rows, freshness);
            Break(rows)
        }
        Seen::Index(ids, freshness) => {
            reader.count_index_hit(ids.len());
            match follow(query, ids).await? {
                Some(rows) => {
                    if freshness.wants_reload() {
                        query.clone().refresh_behind();
                    }
                    Break(rows)
                }
                None => Continue(Some(Want::Refresh)),
            }
        }
        Seen::Miss(reason) => {
            reader.count_miss(&query.question.by, reason);
            Continue(Some(wanted(reason)))
        }
        Seen::Unknown => {
            reader.stats().bypasses.add(1);
            Continue(None)
        }
    })
}

/// The rows that an index entry leads to; `None` if one of them is gone or no longer matches.
async fn follow(query: &Query, ids: Vec<ValueTuple>) -> Result<Option<Rows>, ReadError> {
    let read = Read {
        reader: &query.reader,
        scope: &Scope::Pool,
        policy: query.policy,
        budget: query.budget.continued(),
    };
    let expected = ids.len();
    let rows = rows_of(read, ids).await?;
    let rows = rows.into_iter().filter_map(Rows::into_one).collect();
    Ok(query.matching(rows, expected))
}

/// The rows with these primary keys. Where the pipeline calls itself, its future has a name.
fn rows_of(read: Read<'_>, ids: Vec<ValueTuple>) -> BoxFuture<'_, Result<Vec<Rows>, ReadError>> {
    Box::pin(async move {
        match <[ValueTuple; 1]>::try_from(ids) {
            // One row needs no batch.
            Ok([id]) => Ok(vec![read.find_by_id(id).await?]),
            Err(ids) => read.find_by_ids(ids).await,
        }
    })
}

/// Shares a load with everyone who asks the same; without a `want`, past the cache.
async fn join(query: Query, want: Option<Want>) -> Answer {
    let reader = Arc::clone(&query.reader);
    if reader.is_overloaded(&query.question) {
        // A flight would be refused too, after more work.
        return Err(reader.context.overloaded());
    }
    let key = query.question.key.clone();
    let budget = want.map(|_| query.budget.continued());
    let load = move |turn, waiters| fly(query.clone(), turn, want, waiters);
    let tasks = &reader.context.shared.tasks;
    match reader.flights.join(&key, tasks, budget, load).await {
        Ok(answer) => answer,
        Err(Lost) => Err(reader.context.load_aborted()),
    }
}

/// One flight: gets the answer for everyone who waits.
async fn fly(mut query: Query, turn: Turn, mut want: Option<Want>, waiters: Waiters<Answer>) {
    let budget = waiters.budget();
    query.budget = budget.unwrap_or(query.budget);
    let Query {
        reader,
        policy,
        question,
        budget: _,
    } = &query;
    if turn == Turn::Following {
        reader.stats().joined.add(waiters.count());
    }
    if budget.is_none() || !reader.trusts(&question.key) {
        want = None;
    } else if turn == Turn::Following {
        want = match reader.look(question, policy, query.budget).await {
            // Not everyone who waits need accept it; who does was served before.
            Seen::Rows(_, Freshness::Stale) | Seen::Index(_, Freshness::Stale) => {
                Some(Want::Refresh)
            }
            Seen::Rows(rows, _) => return waiters.resolve(Ok(rows)),
            Seen::Index(ids, _) => match follow(&query, ids).await.transpose() {
                Some(answer) => return waiters.resolve(answer),
                None => Some(Want::Refresh),
            },
            Seen::Miss(reason) => Some(wanted(reason)),
            Seen::Unknown => None,
        }
    }
    // A tier that did not answer is not asked for a lease: that would cost another time-out.
    let Some(want) = want else {
        return waiters.resolve(query.select().await);
    };
    let accept = |entry: &Entry| {
        let seen = reader.judge(question, policy, entry, View::of(&reader.context));
        matches!(seen, Seen::Rows(..) | Seen::Index(..)).then_some(seen)
    };
    let acquired = (reader.leases).acquire(&question.key, want, query.budget, accept);
    match acquired.await {
        Acquired::Lease(guard) => {
            // The waiters get the answer before the cache does.
            let show = |answer: &Answer| waiters.resolve(answer.clone());
            // Everyone has the answer by then.
            let _ = query.load(guard, show).await;
        }
        Acquired::Known(Seen::Rows(rows, _)) => waiters.resolve(Ok(rows)),
        Acquired::Known(Seen::Index(ids, _)) => {
            let answer = match follow(&query, ids).await.transpose() {
                Some(answer) => answer,
                None => query.select().await,
            };
            waiters.resolve(answer);
        }
        Acquired::Known(_) | Acquired::Nothing => waiters.resolve(query.select().await),
    }
}
