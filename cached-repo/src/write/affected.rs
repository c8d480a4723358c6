//! The keys that a write affects: that of its row, and those of the index entries that lead to the
//! row afterwards.
//!
//! The index entries of the row's old values do not matter: an index entry may hold too much (the
//! reader compares the rows), but never too little. To know the old values, a write would need a
//! SELECT.
//!
//! Does not tell the cache.

use sea_orm::{ActiveValue, sea_query::Value};

use super::outcome::Verb;
use crate::{
    entity::{Entity, description::Lookup},
    protocol::Key,
};

/// The keys that a write affects, as far as they are known before its SQL.
pub(super) struct AffectedKeys {
    /// Of the row; `None` if the database makes it.
    pub(super) row: Option<Key>,
    /// Of the index entries that lead to it afterwards.
    pub(super) index: Vec<Key>,
    /// The lookups whose index entry may be another one afterwards, by position.
    pub(super) lookups: Vec<usize>,
    /// Whether `index` has all of them.
    pub(super) complete: bool,
}

impl AffectedKeys {
    /// Of a write that removes the row.
    pub(super) fn of_delete(row: Key) -> Self {
        Self {
            row: Some(row),
            index: Vec::new(),
            lookups: Vec::new(),
            complete: true,
        }
    }

    /// Of an insert or an update; `values` are those of all columns.
    pub(super) fn of_save(
        entity: &Entity,
        verb: Verb,
        values: &[ActiveValue<Value>],
        row: Option<Key>,
    ) -> Self {
        let mut affected = Self {
            row,
            index: Vec::new(),
            lookups: Vec::new(),
            complete: true,
        };
        for (at, lookup) in entity.lookups.iter().enumerate() {
            if !may_change(entity, lookup, verb, values) {
                continue;
            }
            affected.lookups.push(at);
            let known = lookup.columns.iter().map(|column| {
                let known = !is_the_databases(entity, verb, column.at);
                match &values[column.at] {
                    ActiveValue::Set(value) if known => Some(value.clone()),
                    // The version check makes sure that it is still so.
                    ActiveValue::Unchanged(value) if known && entity.version.is_some() => {
                        Some(value.clone())
                    }
                    _ => None,
                }
            });
            match known.collect::<Option<Vec<_>>>() {
                Some(values) => affected.index.extend(entity.index_key(at, &values)),
                None => affected.complete = false,
            }
        }
        affected
    }
}

/// Whether another index entry may lead to the row after the write.
fn may_change(entity: &Entity, lookup: &Lookup, verb: Verb, values: &[ActiveValue<Value>]) -> bool {
    verb == Verb::Insert
        || lookup.columns.iter().any(|column| {
            is_the_databases(entity, verb, column.at)
                || matches!(values[column.at], ActiveValue::Set(_))
        })
}

/// Whether the column may hold something else than what was sent; an update raises the version.
fn is_the_databases(entity: &Entity, verb: Verb, column: usize) -> bool {
    let is_version = || {
        let version = entity.version.as_ref();
        version.is_some_and(|version| version.at == column)
    };
    entity.columns[column].is_generated
        || entity.options().reload_after_write
        || (verb == Verb::Update && is_version())
}
