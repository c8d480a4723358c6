//! Searches by one unique lookup for many values at a time: one question to the tier, and one
//! statement for what it does not know.
//!
//! The rules are those of a single search.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::try_join_all;
use sea_orm::sea_query::Value as SqlValue;
use tokio::time::Instant;

use super::{
    load_cost_ms,
    many::Many,
    place::Answer,
    search::{Hint, Search},
};
use crate::{
    CachedEntity, Id, ReadError,
    cached::Cached,
    config::ReadPolicy,
    db::EntityState,
    protocol::{Key, state::Want},
    session::Scope,
    tier::each,
};

/// Searches by one unique lookup for many values.
pub(crate) struct Searches<'a, M: CachedEntity> {
    pub(crate) state: &'a Arc<EntityState<M>>,
    pub(crate) scope: &'a Scope,
    pub(crate) policy: ReadPolicy,
    pub(crate) at: usize,
}

impl<M: CachedEntity> Searches<'_, M> {
    /// Finds one row each, in the order of the values.
    pub(crate) async fn find(
        &self,
        values: Vec<Vec<SqlValue>>,
    ) -> Result<Vec<Option<Cached<M>>>, ReadError> {
        let searches: Vec<_> = values
            .into_iter()
            .map(|values| Search::new(self.state, self.scope, self.policy, self.at, values))
            .collect();
        let different: HashMap<&Key, &Search<M>> = searches
            .iter()
            .flatten()
            .map(|search| (&search.key, search))
            .collect();
        let found = self.find_each(different.into_values().collect()).await?;
        let row = |search: &Search<M>| found.get(&search.key).cloned();
        Ok(searches
            .iter()
            .map(|search| search.as_ref().and_then(row))
            .collect())
    }

    async fn find_each(
        &self,
        searches: Vec<&Search<M>>,
    ) -> Result<HashMap<Key, Cached<M>>, ReadError> {
        let past = |search: &&Search<M>| search.is_inside() || search.is_distrusted();
        // As with rows: before the tier is asked.
        let past: Vec<bool> = searches.iter().map(past).collect();
        let mut found = HashMap::with_capacity(searches.len());
        let mut missed = Vec::new();
        if self.policy.fresh || past.iter().all(|past| *past) {
            self.state.stats.bypasses.add(searches.len() as u64);
            missed.extend(searches.into_iter().map(|search| (search, None)));
        } else {
            let keys: Vec<Key> = searches.iter().map(|search| search.key.clone()).collect();
            let held = self.state.core.tier.get_many(&keys).await.ok();
            let mut known = Vec::new();
            for (at, search) in searches.into_iter().enumerate() {
                let hint = match &held {
                    Some(held) if !past[at] => search.judge_held(&held[at]),
                    _ => Hint::Unknown,
                };
                match search.count(hint) {
                    Ok(ids) => known.push((search, ids)),
                    Err(want) => missed.push((search, want)),
                }
            }
            self.follow(known, &mut found, &mut missed).await?;
        }
        if !missed.is_empty() {
            self.load(missed, &mut found).await?;
        }
        Ok(found)
    }

    /// Follows all hints at once.
    async fn follow<'s>(
        &self,
        known: Vec<(&'s Search<M>, Vec<Id<M>>)>,
        found: &mut HashMap<Key, Cached<M>>,
        missed: &mut Vec<(&'s Search<M>, Option<Want>)>,
    ) -> Result<(), ReadError> {
        let many = Many {
            state: self.state,
            scope: self.scope,
            policy: self.policy,
        };
        let (searches, ids): (Vec<_>, Vec<_>) = known
            .into_iter()
            // What is known to be absent has no key.
            .filter_map(|(search, ids)| ids.into_iter().next().map(|id| (search, id)))
            .unzip();
        let rows = many.find(ids).await?;
        for (search, row) in searches.into_iter().zip(rows) {
            match row.filter(|row| search.is_found(row)) {
                Some(row) => {
                    found.insert(search.key.clone(), row);
                }
                None => {
                    self.state.stats.hints_outdated.add(1);
                    missed.push((search, Some(Want::Refresh)));
                }
            }
        }
        Ok(())
    }

    /// Asks the database for all that this reader gets the right to load, and what is read past
    /// the cache, in one go; then what other readers are loading is waited for.
    async fn load(
        &self,
        missed: Vec<(&Search<M>, Option<Want>)>,
        found: &mut HashMap<Key, Cached<M>>,
    ) -> Result<(), ReadError> {
        let leases = missed.iter().map(async |(search, want)| {
            if self.policy.fresh && !search.is_inside() {
                return match search.place().lease_anew().await {
                    Some(tenure) => Answer::Granted(tenure),
                    None => Answer::Unknown,
                };
            }
            match want {
                Some(want) => search.place().lease(*want).await,
                None => Answer::Unknown,
            }
        });
        let answers = each(leases).await;
        let began = Instant::now();
        let (mut mine, mut awaited) = (Vec::new(), Vec::new());
        for ((search, want), answer) in missed.into_iter().zip(answers) {
            match answer {
                Answer::Granted(tenure) => mine.push((search, Some(tenure))),
                Answer::Blocked | Answer::Unknown => mine.push((search, None)),
                Answer::Wait | Answer::Hit(_) => awaited.push((search, want)),
            }
        }
        let lookup = &M::lookups()[self.at];
        let values = mine.iter().map(|(search, _)| search.values.clone());
        let rows = self.state.select_by(self.scope, lookup, values.collect());
        let rows = rows.await?;
        let cost = load_cost_ms(began);
        let mut by_hint = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(hint) = self.state.hint_of(self.at, &row) {
                by_hint.insert(hint, Cached::loaded(row));
            }
        }
        let stored = mine.into_iter().map(async |(search, tenure)| {
            let mut rows: Vec<_> = by_hint.get(&search.key).cloned().into_iter().collect();
            if rows.is_empty() && !self.state.hint_is_exact(self.at, &search.values) {
                // The database may call equal what is spelt otherwise.
                rows = search.select().await?;
            }
            if let Some(tenure) = tenure {
                let found = search.found(&rows, cost);
                let authoritative = self.policy.fresh;
                search
                    .place()
                    .settle(tenure, Some(found), authoritative)
                    .await;
            }
            Ok((search, rows))
        });
        let awaited = awaited.into_iter().map(async |(search, want)| {
            let rows = search.board(want).await?;
            Ok((search, rows))
        });
        let stored = each(stored).await;
        let stored: Vec<_> = stored.into_iter().collect::<Result<_, ReadError>>()?;
        if self.policy.fresh && !matches!(self.scope, Scope::Transaction(_)) {
            let loaded: Vec<&M> = stored
                .iter()
                .flat_map(|(_, rows)| rows)
                .map(|row| &**row)
                .collect();
            self.state.repair_rows_and_hints(&loaded).await;
        }
        for (search, rows) in stored.into_iter().chain(try_join_all(awaited).await?) {
            if let Some(row) = rows.into_iter().next() {
                found.insert(search.key.clone(), row);
            }
        }
        Ok(())
    }
}
