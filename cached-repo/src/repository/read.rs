//! The verbs that read.

use super::Repository;
use crate::{Cached, CachedEntity, IntoId, ReadError};

impl<M: CachedEntity> Repository<M> {
    /// Reads a row through the cache: from the near cache if the entity has one, from the shared
    /// tier, else from the database, which fills the cache. `None` if there is no such row, which
    /// the cache remembers too, for `negative_ttl`.
    ///
    /// Concurrent calls for one row share one load. A cache that does not answer within
    /// `cache_timeout` costs a SELECT, not an error.
    ///
    /// # Errors
    /// When the database fails; every caller that shares the load gets the error, and nothing is
    /// cached. [`ReadError::Overloaded`] if there were too many loads for too long, see
    /// [`Config::max_loads`](crate::Config::max_loads).
    pub async fn find_by_id(&self, id: impl IntoId<M>) -> Result<Option<Cached<M>>, ReadError> {
        let id = id.into_id();
        // Here and not in a future of its own, which a near hit would have to set up.
        if let Some(row) = self.state.find_near(&self.scope, &id, &self.policy) {
            return Ok(row);
        }
        self.query(id).find().await
    }

    /// Loads a row from the database into the cache, whatever the cache holds. Inside a transaction
    /// it is only read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh(&self, id: impl IntoId<M>) -> Result<Option<Cached<M>>, ReadError> {
        self.fresh().find_by_id(id).await
    }
}
