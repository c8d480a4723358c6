//! [`CachedDb`]: a database connection with a cache in front, and the state its repositories share.
//!
//! Invariants:
//! - A repository's state is per entity and per `CachedDb`, never global: two of them never share
//!   a flight, a counter or a setting.
//! - Writes, loads, refreshes, audits and owed invalidations that run in the background are joined
//!   by [`CachedDb::shutdown`].

use std::{
    any::{Any, TypeId},
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, EntityName, sea_query::FromValueTuple};
use tokio_util::task::TaskTracker;

#[cfg(feature = "redis")]
use crate::tier::redis;
use crate::{
    CachedEntity, ConfigError, Id,
    clock::Clock,
    config::{Config, OnCacheFailure, ReadPolicy},
    internals::Tamper,
    lookup,
    near::{NearCache, Stamps, Witness},
    protocol::{Key, KeySpace, LookupSpace, RowError, Version, seal_row, state::Value},
    read::{Auditor, Flights, Flown, LoadLimit, Loader, ms, search::Rows},
    session::{Change, Put},
    telemetry::{ConnectionStats, EntityStats, Stats, TierStats},
    tier::{Tier, memory::MemoryTier},
    write::Pending,
};

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
    core: Arc<Core>,
    entities: Arc<Mutex<Entities>>,
}

#[derive(Default)]
struct Entities {
    states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    stats: Vec<Arc<EntityStats>>,
}

/// What every repository of a [`CachedDb`] shares.
pub(crate) struct Core {
    pub(crate) conn: DatabaseConnection,
    pub(crate) tier: Arc<dyn Tier>,
    pub(crate) config: Config,
    pub(crate) pending: Pending,
    pub(crate) auditor: Auditor,
    pub(crate) loads: LoadLimit,
    pub(crate) tasks: TaskTracker,
    clock: Clock,
    /// Which of the things that near caches hold may still be served.
    stamps: Arc<Stamps>,
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
            tamper: Tamper::Nothing,
        }
    }

    /// The connection, for statements that do not concern the cache.
    ///
    /// What is written through it, the cache does not see: follow it with `invalidate`,
    /// `refresh` or `invalidate_all`.
    #[must_use]
    pub fn connection(&self) -> &DatabaseConnection {
        &self.core.conn
    }

    /// The counters of all entities together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let entities = self.entities.lock();
        let sum = entities
            .stats
            .iter()
            .fold(Stats::default(), |sum, stats| sum + stats.snapshot());
        Stats {
            pending_invalidations: self.pending_invalidations() as u64,
            ..sum
        }
    }

    /// How the connection to the shared tier has fared.
    #[must_use]
    pub fn connection_stats(&self) -> ConnectionStats {
        self.core.tier_stats.snapshot()
    }

    /// How many invalidations wait for the cache to come back; an entity that is owed one as a
    /// whole counts as one.
    #[must_use]
    pub fn pending_invalidations(&self) -> usize {
        self.core.pending.len()
    }

    /// Waits until writes, refreshes, audits and queued invalidations are done, at most `limit`;
    /// says whether all of them were. A stale row that the auditor follows is followed no further.
    ///
    /// Repositories keep working afterwards.
    pub async fn shutdown(&self, limit: Duration) -> Drained {
        let core = Arc::clone(&self.core);
        let drained = async move {
            let _ending = core.auditor.end_watches();
            core.tasks.close();
            core.tasks.wait().await;
            core.tasks.reopen();
            core.pending.hurry();
            core.pending.drained().await;
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(()) => Drained::All,
            Err(_) => {
                self.core.tasks.reopen();
                Drained::TimedOut
            }
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The state of one entity's repository, made at its first use.
    pub(crate) fn entity<M: CachedEntity>(&self) -> Arc<EntityState<M>> {
        let mut entities = self.entities.lock();
        if let Some(state) = entities.states.get(&TypeId::of::<M>())
            && let Ok(state) = Arc::clone(state).downcast::<EntityState<M>>()
        {
            return state;
        }
        let state = Arc::new(EntityState::<M>::new(Arc::clone(&self.core)));
        entities.stats.push(Arc::clone(&state.stats));
        entities
            .states
            .insert(TypeId::of::<M>(), Arc::clone(&state) as _);
        state
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
            .field("namespace", &self.core.config.namespace)
            .field("tier", &self.core.tier)
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

    /// Where near caches hear what other processes change, over a connection of its own: the server
    /// that the pool of [`redis`](Self::redis) leads to. Only entities with `#[cached(near)]` need
    /// it, and without it their near caches stay off. Default: the server of [`Config::redis`] if there
    /// is no pool.
    #[cfg(feature = "redis")]
    pub fn subscriber(mut self, client: deadpool_redis::redis::Client) -> Self {
        self.subscriber = Some(client);
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
    /// the database in the background. See [`Config::audit`].
    pub fn audit(mut self, rate: f64) -> Self {
        self.config.audit = rate;
        self
    }

    /// Leaves a part of the protocol out, for checkers that must see what is then missing.
    #[doc(hidden)]
    pub fn tampered(mut self, tamper: Tamper) -> Self {
        self.tamper = tamper;
        self
    }

    /// Builds it. A Redis that cannot be reached is no error: reads go to the database until it
    /// can.
    ///
    /// # Errors
    /// When a setting makes no sense.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn build(self) -> Result<CachedDb, ConfigError> {
        self.config.validate()?;
        let clock = Clock::start();
        let tier_stats = Arc::new(TierStats::default());
        let tier = self.tier(clock, Arc::clone(&tier_stats)).await?;
        let stamps = Arc::new(Stamps::new());
        let tier: Arc<dyn Tier> = Arc::new(Witness::of(self.tamper.with(tier), &stamps));
        let pending = Pending::start(Arc::clone(&tier), &self.config);
        let auditor = Auditor::new(self.config.audit);
        let core = Core {
            conn: self.conn,
            tier,
            loads: LoadLimit::of(&self.config),
            config: self.config,
            pending,
            auditor,
            tasks: TaskTracker::new(),
            clock,
            stamps,
            tier_stats,
        };
        Ok(CachedDb {
            core: Arc::new(core),
            entities: Arc::default(),
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
        let settings = redis::Settings {
            pool,
            subscriber: self.subscriber.clone().or(subscriber),
            namespace: &self.config.namespace,
            timeout: self.config.cache_timeout,
            queue: self.config.cache_queue,
        };
        Ok(Arc::new(
            redis::RedisTier::open(settings, clock, stats).await,
        ))
    }

    #[cfg(not(feature = "redis"))]
    async fn tier(&self, clock: Clock, _: Arc<TierStats>) -> Result<Arc<dyn Tier>, ConfigError> {
        Ok(self.memory_tier(clock))
    }

    fn memory_tier(&self, clock: Clock) -> Arc<dyn Tier> {
        Arc::new(MemoryTier::new(self.config.memory_capacity_bytes, clock))
    }
}

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

/// What the repositories of one entity share.
pub(crate) struct EntityState<M: CachedEntity> {
    pub(crate) core: Arc<Core>,
    pub(crate) name: String,
    pub(crate) keys: KeySpace,
    /// The keys of each of [`CachedEntity::lookups`].
    pub(crate) hints: Vec<LookupSpace>,
    pub(crate) policy: ReadPolicy,
    pub(crate) on_cache_failure: OnCacheFailure,
    pub(crate) flights: Flights<Flown<M>>,
    pub(crate) searches: Flights<Rows<M>>,
    pub(crate) loader: Loader<M>,
    /// `None` without `#[cached(near)]`.
    pub(crate) near: Option<NearCache<M>>,
    /// Keys that a background task reloads.
    pub(crate) refreshing: Mutex<HashSet<Key>>,
    pub(crate) stats: Arc<EntityStats>,
}

impl<M: CachedEntity> EntityState<M> {
    fn new(core: Arc<Core>) -> Self {
        let options = &M::DEFINITION.options;
        let name = match options.name {
            Some(name) => name.to_owned(),
            None => {
                let entity = M::Entity::default();
                match entity.schema_name() {
                    Some(schema) => format!("{schema}.{}", entity.table_name()),
                    None => entity.table_name().to_owned(),
                }
            }
        };
        let keys = KeySpace::new(&core.config.namespace, &name);
        let near = M::near().filter(|_| core.config.near).map(|options| {
            core.tier.listen(Arc::clone(&core.stamps) as _);
            NearCache::open(&options, &core.config, &core.stamps, core.clock)
        });
        Self {
            hints: lookup::spaces::<M>(&keys),
            keys,
            policy: ReadPolicy::of(&core.config, options),
            on_cache_failure: options
                .on_cache_failure
                .unwrap_or(core.config.on_cache_failure),
            core,
            name,
            flights: Flights::new(),
            searches: Flights::new(),
            loader: Loader::new(),
            near,
            refreshing: Mutex::default(),
            stats: Arc::default(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            pending_invalidations: self.core.pending.len_of(self.keys.prefix()) as u64,
            ..self.stats.snapshot()
        }
    }

    pub(crate) fn key_of(&self, row: &M) -> Key {
        self.keys.row(row.get_primary_key_value())
    }

    /// A change to a key of this entity.
    pub(crate) fn change(&self, floor: Version, put: Option<Put>) -> Change {
        Change {
            prefix: Arc::clone(self.keys.prefix()),
            stats: Arc::clone(&self.stats),
            on_failure: self.on_cache_failure,
            of_hint: false,
            writes: 0,
            floor,
            raw: false,
            put,
        }
    }

    /// A change to what a row is found by.
    pub(crate) fn hint_change(&self) -> Change {
        Change {
            of_hint: true,
            ..self.change(Version::ZERO, None)
        }
    }

    /// A change by statements of the user's own.
    pub(crate) fn raw_change(&self) -> Change {
        Change {
            raw: true,
            ..self.change(Version::ZERO, None)
        }
    }

    pub(crate) fn id_of(row: &M) -> Id<M> {
        Id::<M>::from_value_tuple(row.get_primary_key_value())
    }

    /// Encodes and seals a row for as long as `policy` says.
    pub(crate) fn seal(
        &self,
        key: &Key,
        row: &M,
        version: Version,
        policy: &ReadPolicy,
    ) -> Result<Value, RowError> {
        let payload = seal_row(key, version, M::DEFINITION.format(), |encoder| {
            row.encode(encoder)
        })
        .inspect_err(|_| self.stats.encode_errors.add(1))?;
        let fresh_ms = self.jittered_ms(policy.ttl);
        let ttl_ms = fresh_ms.saturating_add(ms(policy.stale_ttl));
        Ok(Value {
            payload,
            schema: M::DEFINITION.schema,
            load_cost_ms: 0,
            fresh_ms,
            ttl_ms,
        })
    }

    /// A TTL less a random share of it, so that rows stored together do not expire together.
    pub(crate) fn jittered_ms(&self, ttl: Duration) -> u64 {
        ms(ttl.mul_f64(1.0 - self.core.config.ttl_jitter * fastrand::f64())).max(1)
    }
}

impl<M: CachedEntity> fmt::Debug for EntityState<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityState")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
