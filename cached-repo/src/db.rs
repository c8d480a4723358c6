//! [`CachedDb`]: a database connection with a cache in front; it puts the parts together.
//!
//! Invariants:
//! - Writes, loads, refreshes, audits and queued invalidations that run in the background are
//!   joined by [`CachedDb::shutdown`].
//!
//! Does not know how rows are read or written.

use std::{fmt, sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DbErr, TransactionTrait};
use tokio::runtime::Handle;

use crate::{
    catalog::Catalog,
    clock::Clock,
    config::Config,
    context::Context,
    error::{CacheError, ConfigError, TransactionError},
    health::Health,
    invalidation::{Epochs, InvalidationQueue},
    near::{Generations, NotifyingTier},
    policy::OnCacheFailure,
    registry::Registry,
    session::Scope,
    tasks::Tasks,
    telemetry::{ConnectionStats, Stats, TierStats},
    tier::{Tier, TierError, memory::MemoryTier, tamper::Tamper},
    transaction::Transaction,
    write,
};
#[cfg(feature = "redis")]
use crate::{database::identity, tier::redis};

/// A database connection with a cache in front.
///
/// Cheap to clone; clones share everything. Build one per process and hand it to the repositories:
///
/// ```
/// # async fn example(conn: sea_orm::DatabaseConnection) -> Result<(), cached_repo::ConfigError> {
/// use cached_repo::CachedDb;
///
/// let db = CachedDb::builder(conn).namespace("shop").build().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CachedDb {
    registry: Arc<Registry>,
    tier_stats: Arc<TierStats>,
}

impl CachedDb {
    /// Starts building one over a connection.
    pub fn builder(conn: DatabaseConnection) -> CachedDbBuilder {
        CachedDbBuilder {
            conn,
            config: Config::default(),
            #[cfg(feature = "redis")]
            pool: None,
            #[cfg(feature = "redis")]
            subscriber: None,
            #[cfg(feature = "redis")]
            requires_redis: false,
            tamper: Tamper::Nothing,
        }
    }

    /// The connection, for statements that do not concern the cache.
    ///
    /// The cache does not see what is written through it: follow it with `invalidate`, `refresh`
    /// or `invalidate_all`, and raise the version of a versioned row; see
    /// [Writes past the library](crate#writes-past-the-library).
    #[must_use]
    pub fn connection(&self) -> &DatabaseConnection {
        &self.registry.context.conn
    }

    /// The counters of all entities together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let entities = self.registry.all();
        let counted = entities
            .iter()
            .map(|registered| registered.context().entity.stats.snapshot());
        Stats {
            pending_invalidations: self.pending_invalidations() as u64,
            ..counted.fold(Stats::default(), |sum, stats| sum + stats)
        }
    }

    /// The entities that a repository was opened of, by the name they have in cache keys, and
    /// their counters; ordered by name.
    #[must_use]
    pub fn entities(&self) -> Vec<(String, Stats)> {
        let entities = self.registry.all();
        let listed = entities
            .iter()
            .map(|registered| (registered.context().entity.name.clone(), registered.stats()));
        listed.collect()
    }

    /// Invalidates every row of the entity with this name, as
    /// [`Repository::invalidate_all`](crate::Repository::invalidate_all) does. Without a repository of
    /// such an entity there is nothing to invalidate; see [`entities`](Self::entities).
    ///
    /// # Errors
    /// When the cache does not acknowledge it now; the invalidation is queued and replayed.
    pub async fn invalidate_entity(&self, name: &str) -> Result<(), CacheError> {
        // Entities of one name have the same keys.
        match self.registry.named(name).first() {
            Some(registered) => write::invalidate_all(registered.context(), &Scope::Pool).await,
            None => Ok(()),
        }
    }

    /// Whether the cache can be used now; see [`Health`].
    #[must_use]
    pub fn health(&self) -> Health {
        let context = &self.registry.context;
        let problem = match context.tasks.have_ended() {
            true => Some(TierError::Failed("its runtime has ended".into())),
            false => context.tier.problem(),
        };
        Health {
            problem,
            pending_invalidations: context.queue.len(),
        }
    }

    /// How the connection to the shared tier has fared.
    #[must_use]
    pub fn connection_stats(&self) -> ConnectionStats {
        self.tier_stats.snapshot()
    }

    /// How many invalidations are queued until the cache is back; an entity that is queued as a
    /// whole counts as one.
    #[must_use]
    pub fn pending_invalidations(&self) -> usize {
        self.registry.context.queue.len()
    }

    /// Waits until writes, refreshes, audits and queued invalidations are done, at most `limit`;
    /// says whether all of them were. A stale row that the auditor follows is followed no further.
    ///
    /// Repositories keep working afterwards.
    pub async fn shutdown(&self, limit: Duration) -> Drained {
        let registry = Arc::clone(&self.registry);
        let drained = async move {
            let _ending = registry.auditor.end_watches();
            registry.context.tasks.join().await;
            registry.context.queue.hurry();
            registry.context.queue.drained().await;
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(()) => Drained::All,
            Err(_) => Drained::TimedOut,
        }
    }

    /// Runs `work` in a transaction: committed if it returns `Ok`, rolled back if it returns
    /// `Err`, or if this future is dropped before the COMMIT.
    ///
    /// ```
    /// # mod user {
    /// #     use sea_orm::entity::prelude::*;
    /// #     #[derive(Clone, Debug, DeriveEntityModel, cached_repo::CachedEntity)]
    /// #     #[sea_orm(table_name = "user")]
    /// #     pub struct Model {
    /// #         #[sea_orm(primary_key)] pub id: i64,
    /// #         pub credit: i64,
    /// #         #[cached(version)] pub version: i64,
    /// #     }
    /// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// #     pub enum Relation {}
    /// #     impl ActiveModelBehavior for ActiveModel {}
    /// # }
    /// # async fn example(db: cached_repo::CachedDb, users: user::Repository)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use cached_repo::WriteError;
    /// use sea_orm::ActiveValue::Set;
    ///
    /// db.transaction(async |tx| -> Result<(), WriteError> {
    ///     let users = users.on(tx);
    ///     let from = users.find_by_id(1).await?.map_or(0, |user| user.credit);
    ///     users.update_with(1, |user| user.credit = Set(0)).await?;
    ///     users.update_with(2, |user| user.credit = Set(from)).await?;
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`TransactionError::Work`] with the error of `work`; else why it did not begin or commit.
    pub async fn transaction<T, E>(
        &self,
        work: impl AsyncFnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        let tx = self.begin().await.map_err(TransactionError::Begin)?;
        tx.see_through(work).await
    }

    /// Begins a transaction, to be ended by [`Transaction::commit`] or
    /// [`Transaction::rollback`].
    ///
    /// # Errors
    /// When the database does not begin one.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let context = Arc::clone(&self.registry.context);
        let tasks = context.tasks.clone();
        // In a task of its own: dropped halfway, sqlx returns a connection to its pool that is
        // inside a transaction, and whatever is written over it next is lost
        // (<https://github.com/transact-rs/sqlx/issues/4393>).
        let begun = tasks.spawn(async move { context.conn.begin().await });
        let aborted = |_| {
            let why = "the runtime on which the `CachedDb` was built has ended";
            DbErr::Custom(why.into())
        };
        let conn = begun.await.map_err(aborted)??;
        Ok(Transaction::over(conn, None, &self.registry))
    }

    /// The same cache for another database with the same tables: that of a tenant, or the connection
    /// that has the tenant's `search_path` or role. Its rows have keys of their own below the namespace,
    /// `shop/acme`, so a repository of one tenant never serves a row of another.
    ///
    /// It shares the connection to Redis, the memory of the in-process tier and the settings. It has its
    /// own counters, load limit, queue of invalidations and [`shutdown`](Self::shutdown). Keep one per
    /// tenant: it costs a few kilobytes and a task.
    #[must_use]
    pub fn tenant(&self, name: &str, conn: DatabaseConnection) -> Self {
        let registry = &self.registry;
        let shared = &registry.context;
        let mut config = shared.config.clone();
        config.namespace = format!("{}/{name}", config.namespace);
        let tasks = Tasks::on(shared.tasks.runtime().clone());
        let (tier, epochs) = (Arc::clone(&shared.tier), Arc::clone(&shared.epochs));
        let context = context(conn, config, tier, epochs, tasks);
        Self {
            registry: Arc::new(registry.over(context)),
            tier_stats: Arc::clone(&self.tier_stats),
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

/// Whether background work was done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Everything is done.
    All,
    /// Something was still under way.
    TimedOut,
}

impl fmt::Debug for CachedDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedDb")
            .field("namespace", &self.registry.context.config.namespace)
            .field("tier", &self.registry.context.tier)
            .finish_non_exhaustive()
    }
}

/// Builds a [`CachedDb`].
#[must_use = "a builder does nothing until `build`"]
pub struct CachedDbBuilder {
    conn: DatabaseConnection,
    config: Config,
    #[cfg(feature = "redis")]
    pool: Option<deadpool_redis::Pool>,
    #[cfg(feature = "redis")]
    subscriber: Option<deadpool_redis::redis::Client>,
    #[cfg(feature = "redis")]
    requires_redis: bool,
    tamper: Tamper,
}

impl CachedDbBuilder {
    /// Takes every setting from `config`, also the Redis server if it names one. Call it first:
    /// it replaces what was set before.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Keeps rows in Redis, over connections of this pool, instead of in the process.
    ///
    /// The library keeps one connection of the pool and multiplexes over it, so the pool's size
    /// does not limit it.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, pool: deadpool_redis::Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The server from which near caches receive the changes of other processes, over a connection of
    /// its own. It must be the server of the pool given to [`redis`](Self::redis): a pool does not
    /// say which server it leads to. Only entities with `#[cached(near)]` need it; without it their
    /// near caches stay off. Default: the server of [`Config::redis`] if there is no pool.
    #[cfg(feature = "redis")]
    pub fn subscriber(mut self, client: deadpool_redis::redis::Client) -> Self {
        self.subscriber = Some(client);
        self
    }

    /// Makes [`build`](Self::build) fail if Redis cannot be used: it is not there, or refuses the
    /// password, the certificate or a command. Without it the cache is down until it can, and
    /// [`CachedDb::health`] says why.
    #[cfg(feature = "redis")]
    pub fn require_redis(mut self) -> Self {
        self.requires_redis = true;
        self
    }

    /// See [`Config::namespace`].
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.config.namespace = namespace.into();
        self
    }

    /// See [`Config::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = ttl;
        self
    }

    /// See [`Config::on_cache_failure`].
    pub fn on_cache_failure(mut self, policy: OnCacheFailure) -> Self {
        self.config.on_cache_failure = policy;
        self
    }

    /// Compares this share of the hits in the shared tier, from `0.0` for none to `1.0` for all, with
    /// the database in the background. See [`Config::audit_rate`].
    pub fn audit_rate(mut self, rate: f64) -> Self {
        self.config.audit_rate = rate;
        self
    }

    /// Leaves a part of the protocol out, for checkers that must notice it.
    #[cfg(feature = "tamper")]
    #[doc(hidden)]
    pub fn tampered(mut self, tamper: Tamper) -> Self {
        self.tamper = tamper;
        self
    }

    /// Builds it. A Redis that cannot be reached is no error: reads go to the database until it
    /// can.
    ///
    /// # Errors
    /// When a setting makes no sense, or the namespace belongs to another database in this Redis.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn build(mut self) -> Result<CachedDb, ConfigError> {
        self.config.validate()?;
        self.check_namespace()?;
        let clock = Clock::start();
        let tier_stats = Arc::new(TierStats::default());
        let tier = self.tier(clock, Arc::clone(&tier_stats)).await?;
        let generations = Arc::new(Generations::new());
        let tier = self.tamper.with(tier);
        let tier: Arc<dyn Tier> = Arc::new(NotifyingTier::new(tier, &generations));
        let tasks = Tasks::on(Handle::current());
        let listener = Arc::clone(&generations) as _;
        let epochs = Epochs::new(&tier, listener, &tasks, clock);
        let context = context(self.conn, self.config, tier, epochs, tasks);
        Ok(CachedDb {
            registry: Arc::new(Registry::new(context, generations, clock)),
            tier_stats,
        })
    }

    #[cfg(feature = "redis")]
    async fn tier(
        &self,
        clock: Clock,
        stats: Arc<TierStats>,
    ) -> Result<Arc<dyn Tier>, ConfigError> {
        let (pool, subscriber) = match (&self.pool, &self.config.redis) {
            (Some(pool), _) => (pool.clone(), None),
            (None, Some(redis)) => (
                redis.create_pool(Some(deadpool_redis::Runtime::Tokio1))?,
                Some(client(redis)?),
            ),
            (None, None) => return Ok(self.memory_tier(clock)),
        };
        let database = match tokio::time::timeout(IDENTITY_LIMIT, identity(&self.conn)).await {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the namespace is not checked: the database does not answer");
                None
            }
            Err(_) => {
                tracing::warn!("the namespace is not checked: the database does not answer");
                None
            }
        };
        let settings = redis::Settings {
            database,
            pool,
            subscriber: self.subscriber.clone().or(subscriber),
            namespace: &self.config.namespace,
            timeout: self.config.cache_timeout,
            queue: self.config.max_queued_reads,
        };
        let tier = redis::RedisTier::open(settings, clock, stats).await;
        match tier.problem() {
            Some(TierError::OtherDatabase(database)) => Err(ConfigError::OtherDatabase {
                namespace: self.config.namespace.clone(),
                database,
            }),
            Some(source) if self.requires_redis => Err(ConfigError::Unavailable { source }),
            _ => Ok(Arc::new(tier)),
        }
    }

    /// Applications without a namespace would serve each other's rows.
    fn check_namespace(&mut self) -> Result<(), ConfigError> {
        if !self.config.namespace.is_empty() {
            return Ok(());
        }
        #[cfg(feature = "redis")]
        if self.pool.is_some() || self.config.redis.is_some() {
            return Err(ConfigError::Invalid {
                setting: "namespace",
                expected: "set where Redis is configured: applications without a namespace would \
                           serve each other's rows",
            });
        }
        self.config.namespace = LOCAL_NAMESPACE.into();
        Ok(())
    }

    #[cfg(not(feature = "redis"))]
    async fn tier(&self, clock: Clock, _: Arc<TierStats>) -> Result<Arc<dyn Tier>, ConfigError> {
        Ok(self.memory_tier(clock))
    }

    fn memory_tier(&self, clock: Clock) -> Arc<dyn Tier> {
        Arc::new(MemoryTier::new(self.config.memory_capacity_bytes, clock))
    }
}

fn context(
    conn: DatabaseConnection,
    config: Config,
    tier: Arc<dyn Tier>,
    epochs: Arc<Epochs>,
    tasks: Tasks,
) -> Context {
    let (shared, outdate) = (Arc::clone(&tier), Arc::clone(&epochs));
    Context {
        queue: InvalidationQueue::start(shared, outdate, &config, tasks.runtime()),
        epochs,
        conn,
        tier,
        config,
        tasks,
        catalog: Catalog::new(),
    }
}

/// What keys start with in the memory of a process.
const LOCAL_NAMESPACE: &str = "local";
/// How long the database may take to say which one it is.
#[cfg(feature = "redis")]
const IDENTITY_LIMIT: Duration = Duration::from_secs(2);

/// A client of the server that a pool of `config` leads to.
#[cfg(feature = "redis")]
fn client(config: &deadpool_redis::Config) -> Result<deadpool_redis::redis::Client, ConfigError> {
    use deadpool_redis::{CreatePoolError, redis::Client};
    let client = match (&config.url, config.connection.clone()) {
        (Some(url), _) => Client::open(url.as_str()),
        (None, connection) => Client::open(connection.unwrap_or_default()),
    };
    client.map_err(|error| CreatePoolError::Config(error.into()).into())
}

impl fmt::Debug for CachedDbBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedDbBuilder")
            .field("namespace", &self.config.namespace)
            .finish_non_exhaustive()
    }
}
