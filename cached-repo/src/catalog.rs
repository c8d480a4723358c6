//! Which models have which table, and which tables refer to it: what a write of one model means for
//! the others.
//!
//! Knows the models of which a repository was opened in this process, and no others.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::RwLock;

use crate::entity::foreign_key::ForeignKey;

/// The models of a `CachedDb`, each an `E`, by their tables.
#[derive(Debug)]
pub(crate) struct Catalog<E> {
    tables: RwLock<Tables<E>>,
}

#[derive(Debug)]
struct Tables<E> {
    models: HashMap<String, Vec<Weak<E>>>,
    foreign_keys: Vec<ForeignKey>,
}

impl<E> Catalog<E> {
    pub(crate) fn new() -> Self {
        Self {
            tables: RwLock::new(Tables {
                models: HashMap::new(),
                foreign_keys: Vec::new(),
            }),
        }
    }

    /// Adds a model and what it says of its table's relations.
    pub(crate) fn add(&self, table: &str, foreign_keys: &[ForeignKey], model: &Arc<E>) {
        let mut tables = self.tables.write();
        let models = tables.models.entry(table.to_owned()).or_default();
        models.push(Arc::downgrade(model));
        // Both ends of a relation may declare it, each a part of what it does.
        for foreign_key in foreign_keys {
            let mut listed = tables.foreign_keys.iter_mut();
            match listed.find(|listed| listed.is_same(foreign_key)) {
                Some(listed) => listed.merge(foreign_key),
                None => tables.foreign_keys.push(foreign_key.clone()),
            }
        }
    }

    /// The models of a table.
    pub(crate) fn models_of(&self, table: &str) -> Vec<Arc<E>> {
        let tables = self.tables.read();
        let models = tables.models.get(table).into_iter().flatten();
        models.filter_map(Weak::upgrade).collect()
    }

    /// The foreign keys by which the database changes other rows when one of this table is deleted or
    /// changed.
    pub(crate) fn referring_to(&self, table: &str) -> Vec<ForeignKey> {
        let tables = self.tables.read();
        let referring = tables.foreign_keys.iter();
        let referring = referring.filter(|foreign_key| foreign_key.parent == table);
        referring.cloned().collect()
    }
}
