//! The SELECTs of the read pipeline.
//!
//! Invariants:
//! - A statement asks for at most [`MAX_KEYS_PER_STATEMENT`] keys, and lists of keys come in few
//!   lengths, so that the database need not prepare a statement for each.
//!
//! Does not know the cache.

use std::collections::HashMap;

use futures_util::future::join_all;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, Iterable, PrimaryKeyToColumn, QueryFilter,
    QueryOrder,
    sea_query::{Expr, ExprTrait, IntoValueTuple, Value},
};

use super::limit::Permit;
use crate::{
    CachedEntity, ColumnOf, Id, LookupDef, ReadError, cached::Cached, db::EntityState,
    entity::PrimaryKey, protocol::Key, session::Scope,
};

/// What every database takes as parameters of one statement, with room to spare, whatever the
/// number of columns in a key.
pub(super) const MAX_KEYS_PER_STATEMENT: usize = 1_000;

impl<M: CachedEntity> EntityState<M> {
    /// The row with this key.
    pub(super) async fn select_by_id(
        &self,
        scope: &Scope,
        id: Id<M>,
    ) -> Result<Option<Cached<M>>, ReadError> {
        let _permit = self.admit(scope).await?;
        self.stats.loads.add(1);
        let found = self.row_in_database(scope, id).await;
        let row = found.map_err(|source| self.failed(source))?;
        Ok(row.map(Cached::loaded))
    }

    /// The row with this key, which is not counted as a load.
    pub(super) async fn row_in_database(
        &self,
        scope: &Scope,
        id: Id<M>,
    ) -> Result<Option<M>, DbErr> {
        <M::Entity as EntityTrait>::find_by_id(id)
            .one(&scope.executor(&self.core.conn))
            .await
    }

    /// The rows with these keys, each under the key it has itself.
    pub(super) async fn select_by_ids(
        &self,
        scope: &Scope,
        ids: Vec<Id<M>>,
    ) -> Result<HashMap<Key, Cached<M>>, ReadError> {
        let columns = key_columns::<M>();
        let keys: Vec<Vec<Value>> = ids
            .into_iter()
            .map(|id| id.into_value_tuple().into_iter().collect())
            .collect();
        let rows = self.select_any(scope, &columns, keys, &[]).await?;
        let by_key = |row: M| (self.key_of(&row), Cached::loaded(row));
        Ok(rows.into_iter().map(by_key).collect())
    }

    /// The rows that a lookup finds by any of these values, ordered by key.
    pub(super) async fn select_by(
        &self,
        scope: &Scope,
        lookup: &LookupDef<M>,
        values: Vec<Vec<Value>>,
    ) -> Result<Vec<M>, ReadError> {
        let columns: Vec<_> = lookup.columns.iter().map(|column| column.column).collect();
        let order = key_columns::<M>();
        self.select_any(scope, &columns, values, &order).await
    }

    async fn select_any(
        &self,
        scope: &Scope,
        columns: &[ColumnOf<M>],
        keys: Vec<Vec<Value>>,
        order: &[ColumnOf<M>],
    ) -> Result<Vec<M>, ReadError> {
        let statements = keys.chunks(MAX_KEYS_PER_STATEMENT).map(async |keys| {
            let _permit = self.admit(scope).await?;
            self.stats.loads.add(1);
            let select = <M::Entity as EntityTrait>::find().filter(any_of::<M>(columns, keys));
            let select = order
                .iter()
                .fold(select, |select, column| select.order_by_asc(*column));
            let rows = select.all(&scope.executor(&self.core.conn)).await;
            rows.map_err(|source| self.failed(source))
        });
        // None is given up while it runs: that would cost the transaction they may be part of.
        let rows: Vec<_> = join_all(statements)
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Waits for the right to load; a transaction has it, with its connection.
    async fn admit(&self, scope: &Scope) -> Result<Option<Permit<'_>>, ReadError> {
        if let Scope::Transaction(_) = scope {
            return Ok(None);
        }
        let permit = self.core.loads.admit().await;
        permit.map(Some).map_err(|_| self.overloaded())
    }

    /// A load that has waited for its turn for too long.
    pub(super) fn overloaded(&self) -> ReadError {
        self.stats.loads_refused.add(1);
        ReadError::Overloaded {
            entity: self.name.clone(),
        }
    }

    fn failed(&self, source: DbErr) -> ReadError {
        self.stats.load_errors.add(1);
        ReadError::Database {
            entity: self.name.clone(),
            source,
        }
    }
}

fn key_columns<M: CachedEntity>() -> Vec<ColumnOf<M>> {
    PrimaryKey::<M>::iter()
        .map(PrimaryKeyToColumn::into_column)
        .collect()
}

/// The condition that the columns have one of these values.
fn any_of<M: CachedEntity>(columns: &[ColumnOf<M>], keys: &[Vec<Value>]) -> Condition {
    let equal = |key: &Vec<Value>| {
        let equal = columns.iter().zip(key);
        let equal = equal.map(|(column, value)| column.eq(value.clone()));
        equal.reduce(ExprTrait::and)
    };
    let Some(first) = keys.first() else {
        return Condition::any();
    };
    // Repeating one changes nothing.
    let listed = keys.len().next_power_of_two();
    let keys = keys.iter().chain(std::iter::repeat(first)).take(listed);
    let is_null = |value: &Value| *value == value.as_null();
    match columns {
        [column] if listed > 1 && !keys.clone().flatten().any(is_null) => {
            Condition::all().add(column.is_in(keys.flatten().cloned()))
        }
        _ => Condition::any().add_option(any(keys.filter_map(equal).collect())),
    }
}

/// Any of them, as a tree that is no deeper than it must be: databases bound the depth of an
/// expression, and SeaORM writes it down recursively.
fn any(mut terms: Vec<Expr>) -> Option<Expr> {
    while terms.len() > 1 {
        let mut left = terms.into_iter();
        let mut joined = Vec::with_capacity(left.len().div_ceil(2));
        while let Some(term) = left.next() {
            joined.push(match left.next() {
                Some(other) => term.or(other),
                None => term,
            });
        }
        terms = joined;
    }
    terms.pop()
}
