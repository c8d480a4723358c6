//! The `cached` crate's `AsyncRedisCache`: one multiplexed connection, MessagePack. It offers
//! nothing for concurrent misses and no batches; a miss is loaded by hand, as its documentation
//! does.

use std::sync::Arc;

use anyhow::{Context, Result};
use cached::{AsyncRedisCache, ConcurrentCachedAsync, SerializeCachedAsync};

use super::{Contender, TTL};
use crate::{city::City, stage::Database};

#[derive(Clone)]
pub(crate) struct CachedCrate {
    database: Database,
    cache: Arc<AsyncRedisCache<i64, City>>,
}

impl Contender for CachedCrate {
    const NAME: &'static str = "cached";
    const REDIS_DATABASE: u8 = 3;

    async fn open(database: Database, redis_url: &str) -> Result<Self> {
        let cache = AsyncRedisCache::builder("city")
            .ttl(TTL)
            .connection_string(redis_url)
            .build()
            .await?;
        let cache = Arc::new(cache);
        Ok(Self { database, cache })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        if let Some(city) = self.cache.async_cache_get(&id).await? {
            return Ok(city.population);
        }
        let city = self.database.select(id).await?.context("no such city")?;
        self.cache.async_cache_set_ref(&id, &city).await?;
        Ok(city.population)
    }

    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        self.database.set_population(id, population).await?;
        self.cache.async_cache_delete(&id).await?;
        Ok(())
    }

    fn selects(&self) -> u64 {
        self.database.selects()
    }
}
