//! One test's surroundings: a database, a cache, and what they were asked.

use cached_repo::{CachedDb, CachedDbBuilder, Config, internals::Entry};
use cached_repo_harness as harness;
use deadpool_redis::redis::{self, AsyncCommands};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, Schema, Statement};

use crate::{Backend, Statements, databases, eventually};

/// The tiers that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In the process.
    Memory,
    /// The shared Redis server.
    Redis,
}

/// A database and a key namespace of a test's own.
#[derive(Debug)]
pub struct World {
    /// The database, past the cache.
    pub conn: DatabaseConnection,
    /// The statements that it received, through the cache or past it.
    pub statements: Statements,
    /// What the test's keys start with.
    pub namespace: String,
    tier: Tier,
    redis_url: Option<String>,
    _directory: Option<tempfile::TempDir>,
}

impl World {
    /// An empty database.
    pub async fn new(backend: Backend, tier: Tier) -> Self {
        let redis_url = (tier == Tier::Redis).then(harness::redis_url);
        Self::over(backend, tier, redis_url).await
    }

    /// An empty database, and a Redis of the test's own.
    pub async fn on_redis(backend: Backend, redis_url: String) -> Self {
        Self::over(backend, Tier::Redis, Some(redis_url)).await
    }

    async fn over(backend: Backend, tier: Tier, redis_url: Option<String>) -> Self {
        let (conn, statements, directory) = databases::create(backend).await;
        let namespace = harness::unique("ns");
        Self {
            conn,
            statements,
            namespace,
            tier,
            redis_url,
            _directory: directory,
        }
    }

    /// Creates an entity's table.
    pub async fn create_table<E: EntityTrait>(&self, entity: E) {
        let schema = Schema::new(self.conn.get_database_backend());
        self.conn
            .execute(&schema.create_table_from_entity(entity))
            .await
            .unwrap();
        let _ = self.statements.take();
    }

    /// A cached database with default settings. With [`Tier::Redis`], each call is like another
    /// process: it shares the cache with the others, and nothing else.
    pub async fn db(&self) -> CachedDb {
        self.db_with(|_| {}).await
    }

    /// A cached database with some settings changed.
    pub async fn db_with(&self, change: impl FnOnce(&mut Config)) -> CachedDb {
        let mut config = Config::default();
        config.namespace.clone_from(&self.namespace);
        // A busy test machine must not look like a dead Redis.
        config.cache_timeout = std::time::Duration::from_secs(2);
        change(&mut config);
        let db = self.builder().config(config).build().await.unwrap();
        // Which database it is.
        let _ = self.statements.take();
        db
    }

    /// A builder over the database and the tier.
    pub fn builder(&self) -> CachedDbBuilder {
        let builder = CachedDb::builder(self.conn.clone());
        match &self.redis_url {
            None => builder,
            Some(url) => builder
                .redis(redis_pool(url))
                .subscriber(redis::Client::open(url.as_str()).unwrap()),
        }
    }

    /// Which tier it is.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> DbBackend {
        self.conn.get_database_backend()
    }

    /// Runs SQL past the library; names are quoted with `"` whatever the database.
    pub async fn raw(&self, sql: &str) {
        let sql = match self.backend() {
            DbBackend::MySql => sql.replace('"', "`"),
            _ => sql.to_owned(),
        };
        self.conn.execute_unprepared(&sql).await.unwrap();
        let _ = self.statements.take();
    }

    /// Waits until this many statements wait for a lock. Only PostgreSQL can report it.
    pub async fn lock_waiters(&self, count: i64) {
        let sql = "SELECT count(*) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the statements wait for a lock", async || {
            let statement = Statement::from_string(self.backend(), sql);
            let row = self.conn.query_one_raw(statement).await.unwrap().unwrap();
            (row.try_get::<i64>("", "n").unwrap() >= count).then_some(())
        })
        .await;
        let _ = self.statements.take();
    }

    /// The Redis key of a row, for identifiers that need no escaping.
    pub fn key(&self, entity: &str, id: impl std::fmt::Display) -> String {
        format!("{}:{entity}:{id}", self.namespace)
    }

    /// A connection to the tier's Redis, to look into it past the library.
    ///
    /// # Panics
    /// With [`Tier::Memory`].
    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let url = self.redis_url.as_deref().expect("the tier is Redis");
        let client = redis::Client::open(url).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Deletes every entry, as an eviction would.
    ///
    /// # Panics
    /// With [`Tier::Memory`].
    pub async fn evict_all(&self) {
        let mut redis = self.redis().await;
        let keys: Vec<String> = redis.keys(format!("{}:*", self.namespace)).await.unwrap();
        for key in keys.iter().filter(|key| !key.contains('#')) {
            let _: () = redis.del(key).await.unwrap();
        }
    }

    /// What Redis holds under a key.
    ///
    /// # Panics
    /// With [`Tier::Memory`], and when it holds something that is not an entry.
    pub async fn entry(&self, key: &str) -> Option<Entry> {
        let bytes: Option<Vec<u8>> = self.redis().await.get(key).await.unwrap();
        bytes.map(|bytes| Entry::from_bytes(&bytes.into()).unwrap())
    }
}

/// A pool over a Redis server.
///
/// # Panics
/// When the URL is not valid.
#[must_use]
pub fn redis_pool(url: &str) -> deadpool_redis::Pool {
    deadpool_redis::Config::from_url(url)
        .create_pool(Some(deadpool_redis::Runtime::Tokio1))
        .unwrap()
}
