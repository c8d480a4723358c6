//! A bare quick_cache: the least that a row in the process costs. No expiry, and no invalidation
//! after writes.

use std::sync::Arc;

use quick_cache::sync::Cache;

/// Rows by their keys.
#[derive(Clone)]
pub(crate) struct QuickCache<M>(Arc<Cache<i64, Arc<M>>>);

impl<M: Clone> QuickCache<M> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(Cache::new(capacity)))
    }

    pub(crate) fn insert(&self, id: i64, row: Arc<M>) {
        self.0.insert(id, row);
    }

    pub(crate) fn get(&self, id: i64) -> Option<Arc<M>> {
        self.0.get(&id)
    }
}
