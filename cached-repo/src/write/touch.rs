//! Which keys a write touches: that of its row, and those of what the row is found by afterwards.
//!
//! What the row was found by before is of no concern: a hint may hold too much (whoever follows it
//! looks at the row), but never too little.
//!
//! Does not tell the cache.

use sea_orm::{ActiveModelTrait, ActiveValue, IdenStatic};

use super::Verb;
use crate::{ActiveModelOf, CachedEntity, LookupDef, db::EntityState, protocol::Key};

/// The keys that a write touches, as far as they are known before its SQL.
pub(super) struct Touched {
    /// Of the row; `None` if the database makes it.
    pub(super) row: Option<Key>,
    /// Of what it is found by afterwards.
    pub(super) hints: Vec<Key>,
    /// The lookups that may find it by something else afterwards, by position.
    pub(super) lookups: Vec<usize>,
    /// Whether the hints are all there are.
    pub(super) complete: bool,
}

impl Touched {
    /// By a write that removes the row.
    pub(super) fn row(key: Key) -> Self {
        Self {
            row: Some(key),
            hints: Vec::new(),
            lookups: Vec::new(),
            complete: true,
        }
    }

    /// By an insert or an update.
    pub(super) fn by<M: CachedEntity>(
        state: &EntityState<M>,
        verb: Verb,
        active: &ActiveModelOf<M>,
        row: Option<Key>,
    ) -> Self {
        let mut touched = Self {
            row,
            hints: Vec::new(),
            lookups: Vec::new(),
            complete: true,
        };
        for (at, lookup) in M::lookups().iter().enumerate() {
            if !may_change(lookup, verb, active) {
                continue;
            }
            touched.lookups.push(at);
            let values = lookup.columns.iter().map(|column| {
                let known = !is_the_databases::<M>(verb, &column.column);
                match active.get(column.column) {
                    ActiveValue::Set(value) if known => Some(value),
                    // The version check makes sure that it is still so.
                    ActiveValue::Unchanged(value) if known && M::version_column().is_some() => {
                        Some(value)
                    }
                    _ => None,
                }
            });
            match values.collect::<Option<Vec<_>>>() {
                Some(values) => touched.hints.extend(state.hint_key(at, &values)),
                None => touched.complete = false,
            }
        }
        touched
    }
}

/// Whether the row may be found by something else after the write.
fn may_change<M: CachedEntity>(
    lookup: &LookupDef<M>,
    verb: Verb,
    active: &ActiveModelOf<M>,
) -> bool {
    verb == Verb::Insert
        || lookup.columns.iter().any(|column| {
            is_the_databases::<M>(verb, &column.column)
                || matches!(active.get(column.column), ActiveValue::Set(_))
        })
}

/// Whether the column may hold something else than what was sent; an update raises the version.
fn is_the_databases<M: CachedEntity>(verb: Verb, column: &crate::ColumnOf<M>) -> bool {
    let is_version = || {
        let version = M::version_column();
        version.is_some_and(|version| version.as_str() == column.as_str())
    };
    M::is_generated(column)
        || M::DEFINITION.options.reload_after_write
        || (verb == Verb::Update && is_version())
}
