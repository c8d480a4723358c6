//! moka's future cache, with the TTL that ours has, since that is how it is used.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;

/// Rows by their keys.
#[derive(Clone)]
pub(crate) struct Moka<M>(Cache<i64, Arc<M>>);

impl<M: Send + Sync + 'static> Moka<M> {
    pub(crate) fn new(capacity: u64, ttl: Duration) -> Self {
        let cache = Cache::builder().max_capacity(capacity).time_to_live(ttl);
        Self(cache.build())
    }

    pub(crate) async fn insert(&self, id: i64, row: Arc<M>) {
        self.0.insert(id, row).await;
    }

    pub(crate) async fn get(&self, id: i64) -> Option<Arc<M>> {
        self.0.get(&id).await
    }
}
