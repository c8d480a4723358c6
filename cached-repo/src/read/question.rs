//! What can be asked: for the row with a primary key, or for the rows that a lookup finds; and the
//! rows that answer it.
//!
//! Does not answer anything.

use sea_orm::sea_query::{Value, ValueTuple};

use crate::{cached::Row, entity::Entity, protocol::Key};

/// A question, and the cache key under which its answer is.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) key: Key,
    pub(crate) by: By,
}

/// What rows are asked for.
#[derive(Clone)]
pub(crate) enum By {
    /// The row with this primary key.
    Id(ValueTuple),
    /// The rows that a lookup finds by these values.
    Lookup { lookup: usize, values: Vec<Value> },
}

impl Question {
    pub(crate) fn row(entity: &Entity, id: ValueTuple) -> Self {
        Self {
            key: entity.row_key(&id),
            by: By::Id(id),
        }
    }

    /// `None` if nothing can be found, because NULL is equal to nothing.
    pub(crate) fn lookup(entity: &Entity, lookup: usize, values: Vec<Value>) -> Option<Self> {
        Some(Self {
            key: entity.index_key(lookup, &values)?,
            by: By::Lookup { lookup, values },
        })
    }
}

impl By {
    /// Whether everything that the database calls equal to what is asked for has the same cache
    /// key.
    pub(crate) fn is_exact(&self, entity: &Entity) -> bool {
        match self {
            Self::Id(id) => entity.row_key_is_exact(id),
            Self::Lookup { lookup, values } => entity.index_key_is_exact(*lookup, values),
        }
    }

    /// The cache key under which a row that the database has found is asked for in this way; `None` if it
    /// cannot be.
    pub(crate) fn key_of(&self, entity: &Entity, row: &Row) -> Option<Key> {
        match self {
            Self::Id(_) => Some(entity.key_of(&*row.model)),
            Self::Lookup { lookup, .. } => entity.index_key_of(*lookup, &*row.model),
        }
    }

    /// Whether a row from the cache answers the question with this key.
    pub(crate) fn is_answered_by(&self, entity: &Entity, key: &Key, row: &Row) -> bool {
        match self {
            Self::Id(_) => entity.key_of(&*row.model) == *key,
            Self::Lookup { lookup, .. } => entity.leads_to(*lookup, key, &*row.model),
        }
    }
}

/// The rows that answer a question.
#[derive(Clone, Default)]
pub(crate) enum Rows {
    #[default]
    None,
    One(Row),
    Many(Vec<Row>),
}

impl Rows {
    pub(crate) fn push(&mut self, row: Row) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(row),
            Self::One(first) => Self::Many(vec![first, row]),
            Self::Many(mut rows) => {
                rows.push(row);
                Self::Many(rows)
            }
        };
    }

    pub(crate) fn as_slice(&self) -> &[Row] {
        match self {
            Self::None => &[],
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    /// Rows that are not alone come in this order.
    pub(crate) fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&Row) -> K) {
        if let Self::Many(rows) = self {
            rows.sort_by_key(key);
        }
    }

    /// The first row.
    pub(crate) fn into_one(self) -> Option<Row> {
        match self {
            Self::None => None,
            Self::One(row) => Some(row),
            Self::Many(rows) => rows.into_iter().next(),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Row> {
        match self {
            Self::None => Vec::new(),
            Self::One(row) => vec![row],
            Self::Many(rows) => rows,
        }
    }
}

impl FromIterator<Row> for Rows {
    fn from_iter<T: IntoIterator<Item = Row>>(rows: T) -> Self {
        let mut all = Self::None;
        rows.into_iter().for_each(|row| all.push(row));
        all
    }
}
