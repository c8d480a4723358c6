//! No cache: plain SeaORM.

use anyhow::{Context, Result};

use super::Contender;
use crate::stage::Database;

#[derive(Clone, Debug)]
pub(crate) struct SeaOrm {
    database: Database,
}

impl Contender for SeaOrm {
    const NAME: &'static str = "seaorm";
    const REDIS_DATABASE: u8 = 0;

    async fn open(database: Database, _redis_url: &str) -> Result<Self> {
        Ok(Self { database })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        let city = self.database.select(id).await?;
        Ok(city.context("no such city")?.population)
    }

    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        Ok(self.database.set_population(id, population).await?)
    }

    fn selects(&self) -> u64 {
        self.database.selects()
    }
}
