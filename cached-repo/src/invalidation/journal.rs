//! The journal: what a write, or a transaction, has changed, by cache key.
//!
//! Invariants:
//! - A key is noted before the statement that changes it is sent, so that a statement whose answer
//!   is lost is published all the same.
//!
//! Does not tell the cache.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use sea_orm::sea_query::ValueTuple;

use crate::{
    entity::Entity,
    policy::OnCacheFailure,
    protocol::{Key, Version, state::Value},
    telemetry::EntityStats,
};

/// What a write, or a transaction, has changed, by cache key.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    pub(crate) keys: HashMap<Key, Change>,
    /// Rows that statements of the user's own have changed, as each model of the table has them. They
    /// are read before the COMMIT, to invalidate the index entries that lead to them.
    pub(crate) unread: HashMap<Key, Vec<UnreadRow>>,
    /// Entities any row of which may have changed, by what their keys start with, and what to do if
    /// the cache fails.
    pub(crate) entities: HashMap<Arc<str>, OnCacheFailure>,
}

/// A row that is to be read.
#[derive(Clone)]
pub(crate) struct UnreadRow {
    pub(crate) entity: Arc<Entity>,
    pub(crate) id: ValueTuple,
    /// The change of each index entry that leads to it.
    pub(crate) index_change: Change,
}

/// What is to be published of one key.
#[derive(Clone)]
pub(crate) struct Change {
    /// What every key of the entity starts with.
    pub(crate) prefix: Arc<str>,
    pub(crate) stats: Arc<EntityStats>,
    pub(crate) on_failure: OnCacheFailure,
    /// How many statements wrote it.
    pub(crate) writes: u64,
    /// Nothing below may be stored.
    pub(crate) floor: Version,
    /// Statements of the user's own may change the row, so that no row may be stored.
    pub(crate) raw: bool,
    /// The row as it was last written, if it may be stored.
    pub(crate) put: Option<Put>,
}

/// A row to be stored.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) version: Version,
    pub(crate) inserted: bool,
    pub(crate) value: Value,
}

impl Change {
    /// Adds what came later.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.writes += later.writes;
        self.floor = self.floor.max(later.floor);
        self.raw |= later.raw;
        self.put = later.put.filter(|_| !self.raw);
    }

    /// The version below which nothing may be stored once it is published.
    pub(crate) fn known(&self) -> Version {
        self.put
            .as_ref()
            .map_or(self.floor, |put| put.version.max(self.floor))
    }
}

impl Journal {
    /// Adds what came later.
    pub(crate) fn note(&mut self, key: Key, later: Change) {
        match self.keys.entry(key) {
            Entry::Occupied(mut earlier) => earlier.get_mut().absorb(later),
            Entry::Vacant(vacant) => {
                vacant.insert(later);
            }
        }
    }

    /// Notes entities any row of which may change.
    pub(crate) fn note_entities(
        &mut self,
        entities: impl IntoIterator<Item = (Arc<str>, OnCacheFailure)>,
    ) {
        for (prefix, on_failure) in entities {
            let noted = self.entities.entry(prefix).or_insert(on_failure);
            if on_failure == OnCacheFailure::Refuse {
                *noted = OnCacheFailure::Refuse;
            }
        }
    }

    /// Notes the entities with the most keys as a whole, until at most so many keys are left.
    pub(crate) fn summarize(&mut self, most: usize) {
        while self.keys.len() > most {
            let mut keys: HashMap<&Arc<str>, (usize, OnCacheFailure)> = HashMap::new();
            for change in self.keys.values() {
                let entity = keys.entry(&change.prefix);
                entity.or_insert((0, change.on_failure)).0 += 1;
            }
            let largest = keys.into_iter().max_by_key(|(_, (keys, _))| *keys);
            let Some((prefix, (_, on_failure))) = largest else {
                return;
            };
            let largest = Arc::clone(prefix);
            self.keys.retain(|_, change| change.prefix != largest);
            self.note_entities([(largest, on_failure)]);
        }
    }

    /// Notes entities as a whole of which more rows are to be read.
    pub(crate) fn summarize_unread(&mut self, most: usize) {
        let mut rows: HashMap<Arc<str>, (usize, OnCacheFailure)> = HashMap::new();
        for row in self.unread.values().flatten() {
            let entity = rows.entry(Arc::clone(row.entity.keys.prefix()));
            entity.or_insert((0, row.index_change.on_failure)).0 += 1;
        }
        rows.retain(|_, (rows, _)| *rows > most);
        for listed in self.unread.values_mut() {
            listed.retain(|row| !rows.contains_key(row.entity.keys.prefix()));
        }
        let entities = rows.into_iter();
        self.note_entities(entities.map(|(prefix, (_, on_failure))| (prefix, on_failure)));
    }

    /// Adds a row that is to be read.
    pub(crate) fn add_unread(&mut self, key: Key, row: UnreadRow) {
        let rows = self.unread.entry(key).or_default();
        if !rows
            .iter()
            .any(|listed| Arc::ptr_eq(&listed.entity, &row.entity))
        {
            rows.push(row);
        }
    }

    /// Adds what a savepoint is about to keep: nothing of it is put yet, and nothing was written.
    pub(crate) fn forewarn(&mut self, nested: &Self) {
        for (key, change) in &nested.keys {
            let warning = Change {
                put: None,
                writes: 0,
                ..change.clone()
            };
            self.note(key.clone(), warning);
        }
        for (key, rows) in &nested.unread {
            rows.iter()
                .for_each(|row| self.add_unread(key.clone(), row.clone()));
        }
        let entities = nested.entities.iter();
        self.note_entities(entities.map(|(prefix, on_failure)| (Arc::clone(prefix), *on_failure)));
    }

    /// Adds what came later.
    pub(crate) fn absorb(&mut self, later: Self) {
        for (key, change) in later.keys {
            self.note(key, change);
        }
        for (key, rows) in later.unread {
            rows.into_iter()
                .for_each(|row| self.add_unread(key.clone(), row));
        }
        self.note_entities(later.entities);
    }
}
