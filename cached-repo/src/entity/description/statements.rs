//! The statements of an entity, as SeaORM would write them, and the rows that they return.
//!
//! Invariants:
//! - Lists of keys come in few lengths, so that the database need not prepare a statement for
//!   each.
//!
//! Does not decide when a statement runs, or what its outcome means.

use sea_orm::{
    ActiveValue, ConnectionTrait, DbErr, StatementBuilder,
    sea_query::{
        Condition, DeleteStatement, Expr, ExprTrait, InsertStatement, LockType, Order, Query,
        SelectStatement, UpdateStatement, Value, ValueTuple,
    },
};

use super::Entity;
use crate::{cached::AnyModel, database::Executor, entity::is_null};

/// What an update expects of its row, and what it does to it.
pub(crate) struct Update<'a> {
    pub(crate) id: &'a ValueTuple,
    /// The values of all columns.
    pub(crate) values: Vec<ActiveValue<Value>>,
    /// The version that the row must have; the statement raises it.
    pub(crate) expected: Option<Value>,
}

impl Entity {
    /// The row with this primary key.
    pub(crate) fn select_by_id(&self, id: &ValueTuple) -> SelectStatement {
        let mut select = self.select.clone();
        select.cond_where(self.has_id(id)).limit(1);
        select
    }

    /// The same, locked until the end of the transaction.
    pub(crate) fn select_for_update(&self, id: &ValueTuple) -> SelectStatement {
        let mut select = self.select_by_id(id);
        select.lock(LockType::Update);
        select
    }

    /// The rows with one of these primary keys.
    pub(crate) fn select_by_ids(&self, ids: &[Vec<Value>]) -> SelectStatement {
        let mut select = self.select.clone();
        select.cond_where(self.any_of(&self.key_columns, ids));
        select
    }

    /// At most so many rows of which these columns have one of these values, locked until the end of
    /// the transaction.
    pub(crate) fn select_matching(
        &self,
        columns: &[usize],
        values: &[Vec<Value>],
        limit: usize,
    ) -> SelectStatement {
        let mut select = self.select.clone();
        select
            .cond_where(self.any_of(columns, values))
            .limit(limit as u64)
            .lock(LockType::Update);
        select
    }

    /// The rows that a lookup finds by any of these values and that meet its condition, ordered by
    /// primary key.
    pub(crate) fn select_by_lookup(&self, lookup: usize, values: &[Vec<Value>]) -> SelectStatement {
        let columns = self.lookups[lookup].columns.iter();
        let columns: Vec<_> = columns.map(|column| column.at).collect();
        let mut select = self.select.clone();
        select.cond_where(self.any_of(&columns, values));
        for term in &self.lookups[lookup].condition {
            select.and_where(term.sql(&self.columns[term.at]));
        }
        for at in &self.key_columns {
            select.order_by(self.columns[*at].reference.clone(), Order::Asc);
        }
        select
    }

    pub(crate) fn insert(&self, values: Vec<ActiveValue<Value>>) -> InsertStatement {
        let mut insert = Query::insert();
        insert.into_table(self.table.clone()).or_default_values();
        let (mut names, mut given) = (Vec::new(), Vec::new());
        for (at, value) in values.into_iter().enumerate() {
            if let Some(value) = value.into_value() {
                names.push(self.columns[at].name.clone());
                given.push(self.ops.save_as(at, Expr::val(value)));
            }
        }
        insert.columns(names).values_panic(given);
        insert
    }

    /// An update of the columns that are set; `None` if none is, and no version is to be raised.
    pub(crate) fn update(&self, update: Update<'_>) -> Option<UpdateStatement> {
        let mut statement = Query::update();
        statement.table(self.table.clone());
        for (at, value) in update.values.into_iter().enumerate() {
            if let ActiveValue::Set(value) = value
                && !self.key_columns.contains(&at)
            {
                let value = self.ops.save_as(at, Expr::val(value));
                statement.value(self.columns[at].name.clone(), value);
            }
        }
        let mut condition = self.has_id(update.id);
        if let (Some(version), Some(expected)) = (&self.version, update.expected) {
            let name = self.columns[version.at].name.clone();
            statement.value(name.clone(), Expr::col(name).add(1));
            condition = condition.add(self.equals(version.at, expected));
        }
        statement.cond_where(condition);
        (!statement.get_values().is_empty()).then_some(statement)
    }

    /// A delete of the row with this primary key, if it has the version.
    pub(crate) fn delete(&self, id: &ValueTuple, expected: Option<Value>) -> DeleteStatement {
        let mut condition = self.has_id(id);
        if let (Some(version), Some(expected)) = (&self.version, expected) {
            condition = condition.add(self.equals(version.at, expected));
        }
        let mut delete = Query::delete();
        delete.from_table(self.table.clone()).cond_where(condition);
        delete
    }

    fn has_id(&self, id: &ValueTuple) -> Condition {
        let parts = self.key_columns.iter().zip(id.iter());
        parts.fold(Condition::all(), |condition, (at, value)| {
            condition.add(self.equals(*at, value.clone()))
        })
    }

    /// `column = value`, as SeaORM's `eq`.
    fn equals(&self, column: usize, value: Value) -> Expr {
        let reference = Expr::col(self.columns[column].reference.clone());
        if is_null(&value) {
            return reference.is_null();
        }
        reference.eq(self.ops.save_as(column, Expr::val(value)))
    }

    /// The condition that the columns have one of these values.
    fn any_of(&self, columns: &[usize], keys: &[Vec<Value>]) -> Condition {
        let Some(first) = keys.first() else {
            return Condition::any();
        };
        // A repeated key changes nothing.
        let listed = keys.len().next_power_of_two();
        let keys = keys.iter().chain(std::iter::repeat(first)).take(listed);
        match columns {
            [column] if listed > 1 && !keys.clone().flatten().any(is_null) => {
                let values = keys.flatten().cloned();
                let values = values.map(|value| self.ops.save_as(*column, Expr::val(value)));
                let reference = self.columns[*column].reference.clone();
                Condition::all().add(Expr::col(reference).is_in(values))
            }
            _ => {
                let equal = |key: &Vec<Value>| {
                    let parts = columns.iter().zip(key);
                    let parts = parts.map(|(column, value)| self.equals(*column, value.clone()));
                    parts.reduce(ExprTrait::and)
                };
                Condition::any().add_option(any(keys.filter_map(equal).collect()))
            }
        }
    }
}

/// Any of the terms, as a tree that is no deeper than it must be: databases bound the depth of an
/// expression, and sea-query writes it down recursively.
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

/// Runs a statement that returns at most one row.
pub(crate) async fn fetch_one(
    entity: &Entity,
    conn: &Executor<'_>,
    statement: &impl StatementBuilder,
) -> Result<Option<AnyModel>, DbErr> {
    let row = conn.query_one(statement).await?;
    row.map(|row| entity.ops.read(&row)).transpose()
}

/// Runs a statement that returns rows.
pub(crate) async fn fetch_all(
    entity: &Entity,
    conn: &Executor<'_>,
    statement: &SelectStatement,
) -> Result<Vec<AnyModel>, DbErr> {
    let rows = conn.query_all(statement).await?;
    rows.iter().map(|row| entity.ops.read(row)).collect()
}

/// The row with this primary key.
pub(crate) async fn find_by_id(
    entity: &Entity,
    conn: &Executor<'_>,
    id: &ValueTuple,
) -> Result<Option<AnyModel>, DbErr> {
    fetch_one(entity, conn, &entity.select_by_id(id)).await
}
