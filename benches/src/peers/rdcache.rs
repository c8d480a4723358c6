//! `rdcache`: leases by Lua over rustis' one multiplexed connection, MessagePack, its default
//! options. A hit is a script that reads a hash. It has no batches.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use rdcache::{Client, Options};

use super::{Contender, TTL, key};
use crate::{city::City, stage::Database};

#[derive(Clone)]
pub(crate) struct Rdcache {
    database: Database,
    cache: Arc<Client>,
}

impl Contender for Rdcache {
    const NAME: &'static str = "rdcache";
    const REDIS_DATABASE: u8 = 5;

    async fn open(database: Database, redis_url: &str) -> Result<Self> {
        let redis = rustis::client::Client::connect(redis_url).await?;
        let cache = Arc::new(Client::new(redis, Options::default()));
        Ok(Self { database, cache })
    }

    async fn find(&self, id: i64) -> Result<i64> {
        // Its own errors are of Redis and of MessagePack; the loader has none to give.
        let load = || async { Ok(self.database.select(id).await.ok().flatten()) };
        let city: Option<City> = self
            .cache
            .fetch(key(id), TTL, load)
            .await
            .map_err(|error| anyhow!("{error:?}"))?;
        city.map(|city| city.population)
            .ok_or_else(|| anyhow!("no such city"))
    }

    async fn set_population(&self, id: i64, population: i64) -> Result<()> {
        self.database.set_population(id, population).await?;
        self.cache
            .tag_as_deleted(key(id))
            .await
            .map_err(|error| anyhow!("{error:?}"))
    }

    fn selects(&self) -> u64 {
        self.database.selects()
    }
}
