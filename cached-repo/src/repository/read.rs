//! The verbs that read.

use sea_orm::sea_query::IntoValueTuple;

use super::Repository;
use crate::{
    Cached, CachedEntity, Id, IntoId, ReadError, cached::Provenance, context::EntityContext,
};

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
        if let Some(row) = self.find_near(&id) {
            return Ok(row);
        }
        let rows = self.read().find(self.question(id)).await?;
        Ok(rows.into_one().map(Cached::from))
    }

    /// Loads a row from the database into the cache, whatever the cache holds. Inside a transaction
    /// it is only read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh(&self, id: impl IntoId<M>) -> Result<Option<Cached<M>>, ReadError> {
        self.fresh().find_by_id(id).await
    }

    /// Asks the near cache for a row, before anything else.
    #[inline]
    fn find_near(&self, id: &Id<M>) -> Option<Option<Cached<M>>> {
        let near = self.near.as_ref().filter(|_| self.policy.near)?;
        // Trusted before the look: an invalidation that leaves the queue has reached the near cache.
        let EntityContext { shared, entity, .. } = &**self.context();
        if !shared.queue.is_empty()
            && shared
                .queue
                .contains(&entity.row_key(&id.clone().into_value_tuple()))
        {
            return None;
        }
        let hit = near.get(id)?;
        entity.stats.near_hits.add(1);
        if hit.row.is_none() {
            entity.stats.absent_hits.add(1);
        }
        let provenance = Provenance::near(hit.age);
        Some(hit.row.map(|row| Cached::new(row, provenance)))
    }
}
