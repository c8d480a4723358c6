//! Rows by what they are found by besides their keys.
//!
//! ```text
//! search ─ hint ─ keys ─ rows, through the cache ─ all of them match ─▶ rows
//!            │ miss                  └ one does not ─┐
//!            ▼                                       ▼
//!         flight ─ lease ─ SELECT by the values ─ rows ─ their keys become the hint
//! ```
//! Invariants:
//! - A hint is followed, never believed: if one of its rows is gone or no longer matches, the
//!   database is asked, and the hint forgets it.
//! - A hint is stored under the same rules as a row, and only if everything the database calls
//!   equal to the values is spelt like them: else a write could add a row that it does not block.
//! - A row that a search has loaded is not stored: its SELECT began before anyone could lease its
//!   key. The first read through the hint stores it.
//!
//! Does not write rows. Inside a transaction it only asks the database.

use std::sync::Arc;

use sea_orm::sea_query::Value as SqlValue;
use tokio::time::Instant;

use super::{
    flight::{Landing, Lost, Turn},
    load_cost_ms,
    many::Many,
    place::{Claim, Place, Tenure},
    wanted,
};
use crate::{
    CachedEntity, Id, LookupKind, ReadError,
    cached::Cached,
    config::ReadPolicy,
    db::EntityState,
    protocol::{
        Content, Entry, Key, Lookup, MissReason, Policy, RowDecoder, RowEncoder, Version, classify,
        open, seal_row,
        state::{Found, Value, Want},
    },
    session::Scope,
    tier::Held,
};

/// What a search gives.
pub(crate) type Rows<M> = Result<Vec<Cached<M>>, ReadError>;

/// A search for rows by one lookup.
pub(crate) struct Search<M: CachedEntity> {
    state: Arc<EntityState<M>>,
    scope: Scope,
    policy: ReadPolicy,
    /// The lookup, by position.
    at: usize,
    pub(super) values: Vec<SqlValue>,
    pub(super) key: Key,
}

impl<M: CachedEntity> Clone for Search<M> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            scope: self.scope.clone(),
            policy: self.policy,
            at: self.at,
            values: self.values.clone(),
            key: self.key.clone(),
        }
    }
}

/// What the cache knows of a search.
pub(super) enum Hint<M: CachedEntity> {
    /// The keys of the rows that were found; of none, nobody.
    Keys(Vec<Id<M>>),
    Miss(MissReason),
    /// The tier gave no answer.
    Unknown,
}

impl<M: CachedEntity> Search<M> {
    /// `None` if nothing can be found, because NULL is equal to nothing.
    pub(crate) fn new(
        state: &Arc<EntityState<M>>,
        scope: &Scope,
        policy: ReadPolicy,
        at: usize,
        values: Vec<SqlValue>,
    ) -> Option<Self> {
        Some(Self {
            key: state.hint_key(at, &values)?,
            state: Arc::clone(state),
            scope: scope.clone(),
            policy,
            at,
            values,
        })
    }

    /// Finds the rows, through the nearest place that may be trusted.
    pub(crate) async fn find(&self) -> Rows<M> {
        let stats = &self.state.stats;
        if self.is_inside() {
            stats.bypasses.add(1);
            return self.select().await;
        }
        if self.policy.fresh {
            return self.find_fresh().await;
        }
        if self.is_distrusted() {
            stats.bypasses.add(1);
            return self.board(None).await;
        }
        match self.follow(self.look().await).await? {
            Ok(rows) => Ok(rows),
            Err(want) => self.board(want).await,
        }
    }

    /// Asks the database whatever the cache holds, and repairs the cache.
    async fn find_fresh(&self) -> Rows<M> {
        let rows = match self.place().lease_anew().await {
            Some(tenure) => self.load(tenure, |_| {}).await,
            None => self.select().await,
        }?;
        let found: Vec<&M> = rows.iter().map(|row| &**row).collect();
        self.state.repair_rows_and_hints(&found).await;
        Ok(rows)
    }

    /// Shares a search with everyone who makes the same; without a `want`, past the cache.
    pub(super) async fn board(&self, want: Option<Want>) -> Rows<M> {
        let pilot = {
            let search = self.clone();
            move |turn, landing| search.clone().fly(turn, want, landing)
        };
        let core = &self.state.core;
        match self
            .state
            .searches
            .board(&self.key, &core.tasks, pilot)
            .await
        {
            Ok(rows) => rows,
            Err(Lost) => Err(self.state.aborted()),
        }
    }

    /// One flight: finds the rows for everyone aboard.
    async fn fly(self, turn: Turn, want: Option<Want>, landing: Landing<Rows<M>>) {
        let mut want = want;
        if turn == Turn::Following {
            self.state.stats.joined.add(landing.passengers());
        }
        if self.is_distrusted() {
            want = None;
        } else if turn == Turn::Following {
            match self.follow(self.look().await).await {
                Ok(Ok(rows)) => return landing.land(Ok(rows)),
                Ok(Err(now)) => want = now,
                Err(error) => return landing.land(Err(error)),
            }
        }
        let Some(want) = want else {
            return landing.land(self.select().await);
        };
        let accept = |entry: &Entry| match self.judge(entry) {
            Hint::Keys(ids) => Some(ids),
            Hint::Miss(_) | Hint::Unknown => None,
        };
        match self.place().claim(want, accept).await {
            Claim::Granted(tenure) => {
                // The rows go to the passengers before the hint goes to the cache.
                let land = |rows: &Rows<M>| landing.land(rows.clone());
                // Everyone has the result by then.
                let _ = self.load(tenure, land).await;
            }
            Claim::Known(ids) => match self.matching(ids).await {
                Ok(Some(rows)) => landing.land(Ok(rows)),
                Ok(None) => landing.land(self.select().await),
                Err(error) => landing.land(Err(error)),
            },
            Claim::Past => landing.land(self.select().await),
        }
    }

    /// Finds the rows under a granted lease, shows them to `land`, and stores their keys.
    async fn load(&self, tenure: Tenure<M>, land: impl FnOnce(&Rows<M>)) -> Rows<M> {
        let began = Instant::now();
        let rows = self.select().await;
        let cost = load_cost_ms(began);
        land(&rows);
        let found = rows.as_ref().ok().map(|rows| self.found(rows, cost));
        let authoritative = self.policy.fresh;
        self.place().settle(tenure, found, authoritative).await;
        rows
    }

    /// What is to be stored of a search.
    pub(super) fn found(&self, rows: &[Cached<M>], load_cost_ms: u32) -> Found {
        let exact = self.state.hint_is_exact(self.at, &self.values);
        if rows.is_empty() {
            let (key, policy) = (&self.key, &self.policy);
            return self.state.absent(key, policy, exact, load_cost_ms);
        }
        let complete = match M::lookups()[self.at].kind {
            // A unique row is the only one, whatever the database calls equal.
            LookupKind::Unique => rows.len() == 1,
            // Others that are spelt otherwise may come that do not block this hint.
            LookupKind::Index { max_rows } => {
                let bound = max_rows.unwrap_or(self.state.core.config.index_max_rows);
                if rows.len() > bound {
                    self.state.stats.lists_too_long.add(1);
                    return Found::Nothing;
                }
                exact
            }
        };
        if !complete || !rows.iter().all(|row| self.is_found(row)) {
            return Found::Nothing;
        }
        let ids: Vec<_> = rows
            .iter()
            .map(|row| EntityState::<M>::id_of(row))
            .collect();
        let Some(column) = M::ids() else {
            return Found::Nothing;
        };
        let encode = |hint: &mut RowEncoder| hint.field(&column, &ids);
        match seal_row(&self.key, Version::ZERO, M::DEFINITION.format(), encode) {
            Ok(payload) => {
                let fresh_ms = self.state.jittered_ms(self.policy.ttl);
                Found::Row {
                    version: Version::ZERO,
                    value: Value {
                        payload,
                        schema: M::DEFINITION.schema,
                        load_cost_ms,
                        fresh_ms,
                        ttl_ms: fresh_ms,
                    },
                }
            }
            Err(error) => {
                self.state.stats.encode_errors.add(1);
                tracing::warn!(key = %self.key, %error, "a hint cannot be cached");
                Found::Nothing
            }
        }
    }

    /// Follows a hint to its rows, or says what to ask the tier for, if it gave an answer.
    async fn follow(
        &self,
        hint: Hint<M>,
    ) -> Result<Result<Vec<Cached<M>>, Option<Want>>, ReadError> {
        let ids = match self.count(hint) {
            Ok(ids) => ids,
            Err(want) => return Ok(Err(want)),
        };
        match self.matching(ids).await? {
            Some(rows) => Ok(Ok(rows)),
            None => Ok(Err(Some(Want::Refresh))),
        }
    }

    /// Counts what a hint is good for.
    pub(super) fn count(&self, hint: Hint<M>) -> Result<Vec<Id<M>>, Option<Want>> {
        let stats = &self.state.stats;
        match hint {
            Hint::Keys(ids) => {
                stats.hint_hits.add(1);
                if ids.is_empty() {
                    stats.shared_hits.add(1);
                    stats.absent_hits.add(1);
                }
                Ok(ids)
            }
            Hint::Miss(reason) => {
                stats.miss(reason);
                stats.hint_misses.add(1);
                Err(Some(wanted(reason)))
            }
            Hint::Unknown => {
                stats.bypasses.add(1);
                Err(None)
            }
        }
    }

    /// The rows with these keys; `None` if one of them is gone or is no longer found so.
    async fn matching(&self, ids: Vec<Id<M>>) -> Result<Option<Vec<Cached<M>>>, ReadError> {
        let expected = ids.len();
        let many = Many {
            state: &self.state,
            scope: &self.scope,
            policy: self.policy,
        };
        let mut rows: Vec<_> = many.find(ids).await?.into_iter().flatten().collect();
        rows.retain(|row| self.is_found(row));
        if rows.len() < expected {
            self.state.stats.hints_outdated.add(1);
            return Ok(None);
        }
        Ok(Some(rows))
    }

    pub(super) fn is_found(&self, row: &M) -> bool {
        self.state.hint_of(self.at, row).as_ref() == Some(&self.key)
    }

    /// Asks the database.
    pub(super) async fn select(&self) -> Rows<M> {
        let lookup = &M::lookups()[self.at];
        let values = vec![self.values.clone()];
        let rows = self.state.select_by(&self.scope, lookup, values).await?;
        Ok(rows.into_iter().map(Cached::loaded).collect())
    }

    async fn look(&self) -> Hint<M> {
        match self.state.core.tier.get(&self.key).await {
            Ok(held) => self.judge_held(&held),
            Err(_) => Hint::Unknown,
        }
    }

    pub(super) fn judge_held(&self, held: &Held) -> Hint<M> {
        match held {
            Held::Entry(entry) => self.judge(entry),
            Held::Nothing => Hint::Miss(MissReason::Nothing),
            Held::Foreign => Hint::Miss(MissReason::Corrupt),
        }
    }

    /// Whether these keys lead to the row.
    pub(super) fn lead_to(&self, ids: Vec<Id<M>>, row: &Key) -> bool {
        ids.into_iter().any(|id| self.state.keys.row(id) == *row)
    }

    /// What an entry says of the search.
    pub(super) fn judge(&self, entry: &Entry) -> Hint<M> {
        let policy = Policy {
            schema: M::DEFINITION.schema,
            floor: Version::ZERO,
            serve_stale: false,
            early_refresh: 0.0,
            chance: 1.0,
        };
        match classify(entry, self.state.core.tier.now(), &policy) {
            Lookup::Miss(reason) => return Hint::Miss(reason),
            Lookup::Fresh | Lookup::KnownAbsent | Lookup::Early | Lookup::Stale => {}
        }
        let decode = |hint: &mut RowDecoder<'_>| match M::ids() {
            Some(column) => hint.field(&column),
            None => Ok(Vec::new()),
        };
        match open(&self.key, entry, decode) {
            Ok(Content::Row(ids)) => Hint::Keys(ids),
            Ok(Content::Absent) => Hint::Keys(Vec::new()),
            Err(error) => {
                tracing::debug!(key = %self.key, %error, "a hint is corrupt");
                Hint::Miss(MissReason::Corrupt)
            }
        }
    }

    pub(super) fn place(&self) -> Place<M> {
        Place::new(&self.state, &self.key)
    }

    pub(super) fn is_inside(&self) -> bool {
        matches!(self.scope, Scope::Transaction(_))
    }

    pub(super) fn is_distrusted(&self) -> bool {
        self.state.core.pending.distrusts(&self.key)
    }
}
