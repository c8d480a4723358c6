//! Rows by their keys, many at a time: one question to the tier, and one statement for what it does
//! not know.
//!
//! Invariants:
//! - As with a single row: only a SELECT that began after a row's lease was granted is stored, and
//!   rows that another reader is loading are waited for, not loaded twice.
//!
//! Does not know what rows are found by besides their keys.

use std::{mem, sync::Arc};

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Query, Row, Seen, load_cost_ms,
    place::{Answer, Tenure},
    select::MAX_KEYS_PER_STATEMENT,
    wanted,
};
use crate::{
    CachedEntity, Id, ReadError,
    config::ReadPolicy,
    db::EntityState,
    places::Places,
    protocol::{Key, MissReason},
    session::Scope,
    tier::each,
};

/// Rows and how to read them.
pub(crate) struct Many<'a, M: CachedEntity> {
    pub(crate) state: &'a Arc<EntityState<M>>,
    pub(crate) scope: &'a Scope,
    pub(crate) policy: ReadPolicy,
}

/// Where a row is found.
enum Found<M> {
    Near(Row<M>),
    /// Among the others, at this position.
    At(usize),
}

/// A row that the cache does not know.
struct Missed<M: CachedEntity> {
    query: Query<M>,
    at: usize,
    /// Why; without a reason it is read past the cache.
    reason: Option<MissReason>,
}

/// How a row that the cache does not know is come by.
enum Ask<M: CachedEntity> {
    /// It does by now.
    Known(Row<M>),
    /// With a lease, what is loaded is stored.
    Load(Option<Tenure<M>>),
    /// Another reader is loading it.
    Wait,
}

impl<M: CachedEntity> Many<'_, M> {
    /// Reads the rows, in the order of their keys; a key may be there several times.
    pub(crate) async fn find(&self, ids: Vec<Id<M>>) -> Result<Vec<Row<M>>, ReadError> {
        let mut places = Places::with_capacity(ids.len());
        let mut queries: Vec<Query<M>> = Vec::with_capacity(ids.len());
        let mut order = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(row) = self.state.find_near(self.scope, &id, &self.policy) {
                order.push(Found::Near(row));
                continue;
            }
            let query = Query::new(self.state, self.scope, id, self.policy);
            let next = queries.len();
            let key_at = |place: usize| queries.get(place).map(|query| &query.key);
            let at = places.of(&query.key, next, key_at);
            if at == next {
                queries.push(query);
            }
            order.push(Found::At(at));
        }
        let each_once = order.len() == queries.len();
        let rows = self.find_each(&queries).await?;
        if each_once {
            return Ok(rows);
        }
        let row = |found| match found {
            Found::Near(row) => row,
            Found::At(at) => rows[at].clone(),
        };
        Ok(order.into_iter().map(row).collect())
    }

    /// Reads rows that differ, but for those that share a fingerprint with another.
    async fn find_each(&self, queries: &[Query<M>]) -> Result<Vec<Row<M>>, ReadError> {
        let (mut rows, mut missed) = self.look(queries).await;
        // A statement's worth at a time: a lease for more would lapse before its row is stored.
        while !missed.is_empty() {
            let later = missed.split_off(missed.len().min(MAX_KEYS_PER_STATEMENT));
            let part = mem::replace(&mut missed, later);
            self.load(part, &mut rows).await?;
        }
        Ok(rows)
    }

    /// The rows that the cache knows, each in its place, and the others.
    async fn look(&self, queries: &[Query<M>]) -> (Vec<Row<M>>, Vec<Missed<M>>) {
        let core = &self.state.core;
        let inside = self.is_inside();
        let past = |query: &Query<M>| inside || core.pending.distrusts(&query.key);
        // Asked before the tier: what is no longer owed when it answers may have been when it looked.
        let past: Vec<bool> = queries.iter().map(past).collect();
        let mut missed = Vec::new();
        if self.policy.fresh || past.iter().all(|past| *past) {
            self.state.stats.bypasses.add(queries.len() as u64);
            let rows = vec![None; queries.len()];
            let all = queries.iter().enumerate();
            missed.extend(all.map(|(at, query)| Missed {
                query: query.clone(),
                at,
                reason: None,
            }));
            return (rows, missed);
        }
        let keys: Vec<Key> = queries.iter().map(|query| query.key.clone()).collect();
        let stamps: Vec<_> = queries.iter().map(Query::stamp).collect();
        // Kept until all rows are read: freed in between, the values would leave gaps of which the
        // allocator would have to make the rows.
        let held = core.tier.get_many(&keys).await.ok();
        // Once for all of them, since reading the clock takes time too.
        let now = core.tier.now();
        let mut rows = Vec::with_capacity(queries.len());
        for (at, (query, stamp)) in queries.iter().zip(stamps).enumerate() {
            let held = held.as_ref().filter(|_| !past[at]).map(|held| &held[at]);
            let seen = query.see(held, stamp, now);
            rows.push(query.serve(seen).unwrap_or_else(|reason| {
                let query = query.clone();
                missed.push(Missed { query, at, reason });
                None
            }));
        }
        (rows, missed)
    }

    /// Loads what the cache does not know: what this reader gets the right to load, and what is
    /// read past the cache, in one go; then what other readers are loading is waited for.
    async fn load(&self, missed: Vec<Missed<M>>, rows: &mut [Row<M>]) -> Result<(), ReadError> {
        let claims = each(missed.iter().map(|missed| self.claim(missed))).await;
        let began = Instant::now();
        let (mut wanted, mut awaited) = (Vec::new(), Vec::new());
        for (missed, claim) in missed.into_iter().zip(claims) {
            match claim {
                Ask::Known(row) => rows[missed.at] = row,
                Ask::Load(tenure) => wanted.push((missed, tenure)),
                Ask::Wait => awaited.push(missed),
            }
        }
        let ids = wanted.iter().map(|(missed, _)| missed.query.id.clone());
        let found = self.state.select_by_ids(self.scope, ids.collect()).await?;
        let cost = load_cost_ms(began);
        let stored = wanted.into_iter().map(async |(missed, tenure)| {
            let Missed { query, at, .. } = missed;
            let row = match found.get(&query.key) {
                Some(row) => Some(row.clone()),
                // The database may call equal what is spelt otherwise.
                None if !self.state.spelling_is_exact(&query.id) => query.select().await?,
                None => None,
            };
            match tenure {
                Some(tenure) => query.store(tenure, Some(&row), cost).await,
                None if self.policy.fresh && !self.is_inside() => query.place().announce().await,
                None => {}
            }
            Ok((at, row))
        });
        for stored in each(stored).await {
            let (at, row) = stored?;
            rows[at] = row;
        }
        if self.policy.fresh && !self.is_inside() {
            let loaded: Vec<&M> = rows.iter().flatten().map(|row| &**row).collect();
            self.state.repair_hints(&loaded).await;
        }
        let awaited = awaited
            .into_iter()
            .map(async |missed| Ok((missed.at, missed.query.board(missed.reason).await?)));
        for (at, row) in try_join_all(awaited).await? {
            rows[at] = row;
        }
        Ok(())
    }

    fn is_inside(&self) -> bool {
        matches!(self.scope, Scope::Transaction(_))
    }

    /// Asks, once, for the right to load a row.
    async fn claim(&self, missed: &Missed<M>) -> Ask<M> {
        let query = &missed.query;
        if self.policy.fresh {
            return Ask::Load(match self.is_inside() {
                true => None,
                // Also of a row that is owed an invalidation, which this repairs.
                false => query.place().lease_anew().await,
            });
        }
        let Some(reason) = missed.reason else {
            return Ask::Load(None);
        };
        match query.place().lease(wanted(reason)).await {
            Answer::Granted(tenure) => Ask::Load(Some(tenure)),
            Answer::Hit(entry) => match query.judge(&entry, self.state.core.tier.now()) {
                Seen::Row(row, _) => Ask::Known(Some(row)),
                Seen::Absent => Ask::Known(None),
                Seen::Miss(_) | Seen::Unknown => Ask::Wait,
            },
            Answer::Wait => Ask::Wait,
            Answer::Blocked | Answer::Unknown => Ask::Load(None),
        }
    }
}
