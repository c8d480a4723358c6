//! The keys that a write affects: that of its row, and those of the index entries that lead to the
//! row afterwards.
//!
//! The index entries of the row's old values do not matter: an index entry may hold too much (the
//! reader compares the rows), but never too little. To know the old values, a write would need a
//! SELECT.
//!
//! Does not tell the cache.

use std::sync::Arc;

use sea_orm::{
    ActiveValue,
    sea_query::{Value, ValueTuple},
};

use super::outcome::Verb;
use crate::{context::EntityContext, entity::Entity, protocol::Key};

/// The keys that a write affects, as far as they are known before its SQL.
pub(super) struct AffectedKeys {
    /// The row's primary key; `None` if the database makes it.
    pub(super) id: Option<ValueTuple>,
    /// Of the index entries that lead to it afterwards.
    pub(super) index: IndexKeys,
    /// The same for the other models of the table.
    pub(super) siblings: Vec<Sibling>,
}

/// Keys of the index entries of one model that lead to the row afterwards.
pub(super) struct IndexKeys {
    pub(super) known: Vec<Key>,
    /// The lookups whose index entry may be another one afterwards, by position.
    pub(super) lookups: Vec<usize>,
    /// Whether `known` has all of them.
    pub(super) complete: bool,
}

/// What a write affects of another model of its table.
pub(super) struct Sibling {
    pub(super) context: Arc<EntityContext>,
    pub(super) index: IndexKeys,
}

impl AffectedKeys {
    /// Of a write that removes the row: index entries may go on leading to it.
    pub(super) fn of_delete(context: &EntityContext, id: ValueTuple) -> Self {
        let siblings = context.siblings().into_iter();
        let siblings = siblings.map(|context| Sibling {
            context,
            index: IndexKeys::none(),
        });
        Self {
            id: Some(id),
            index: IndexKeys::none(),
            siblings: siblings.collect(),
        }
    }

    /// Of an insert or an update; `values` are those of all columns.
    pub(super) fn of_save(
        context: &EntityContext,
        verb: Verb,
        values: &[ActiveValue<Value>],
        id: Option<ValueTuple>,
    ) -> Self {
        let entity = &*context.entity;
        let own = |at: usize| column_after(entity, verb, at, &values[at]);
        let siblings = context.siblings().into_iter().map(|context| {
            let sibling = &*context.entity;
            let after = |at: usize| {
                let column = &sibling.columns[at];
                match entity
                    .positions(std::slice::from_ref(&column.name))
                    .as_deref()
                {
                    Some(_) if column.is_generated => After::Unknown,
                    Some([at]) => own(*at),
                    // A column that this model lacks.
                    _ if verb == Verb::Insert => After::Unknown,
                    _ => After::Unchanged(None),
                }
            };
            let index = IndexKeys::after(sibling, verb, after);
            Sibling { context, index }
        });
        Self {
            id,
            siblings: siblings.collect(),
            index: IndexKeys::after(entity, verb, own),
        }
    }

    /// Whether all of them are known but for the row's.
    pub(super) fn index_is_complete(&self) -> bool {
        self.index.complete && self.siblings.iter().all(|sibling| sibling.index.complete)
    }
}

impl Sibling {
    /// The key of the row in this model, by its primary key in the model that is written; `None` if
    /// that is the same key, or the models do not agree on what the primary key is.
    pub(super) fn row(&self, own: &Entity, id: &ValueTuple) -> Option<Key> {
        let sibling = &self.context.entity;
        let key = sibling.row_key(&own.id_in(sibling, id)?);
        (key != own.row_key(id)).then_some(key)
    }
}

impl IndexKeys {
    fn none() -> Self {
        Self {
            known: Vec::new(),
            lookups: Vec::new(),
            complete: true,
        }
    }

    fn after(entity: &Entity, verb: Verb, after: impl Fn(usize) -> After) -> Self {
        let mut keys = Self::none();
        for (at, lookup) in entity.lookups.iter().enumerate() {
            let columns = lookup.columns.iter();
            let columns: Vec<_> = columns.map(|column| after(column.at)).collect();
            let is_left_alone = |column: &After| matches!(column, After::Unchanged(_));
            if verb == Verb::Update && columns.iter().all(is_left_alone) {
                continue;
            }
            keys.lookups.push(at);
            let values = columns.into_iter().map(|column| match column {
                After::Set(value) => Some(value),
                After::Unchanged(value) => value,
                After::Unknown => None,
            });
            match values.collect::<Option<Vec<_>>>() {
                Some(values) => keys.known.extend(entity.index_key(at, &values)),
                None => keys.complete = false,
            }
        }
        keys
    }
}

/// What a column holds after a write.
enum After {
    Set(Value),
    /// What it held before, if that is known.
    Unchanged(Option<Value>),
    /// Only the database knows.
    Unknown,
}

fn column_after(entity: &Entity, verb: Verb, at: usize, value: &ActiveValue<Value>) -> After {
    let is_raised = || {
        let version = entity.version.as_ref();
        verb == Verb::Update && version.is_some_and(|version| version.at == at)
    };
    if entity.columns[at].is_generated || entity.options().reload_after_write || is_raised() {
        return After::Unknown;
    }
    match (value, verb) {
        (ActiveValue::Set(value), _) => After::Set(value.clone()),
        // The version check makes sure that it is still so.
        (ActiveValue::Unchanged(value), _) if entity.version.is_some() => {
            After::Unchanged(Some(value.clone()))
        }
        (_, Verb::Insert) => After::Unknown,
        (_, Verb::Update) => After::Unchanged(None),
    }
}
