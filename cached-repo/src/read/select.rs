//! The statements that load rows: admitted by the load limit, and counted.
//!
//! Invariants:
//! - A statement asks for at most [`MAX_KEYS_PER_STATEMENT`] keys.
//! - Nobody waits for its turn while it holds a connection: a transaction's reads are not admitted.
//!
//! Does not know the cache.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use sea_orm::{
    DbBackend,
    sea_query::{SelectStatement, Value, ValueTuple},
};

use super::load_limit::{LoadLimit, Permit};
use crate::{
    cached::Row,
    context::EntityContext,
    entity::statements::{fetch_all, fetch_one},
    error::ReadError,
    protocol::Key,
    session::Scope,
};

/// What every database takes as parameters of one statement, with room to spare, whatever the
/// number of columns in a key.
pub(super) const MAX_KEYS_PER_STATEMENT: usize = 1_000;

/// Loads the rows of one entity.
pub(super) struct Selects {
    pub(super) context: Arc<EntityContext>,
    limit: Arc<LoadLimit>,
}

impl Selects {
    pub(super) fn new(context: &Arc<EntityContext>, limit: &Arc<LoadLimit>) -> Self {
        Self {
            context: Arc::clone(context),
            limit: Arc::clone(limit),
        }
    }

    /// Waits for its turn for as long as that takes.
    pub(super) async fn turn(&self) -> Permit<'_> {
        self.limit.turn().await
    }

    /// The row with this primary key, for whoever has its turn.
    pub(super) async fn by_id_in_turn(
        &self,
        _: &Permit<'_>,
        id: &ValueTuple,
    ) -> Result<Option<Row>, ReadError> {
        self.by_id(&Scope::Pool, id).await
    }

    /// The rows with these primary keys, in any order, by one statement; for whoever has its turn.
    pub(super) async fn by_ids_in_turn(
        &self,
        _: &Permit<'_>,
        ids: Vec<ValueTuple>,
    ) -> Result<Vec<Row>, ReadError> {
        let EntityContext { shared, entity, .. } = &*self.context;
        entity.stats.loads.add(1);
        let select = entity.select_by_ids(&values(ids));
        let models = fetch_all(entity, &Scope::Pool.executor(&shared.conn), &select).await;
        let models = models.map_err(|source| self.context.load_failed(source))?;
        Ok(models.into_iter().map(Row::loaded).collect())
    }

    /// The row with this primary key, in a transaction or for whoever has its turn.
    pub(super) async fn by_id(
        &self,
        scope: &Scope,
        id: &ValueTuple,
    ) -> Result<Option<Row>, ReadError> {
        self.one(scope, self.context.entity.select_by_id(id)).await
    }

    async fn one(&self, scope: &Scope, select: SelectStatement) -> Result<Option<Row>, ReadError> {
        let EntityContext { shared, entity, .. } = &*self.context;
        entity.stats.loads.add(1);
        let found = fetch_one(entity, &scope.executor(&shared.conn), &select).await;
        let model = found.map_err(|source| self.context.load_failed(source))?;
        Ok(model.map(Row::loaded))
    }

    /// The row with this primary key as it is now, also in a transaction that sees an older state,
    /// and locked until the end of the transaction.
    pub(super) async fn by_id_for_update(
        &self,
        scope: &Scope,
        id: &ValueTuple,
    ) -> Result<Option<Row>, ReadError> {
        let select = self.context.entity.select_for_update(id);
        self.one(scope, select).await
    }

    /// The rows with these primary keys, in any order.
    pub(super) async fn by_ids(
        &self,
        scope: &Scope,
        ids: Vec<ValueTuple>,
    ) -> Result<Vec<Row>, ReadError> {
        self.in_portions(scope, &values(ids), |ids| {
            self.context.entity.select_by_ids(ids)
        })
        .await
    }

    /// The rows that a lookup finds by any of these values, ordered by primary key.
    pub(super) async fn by_lookup(
        &self,
        scope: &Scope,
        lookup: usize,
        values: &[Vec<Value>],
    ) -> Result<Vec<Row>, ReadError> {
        let entity = &self.context.entity;
        self.in_portions(scope, values, |values| {
            entity.select_by_lookup(lookup, values)
        })
        .await
    }

    async fn in_portions(
        &self,
        scope: &Scope,
        keys: &[Vec<Value>],
        statement: impl Fn(&[Vec<Value>]) -> SelectStatement,
    ) -> Result<Vec<Row>, ReadError> {
        let EntityContext { shared, entity, .. } = &*self.context;
        let portions = keys.chunks(MAX_KEYS_PER_STATEMENT).map(async |keys| {
            let _permit = self.admit(scope).await?;
            entity.stats.loads.add(1);
            let conn = scope.executor(&shared.conn);
            let models = fetch_all(entity, &conn, &statement(keys)).await;
            models.map_err(|source| self.context.load_failed(source))
        });
        // None is given up while it runs: that would doom the transaction it may be part of.
        let models: Vec<_> = join_all(portions)
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok(models.into_iter().flatten().map(Row::loaded).collect())
    }

    /// Waits for the right to load.
    async fn admit(&self, scope: &Scope) -> Result<Option<Permit<'_>>, ReadError> {
        if scope.is_transaction() {
            return Ok(None);
        }
        let permit = self.limit.admit().await;
        permit.map(Some).map_err(|_| self.context.overloaded())
    }
}

fn values(ids: Vec<ValueTuple>) -> Vec<Vec<Value>> {
    ids.into_iter().map(|id| id.into_iter().collect()).collect()
}

/// What was found, for keys that nobody may have found because the database calls equal what is spelt
/// otherwise.
#[derive(Default)]
pub(super) struct Spellings {
    /// Something was found under a key that nobody asked for.
    has_others: bool,
    /// What was found, folded; `None` if it cannot be.
    found: HashSet<Option<String>>,
    by_collation: bool,
}

impl Spellings {
    /// Of the keys of what was found, and those that were asked for.
    pub(super) fn of<'a>(
        backend: DbBackend,
        found: impl Iterator<Item = &'a Key>,
        asked: impl Iterator<Item = &'a Key>,
    ) -> Self {
        let asked: HashSet<&Key> = asked.collect();
        let mut spellings = Self {
            by_collation: backend == DbBackend::MySql,
            ..Self::default()
        };
        for key in found {
            spellings.has_others |= !asked.contains(key);
            spellings.found.insert(folded(key));
        }
        spellings
    }

    /// Whether the database may have a row for a key under which none was found. If not, it has none,
    /// however it compares.
    pub(super) fn may_have(&self, key: &Key) -> bool {
        if self.found.is_empty() {
            return false;
        }
        // Elsewhere it is the column's type that compares, by whatever rules.
        if self.has_others || !self.by_collation || self.found.contains(&None) {
            return true;
        }
        let folded = folded(key);
        folded.is_none() || self.found.contains(&folded)
    }
}

/// One text for all keys of printable ASCII that some collation calls equal: without case and spaces.
/// `None` for other keys, and those that are cut to a hash.
fn folded(key: &Key) -> Option<String> {
    let text = key.as_str().replace("%20", "");
    let plain = !text.contains(['%', '#']);
    plain.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;

    use super::Spellings;
    use crate::protocol::{Key, KeySpace};

    fn key(text: &str) -> Key {
        KeySpace::new("shop", "user").row(text)
    }

    /// Goal: what a collation may call equal to something that was found is asked for again, and nothing
    /// else.
    #[test]
    fn only_what_may_be_equal_to_what_was_found_is_looked_for_again() {
        let asked = ["ada", "ADA", "ada ", "bob", "\u{e0}da"].map(key);
        let of = |found: &[&str], backend| {
            let found: Vec<_> = found.iter().map(|text| key(text)).collect();
            Spellings::of(backend, found.iter(), asked.iter())
        };
        let may_have =
            |found: &[&str], backend| asked.clone().map(|key| of(found, backend).may_have(&key));
        let mysql = DbBackend::MySql;
        assert_eq!(may_have(&[], mysql), [false; 5]);
        assert_eq!(may_have(&["ada"], mysql), [true, true, true, false, true]);
        assert_eq!(
            may_have(&["\u{e0}da"], mysql),
            [true; 5],
            "accents may not count"
        );
        assert_eq!(may_have(&["eve"], mysql), [true; 5], "nobody asked for it");
        assert_eq!(may_have(&["ada"], DbBackend::Postgres), [true; 5]);
    }
}
