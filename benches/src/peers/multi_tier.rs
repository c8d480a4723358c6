//! `multi-tier-cache` with Redis as its only tier, so that what is measured is a shared hit: a
//! connection manager, JSON, and concurrent misses of one key in one process computed once. It has
//! no batches.

use std::sync::Arc;

use anyhow::Result;
use multi_tier_cache::{
    CacheError, CacheManager, CacheStrategy, CacheSystemBuilder, RedisCache, TierConfig,
};

use super::{Contender, TTL, key};
use crate::{city::City, stage::Database};

#[derive(Clone)]
pub(crate) struct MultiTier {
    database: Database,
    cache: Arc<CacheManager>,
}

impl Contender for MultiTier {
    const NAME: &'static str = "multi_tier";
    const REDIS_DATABASE: u8 = 4;

    async fn open(database: Database, redis_url: &str) -> Result<Self> {
        let redis = Arc::new(RedisCache::with_url(redis_url).await?);
        let system = CacheSystemBuilder::new()
            .with_tier(redis, TierConfig::as_l1())
            .build()
            .await?;
        let cache = Arc::clone(system.cache_manager());
        Ok(Self { database, cache })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        let load = || async {
            let city = self.database.select(id).await;
            let failed = |error: sea_orm::DbErr| CacheError::InternalError(error.to_string());
            city.map_err(failed)?.ok_or(CacheError::NotFound)
        };
        let strategy = CacheStrategy::Custom(TTL);
        let key = key(id);
        let city: City = self
            .cache
            .get_or_compute_typed(&key, strategy, load)
            .await?;
        Ok(city.population)
    }

    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        self.database.set_population(id, population).await?;
        self.cache.invalidate(&key(id)).await?;
        Ok(())
    }

    fn selects(&self) -> u64 {
        self.database.selects()
    }
}
