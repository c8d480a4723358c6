//! What rows are found by besides their primary key: the keys of its values, and whether a value
//! has one spelling only.
//!
//! An entry under such a key is a *hint*: the primary keys of the rows that were found. It may hold
//! too much, because a row's change or deletion leaves the hints of its old values alone, so who
//! follows it looks at the rows; it never holds too little, because a write blocks and invalidates
//! the hints of its new values.
//!
//! Does not read or write anything.

use sea_orm::{
    ColumnTrait, ColumnType, DbBackend, IdenStatic, Iterable, PrimaryKeyToColumn,
    sea_query::{IntoValueTuple, Value},
};

use crate::{
    CachedEntity, Id, LookupKind,
    db::EntityState,
    entity::{LookupColumn, PrimaryKey},
    protocol::{Key, KeySpace, LookupSpace},
};

/// The key spaces of an entity's lookups.
pub(crate) fn spaces<M: CachedEntity>(keys: &KeySpace) -> Vec<LookupSpace> {
    let space = |lookup: &crate::LookupDef<M>| {
        let columns = lookup.columns.iter();
        keys.lookup(columns.map(|column| column.column.as_str()))
    };
    M::lookups().iter().map(space).collect()
}

impl<M: CachedEntity> EntityState<M> {
    /// The key of what a lookup finds by these values; `None` where nothing can be found: SQL's
    /// NULL is equal to no value, not even to itself.
    pub(crate) fn hint_key(&self, at: usize, values: &[Value]) -> Option<Key> {
        let lookup = &M::lookups()[at];
        if lookup.kind == LookupKind::Unique && values.iter().any(is_null) {
            return None;
        }
        let values = lookup.columns.iter().zip(values).map(normalized);
        Some(self.hints[at].key(values))
    }

    /// The key of what a row is found by.
    pub(crate) fn hint_of(&self, at: usize, row: &M) -> Option<Key> {
        let columns = M::lookups()[at].columns.iter();
        let values: Vec<_> = columns.map(|column| row.get(column.column)).collect();
        self.hint_key(at, &values)
    }

    /// The keys of all that a row is found by.
    pub(crate) fn hints_of(&self, row: &M) -> impl Iterator<Item = Key> {
        (0..self.hints.len()).filter_map(|at| self.hint_of(at, row))
    }

    /// Whether all that the database calls equal to these values has the same key.
    pub(crate) fn hint_is_exact(&self, at: usize, values: &[Value]) -> bool {
        let columns = M::lookups()[at].columns.iter().zip(values);
        let mut exact = columns.map(|(column, value)| {
            column.normalize.is_some()
                || is_null(value)
                || is_enum(column)
                || (compares_bytes(&column.column) && self.value_is_exact(value))
        });
        exact.all(|exact| exact)
    }

    /// Whether a row has one key text only.
    pub(crate) fn spelling_is_exact(&self, id: &Id<M>) -> bool {
        let columns = PrimaryKey::<M>::iter().map(PrimaryKeyToColumn::into_column);
        let mut values = columns.zip(id.clone().into_value_tuple());
        values.all(|(column, value)| compares_bytes(&column) && self.value_is_exact(&value))
    }

    /// Whether the database calls nothing equal to the value that is spelt otherwise. MySQL and
    /// MariaDB compare texts by collations that ignore case and trailing spaces unless told
    /// otherwise; and everywhere one moment has many time zones, and one decimal many scales.
    fn value_is_exact(&self, value: &Value) -> bool {
        match value {
            Value::Bool(_)
            | Value::TinyInt(_)
            | Value::SmallInt(_)
            | Value::Int(_)
            | Value::BigInt(_)
            | Value::TinyUnsigned(_)
            | Value::SmallUnsigned(_)
            | Value::Unsigned(_)
            | Value::BigUnsigned(_) => true,
            Value::String(_) | Value::Bytes(_) => {
                self.core.conn.get_database_backend() != DbBackend::MySql
            }
            // This variant exists only with SeaORM's `with-uuid`, which this crate does not ask for.
            other => format!("{other:?}").starts_with("Uuid("),
        }
    }
}

/// Whether the column's type leaves texts as they are: not padded, not compared by rules of its
/// own like PostgreSQL's `citext`.
fn compares_bytes(column: &impl ColumnTrait) -> bool {
    let definition = column.def();
    !matches!(
        definition.get_column_type(),
        ColumnType::Char(_) | ColumnType::Custom(_)
    )
}

/// Whether the database has a list of the column's values, and gives them back as they are spelt
/// there.
fn is_enum<M: CachedEntity>(column: &LookupColumn<M>) -> bool {
    let definition = column.column.def();
    matches!(definition.get_column_type(), ColumnType::Enum { .. })
}

fn normalized<M: CachedEntity>((column, value): (&LookupColumn<M>, &Value)) -> Value {
    match (column.normalize, value) {
        (Some(normalize), Value::String(Some(text))) => Value::from(normalize(text)),
        (_, value) => value.clone(),
    }
}

fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}
