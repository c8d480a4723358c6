//! What the cache is told after rows were read past it: entries that say otherwise are wrong.
//!
//! Someone may have written these rows past the library. Later reads through the cache must not
//! contradict the caller who has seen them: neither the rows that it holds, nor the index entries
//! that should lead to them, nor what a reader that began before is about to store.
//!
//! Does not load, and stores nothing: the next reader does.

use super::{
    lease::Leases,
    question::{By, Question},
    seen::{Seen, View, judge},
};
use crate::{
    cached::Row,
    config::ReadPolicy,
    context::EntityContext,
    entity::Meets,
    protocol::{Claims, Entry, Key, Kind, holds},
    tier::{Fetched, run_bounded},
};

/// Repairs the entries of one entity.
pub(super) struct Repairs<'a> {
    pub(super) context: &'a EntityContext,
    pub(super) leases: &'a Leases,
    pub(super) policy: &'a ReadPolicy,
    /// Whether near caches may keep rows of the entity.
    pub(super) near: bool,
}

/// What is known of a key.
enum Fact<'r> {
    /// It is the key of this row.
    Row(Key, &'r Row),
    /// The index entry of this question leads to the row with this key.
    Index(Question, Key),
}

impl Repairs<'_> {
    /// After these rows were loaded in this way: a row's own entry is settled by its load.
    pub(super) async fn after(&self, by: &By, rows: &[Row]) {
        match by {
            By::Id(_) => self.index_entries(rows).await,
            By::Lookup { .. } => self.rows_and_index_entries(rows).await,
        }
    }

    /// Invalidates the index entries that should lead to these rows, and do not.
    async fn index_entries(&self, rows: &[Row]) {
        let facts = rows.iter().flat_map(|row| self.index_facts(row));
        self.repair(facts.collect()).await;
    }

    /// The same, and the entries of the rows that hold something else.
    async fn rows_and_index_entries(&self, rows: &[Row]) {
        let key_of = |row: &Row| self.context.entity.key_of(&*row.model);
        let own = rows.iter().map(|row| Fact::Row(key_of(row), row));
        let index = rows.iter().flat_map(|row| self.index_facts(row));
        self.repair(own.chain(index).collect()).await;
        if self.near {
            // A near cache may keep an older row than the entry.
            run_bounded(
                rows.iter()
                    .map(async |row| self.leases.announce(&key_of(row)).await),
            )
            .await;
        }
    }

    fn index_facts<'r>(&self, row: &Row) -> Vec<Fact<'r>> {
        let entity = &self.context.entity;
        let row_key = entity.key_of(&*row.model);
        (0..entity.lookups.len())
            .filter(|lookup| entity.meets(*lookup, &*row.model) == Meets::Yes)
            .filter_map(|lookup| {
                let values = entity.lookup_values(lookup, &*row.model);
                Question::lookup(entity, lookup, values)
            })
            .map(|question| Fact::Index(question, row_key.clone()))
            .collect()
    }

    async fn repair(&self, facts: Vec<Fact<'_>>) {
        if facts.is_empty() {
            return;
        }
        let keys: Vec<Key> = facts.iter().map(|fact| fact.key().clone()).collect();
        // If the tier gives no answer, it stays as it is: this only repairs.
        let Ok(held) = self.context.shared.tier.get_many(&keys).await else {
            return;
        };
        let view = View::of(self.context);
        let wrong = facts.iter().zip(held).filter(|(fact, held)| {
            let Fetched::Entry(entry) = held else {
                return false;
            };
            match &entry.claims {
                // A reader may be about to store what it found before.
                Claims::Lease(_) => true,
                Claims::None => self.contradicts(fact, entry, view),
                // A write in flight may store an older row, but never an index entry.
                Claims::Writers(_) => matches!(fact, Fact::Row(..)),
            }
        });
        run_bounded(wrong.map(async |(fact, _)| {
            let budget = self.leases.budget();
            self.leases.invalidate(fact.key(), budget).await;
        }))
        .await;
    }

    fn contradicts(&self, fact: &Fact<'_>, entry: &Entry, view: View) -> bool {
        let entity = &self.context.entity;
        match fact {
            Fact::Row(key, row) => match entry.kind {
                Kind::Absent => true,
                Kind::Tombstone => false,
                Kind::Value => {
                    let version = entity.version_of(&*row.model);
                    let context = self.context;
                    let sealed = view
                        .usable
                        .epoch()
                        .map(|epoch| context.seal(key, &*row.model, version, self.policy, epoch));
                    let sealed = sealed.and_then(Result::ok);
                    !sealed.is_some_and(|value| holds(key, entry, &value.payload))
                }
            },
            Fact::Index(question, row_key) => {
                match judge(self.context, question, self.policy, entry, view) {
                    Seen::Index(ids, _) => !ids.iter().any(|id| entity.row_key(id) == *row_key),
                    Seen::Rows(..) | Seen::Miss(_) | Seen::Unknown => false,
                }
            }
        }
    }
}

impl Fact<'_> {
    fn key(&self) -> &Key {
        match self {
            Self::Row(key, _) => key,
            Self::Index(question, _) => &question.key,
        }
    }
}
