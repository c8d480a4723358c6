//! cached-repo, with every setting at its default but the TTL.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use cached_repo::{CachedDb, WriteError};
use deadpool_redis::Runtime;
use sea_orm::ActiveValue::Set;

use super::{Contender, TTL};
use crate::{city, stage::Database};

#[derive(Clone, Debug)]
pub(crate) struct Ours {
    pub(crate) cities: city::Repository,
    /// Writes that met a conflict in each of their attempts.
    pub(crate) given_up: Arc<AtomicU64>,
}

impl Contender for Ours {
    const NAME: &'static str = "ours";
    const REDIS_DATABASE: u8 = 1;

    async fn open(database: Database, redis_url: &str) -> Result<Self> {
        let pool =
            deadpool_redis::Config::from_url(redis_url).create_pool(Some(Runtime::Tokio1))?;
        let db = CachedDb::builder(database.conn().clone())
            .redis(pool)
            .namespace("bench")
            .ttl(TTL)
            .build()
            .await?;
        let cities = city::Repository::new(&db);
        Ok(Self {
            cities,
            given_up: Arc::default(),
        })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        let city = self.cities.find_by_id(id).await?;
        Ok(city.context("no such city")?.population)
    }

    /// Checked: it reads the row, and writes it if nobody else has meanwhile.
    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        let change = |city: &mut city::ActiveModel| city.population = Set(population);
        match self.cities.update_with(id, change).await {
            Ok(_) => Ok(()),
            // Too many tasks want this row; the caller gets the conflict, and may try again.
            Err(WriteError::VersionConflict { .. }) => {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn selects(&self) -> u64 {
        let stats = self.cities.stats();
        stats.misses + stats.bypasses
    }
}
