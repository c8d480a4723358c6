//! The keys that a write affects: that of its row, and those of the index entries that lead to the
//! row afterwards.
//!
//! The index entries of the row's old values do not matter: an index entry may hold too much (the
//! reader compares the rows), but never too little. To know the old values, a write would need a
//! SELECT.
//!
//! Does not tell the cache.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{
    ActiveValue,
    sea_query::{Value, ValueTuple},
};

use super::outcome::Verb;
use crate::{
    context::EntityContext,
    entity::{Entity, Meets},
    protocol::Key,
};

/// The keys that a write affects, as far as they are known before its SQL.
pub(super) struct AffectedKeys {
    /// The row's primary key; `None` if the database makes it.
    pub(super) id: Option<ValueTuple>,
    /// The row may have another primary key than it is given, because the database rounds it.
    pub(super) id_may_differ: bool,
    /// Of the index entries that lead to it afterwards.
    pub(super) index: IndexKeys,
    /// The same for the other models of the table.
    pub(super) siblings: Vec<Sibling>,
    /// What columns are given that may round it, by position.
    pub(super) rounded: Vec<(usize, Value)>,
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
            id_may_differ: false,
            index: IndexKeys::none(),
            siblings: siblings.collect(),
            rounded: Vec::new(),
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
                    Some([at]) if entity.columns[*at].spells_like(column) => own(*at),
                    Some([at]) => match own(*at) {
                        After::Unchanged(_) => After::Unchanged(None),
                        After::Set(_) | After::Unknown => After::Unknown,
                    },
                    // A column that this model lacks.
                    _ if verb == Verb::Insert => After::Unknown,
                    _ => After::Unchanged(None),
                }
            };
            let index = IndexKeys::after(sibling, verb, after);
            Sibling { context, index }
        });
        let differs = |id: &ValueTuple| verb == Verb::Insert && !entity.keeps_key(id);
        Self {
            id_may_differ: id.as_ref().is_some_and(differs),
            id,
            siblings: siblings.collect(),
            index: IndexKeys::after(entity, verb, own),
            rounded: rounded(entity, values),
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
            let columns: Vec<_> = (lookup.columns.iter())
                .map(|column| after(column.at))
                .collect();
            let terms = lookup.condition.iter();
            let terms: HashMap<_, _> = terms.map(|term| (term.at, after(term.at))).collect();
            let is_left_alone = |column: &After| matches!(column, After::Unchanged(_));
            if verb == Verb::Update && columns.iter().chain(terms.values()).all(is_left_alone) {
                continue;
            }
            keys.lookups.push(at);
            let known = |at| terms.get(&at).and_then(|column| column.value().cloned());
            if entity.meets_with(at, known) == Meets::No {
                continue;
            }
            let values = columns.iter().map(|column| column.value().cloned());
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

/// The values of lookups' columns that the columns may not keep.
fn rounded(entity: &Entity, values: &[ActiveValue<Value>]) -> Vec<(usize, Value)> {
    let columns = entity.lookups.iter().flat_map(|lookup| &lookup.columns);
    let rounded = columns.filter_map(|column| match &values[column.at] {
        ActiveValue::Set(value) if !entity.columns[column.at].keeps(value, entity.backend) => {
            Some((column.at, value.clone()))
        }
        _ => None,
    });
    rounded.collect()
}

impl After {
    fn value(&self) -> Option<&Value> {
        match self {
            Self::Set(value) => Some(value),
            Self::Unchanged(value) => value.as_ref(),
            Self::Unknown => None,
        }
    }
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
        (ActiveValue::Set(value), _) if entity.columns[at].keeps(value, entity.backend) => {
            After::Set(value.clone())
        }
        // The database may round it.
        (ActiveValue::Set(_), _) => After::Unknown,
        // The version check makes sure that it is still so.
        (ActiveValue::Unchanged(value), _) if entity.version.is_some() => {
            After::Unchanged(Some(value.clone()))
        }
        (_, Verb::Insert) => After::Unknown,
        (_, Verb::Update) => After::Unchanged(None),
    }
}
