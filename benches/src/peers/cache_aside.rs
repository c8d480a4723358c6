//! The cache that most teams write by hand: a pooled connection for every call, `GET`, JSON,
//! `SETEX` after a miss and `DEL` after a write.

use anyhow::{Context, Result};
use deadpool_redis::{Pool, Runtime, redis::AsyncCommands};

use super::{Contender, TTL, key};
use crate::{city::City, stage::Database};

/// What deadpool makes of this machine is `2 × cores`; see BENCHMARKS.md for other sizes.
const CONNECTIONS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct CacheAside {
    database: Database,
    pool: Pool,
}

impl CacheAside {
    /// Many rows by one `MGET`.
    pub(crate) async fn find_many(&self, ids: &[i64]) -> Result<usize> {
        let keys: Vec<_> = ids.iter().map(|&id| key(id)).collect();
        let found: Vec<Option<Vec<u8>>> = self.pool.get().await?.mget(&keys).await?;
        let mut cities = Vec::with_capacity(ids.len());
        for (json, &id) in found.into_iter().zip(ids) {
            cities.push(match json {
                Some(json) => serde_json::from_slice(&json)?,
                None => self.load(id).await?,
            });
        }
        Ok(cities.len())
    }

    async fn load(&self, id: i64) -> Result<City> {
        let city = self.database.select(id).await?.context("no such city")?;
        let json = serde_json::to_vec(&city)?;
        let mut redis = self.pool.get().await?;
        let () = redis.set_ex(key(id), json, TTL.as_secs()).await?;
        Ok(city)
    }
}

impl Contender for CacheAside {
    const NAME: &'static str = "cache_aside";
    const REDIS_DATABASE: u8 = 2;

    async fn open(database: Database, redis_url: &str) -> Result<Self> {
        let mut config = deadpool_redis::Config::from_url(redis_url);
        config.pool = Some(deadpool_redis::PoolConfig::new(CONNECTIONS));
        let pool = config.create_pool(Some(Runtime::Tokio1))?;
        Ok(Self { database, pool })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        let json: Option<Vec<u8>> = self.pool.get().await?.get(key(id)).await?;
        let city = match json {
            Some(json) => serde_json::from_slice(&json)?,
            None => self.load(id).await?,
        };
        Ok(city.population)
    }

    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        self.database.set_population(id, population).await?;
        let () = self.pool.get().await?.del(key(id)).await?;
        Ok(())
    }

    fn selects(&self) -> u64 {
        self.database.selects()
    }
}
