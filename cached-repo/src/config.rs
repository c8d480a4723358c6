//! Every setting and every default.
//!
//! Three layers: this configuration, then `#[cached(…)]` on the entity, then [`ReadOptions`] on
//! the call.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{entity::EntityOptions, error::ConfigError, policy::OnCacheFailure};

/// The settings of a [`CachedDb`](crate::CachedDb).
///
/// Deserializes from TOML, JSON or environment variables (through the `config` crate, say);
/// durations are written as in `"10m"`, `"1h 30m"` or `"250ms"`. A setting that is left out has its default.
///
/// ```
/// let config: cached_repo::Config = toml::from_str(
///     r#"
///     namespace = "shop"
///     ttl = "5m"
///     on_cache_failure = "refuse"
///     redis = { url = "redis://127.0.0.1:6379" }
///     "#,
/// )?;
/// assert_eq!(config.ttl.as_secs(), 300);
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// What every key starts with, so that applications can share a Redis: at most 64 bytes. One
    /// namespace is for one database. Required where Redis is configured. Default: empty.
    pub namespace: String,
    /// Where Redis is. Default: none, the in-process tier.
    #[cfg(feature = "redis")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<deadpool_redis::Config>,
    /// How long a row is served from the cache. Default: 10 minutes.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// How long a row is known not to exist; zero turns negative caching off. Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub negative_ttl: Duration,
    /// How long after its TTL a row may still be served while it is reloaded
    /// (stale-while-revalidate). Default: zero, never.
    #[serde(with = "humantime_serde")]
    pub stale_ttl: Duration,
    /// The share of a TTL that is drawn at random, so that rows loaded together do not expire
    /// together. Default: `0.1`, a TTL of 10 minutes ends after 9 to 10.
    pub ttl_jitter: f64,
    /// How eagerly a row is reloaded shortly before its TTL by one of its readers (XFetch's β);
    /// zero turns it off. Default: `1.0`.
    pub early_refresh: f64,
    /// How long a reader may take to load a row before another may try. Default: 3 seconds.
    #[serde(with = "humantime_serde")]
    pub lease_ttl: Duration,
    /// How long a reader waits for another process that loads the same row, before it asks the
    /// database itself. Default: 500 milliseconds.
    #[serde(with = "humantime_serde")]
    pub lease_wait: Duration,
    /// How long a write may take before readers take its outcome for unknown; must be longer than
    /// the database's statement time-out. Default: 5 seconds.
    #[serde(with = "humantime_serde")]
    pub block_ttl: Duration,
    /// How long a tombstone remembers the version it stands for; must be longer than `block_ttl`.
    /// Default: 30 seconds.
    #[serde(with = "humantime_serde")]
    pub tombstone_ttl: Duration,
    /// How long one operation on Redis may take. Default: 100 milliseconds.
    #[serde(with = "humantime_serde")]
    pub cache_timeout: Duration,
    /// How many reads may wait for Redis at a time; beyond it, a read asks the database at once.
    /// Reads do not wait while Redis keeps up, and none longer than `cache_timeout`, so there is
    /// little reason to change it. Default: 10,000.
    pub max_queued_reads: usize,
    /// How many SELECTs may load rows at a time, so that a cache that is cold or down cannot flood
    /// the database; further loads wait. Reads inside transactions do not count. A few times the
    /// size of the database's pool keeps the pool busy and lets other statements have their turn;
    /// less than its size keeps connections free for them. Default: 64.
    pub max_loads: usize,
    /// How many loads may wait for their turn at a time, of the rows of each entity, and of lists and
    /// batches; beyond it, a read fails with [`ReadError::Overloaded`](crate::ReadError::Overloaded) at
    /// once. Default: 10,000.
    pub max_queued_loads: usize,
    /// How long a load waits for its turn before the read fails with
    /// [`ReadError::Overloaded`](crate::ReadError::Overloaded). Make it shorter than the time-out
    /// of the requests that read, and than `lease_ttl`: a load that begins later is not stored.
    /// Default: 2 seconds.
    #[serde(with = "humantime_serde")]
    pub load_queue_timeout: Duration,
    /// What a write does when the cache does not answer. Default: [`OnCacheFailure::Proceed`].
    pub on_cache_failure: OnCacheFailure,
    /// The share of hits in the shared tier, rows and known absences, that the auditor compares with
    /// the database in the background: `0.01` is one in a hundred, `1.0` all of them. Each costs a
    /// SELECT by the primary key, at most 16 at a time; what it finds is in [`Stats`](crate::Stats),
    /// under `audit_…`, and each stale entry is logged as a warning with its key. Default: `0.0`, off.
    pub audit_rate: f64,
    /// How often `update_with` tries before it gives up on conflicts. Default: 10.
    pub update_attempts: u32,
    /// How many invalidations are remembered while the cache is down; beyond it, whole entities
    /// are distrusted. Default: 100,000.
    pub pending_capacity: usize,
    /// How many rows of one lookup by an index are kept; longer lists are served from the database.
    /// `#[cached(index(max_rows = 100))]` says otherwise for one index. Default: 1,000.
    pub index_max_rows: usize,
    /// Whether entities with `#[cached(near)]` have a near cache (L1): rows in this process, ready
    /// to be served, which other processes' writes end within milliseconds. `false` turns all of
    /// them off. Default: `true`.
    pub near: bool,
    /// How many rows and absences the near cache of an entity keeps; `#[cached(near(capacity =
    /// 50_000))]`, or `near(capacity = "16MiB")`, says otherwise for one entity.
    /// Default: 10,000.
    pub near_capacity: u64,
    /// How long a near cache serves what it keeps, and so how long it may serve an older state if
    /// an invalidation is lost; never longer than the row's TTL. `#[cached(near(ttl = "1s"))]` says
    /// otherwise for one entity. Default: 5 seconds.
    #[serde(with = "humantime_serde")]
    pub near_ttl: Duration,
    /// How many bytes the in-process tier keeps. Default: 64 MiB.
    pub memory_capacity_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            #[cfg(feature = "redis")]
            redis: None,
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(30),
            stale_ttl: Duration::ZERO,
            ttl_jitter: 0.1,
            early_refresh: 1.0,
            lease_ttl: Duration::from_secs(3),
            lease_wait: Duration::from_millis(500),
            block_ttl: Duration::from_secs(5),
            tombstone_ttl: Duration::from_secs(30),
            cache_timeout: Duration::from_millis(100),
            max_queued_reads: 10_000,
            max_loads: 64,
            max_queued_loads: 10_000,
            load_queue_timeout: Duration::from_secs(2),
            on_cache_failure: OnCacheFailure::Proceed,
            audit_rate: 0.0,
            update_attempts: 10,
            pending_capacity: 100_000,
            index_max_rows: 1_000,
            near: true,
            near_capacity: 10_000,
            near_ttl: Duration::from_secs(5),
            memory_capacity_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Shows whether there are Redis settings, not their values: a URL may hold a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = f.debug_struct("Config");
        config.field("namespace", &self.namespace);
        #[cfg(feature = "redis")]
        config.field("redis", &self.redis.as_ref().map(|_| ".."));
        config
            .field("ttl", &self.ttl)
            .field("negative_ttl", &self.negative_ttl)
            .field("stale_ttl", &self.stale_ttl)
            .field("ttl_jitter", &self.ttl_jitter)
            .field("early_refresh", &self.early_refresh)
            .field("lease_ttl", &self.lease_ttl)
            .field("lease_wait", &self.lease_wait)
            .field("block_ttl", &self.block_ttl)
            .field("tombstone_ttl", &self.tombstone_ttl)
            .field("cache_timeout", &self.cache_timeout)
            .field("max_queued_reads", &self.max_queued_reads)
            .field("max_loads", &self.max_loads)
            .field("max_queued_loads", &self.max_queued_loads)
            .field("load_queue_timeout", &self.load_queue_timeout)
            .field("on_cache_failure", &self.on_cache_failure)
            .field("audit_rate", &self.audit_rate)
            .field("update_attempts", &self.update_attempts)
            .field("pending_capacity", &self.pending_capacity)
            .field("index_max_rows", &self.index_max_rows)
            .field("near", &self.near)
            .field("near_capacity", &self.near_capacity)
            .field("near_ttl", &self.near_ttl)
            .field("memory_capacity_bytes", &self.memory_capacity_bytes)
            .finish()
    }
}

/// The longest TTL: more does not fit into an entry.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST_NAMESPACE_BYTES: usize = 64;

impl Config {
    /// # Errors
    /// Names the first setting that makes no sense, and what would.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |setting, expected| Err(ConfigError::Invalid { setting, expected });
        if self.namespace.len() > LONGEST_NAMESPACE_BYTES {
            return invalid("namespace", "at most 64 bytes long");
        }
        if self.ttl < SHORTEST || self.ttl > LONGEST_TTL {
            return invalid("ttl", "between 1 millisecond and 100 days");
        }
        if self.negative_ttl > LONGEST_TTL {
            return invalid(
                "negative_ttl",
                "at most 100 days; zero turns negative caching off",
            );
        }
        if self.stale_ttl > LONGEST_TTL {
            return invalid("stale_ttl", "at most 100 days");
        }
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return invalid("ttl_jitter", "at least 0 and below 1");
        }
        if !(self.early_refresh >= 0.0 && self.early_refresh.is_finite()) {
            return invalid("early_refresh", "zero or a positive number");
        }
        let hour = Duration::from_secs(3600);
        if self.lease_ttl < SHORTEST || self.lease_ttl > hour {
            return invalid("lease_ttl", "between 1 millisecond and 1 hour");
        }
        if self.lease_wait > hour {
            return invalid("lease_wait", "at most 1 hour");
        }
        if self.block_ttl < SHORTEST || self.block_ttl > hour {
            return invalid("block_ttl", "between 1 millisecond and 1 hour");
        }
        if self.tombstone_ttl <= self.block_ttl || self.tombstone_ttl > 24 * hour {
            return invalid("tombstone_ttl", "longer than `block_ttl` and at most 1 day");
        }
        if self.cache_timeout < SHORTEST || self.cache_timeout >= self.block_ttl {
            return invalid(
                "cache_timeout",
                "at least 1 millisecond and shorter than `block_ttl`",
            );
        }
        if !(0.0..=1.0).contains(&self.audit_rate) {
            return invalid("audit_rate", "between 0 and 1; zero turns the auditor off");
        }
        if self.max_queued_reads == 0 {
            return invalid("max_queued_reads", "at least 1");
        }
        if self.max_loads == 0 {
            return invalid("max_loads", "at least 1");
        }
        if self.max_queued_loads == 0 {
            return invalid("max_queued_loads", "at least 1");
        }
        if self.load_queue_timeout > hour {
            return invalid("load_queue_timeout", "at most 1 hour");
        }
        if self.update_attempts == 0 {
            return invalid("update_attempts", "at least 1");
        }
        if self.pending_capacity == 0 {
            return invalid("pending_capacity", "at least 1");
        }
        if self.near_capacity == 0 {
            return invalid(
                "near_capacity",
                "at least 1; `near = false` turns near caches off",
            );
        }
        if self.near_ttl < SHORTEST || self.near_ttl > LONGEST_TTL {
            return invalid("near_ttl", "between 1 millisecond and 100 days");
        }
        Ok(())
    }
}

/// Settings of a single call or a few: `users.with(ReadOptions::new().ttl(…))`.
///
/// ```
/// # use std::time::Duration;
/// use cached_repo::ReadOptions;
///
/// let short = ReadOptions::new().ttl(Duration::from_secs(5)).negative_ttl(Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ReadOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) stale_ttl: Option<Duration>,
    pub(crate) fresh: bool,
    pub(crate) skip_near: bool,
}

impl ReadOptions {
    /// Changes nothing.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            negative_ttl: None,
            stale_ttl: None,
            fresh: false,
            skip_near: false,
        }
    }

    /// How long rows stored by these calls are served. At least 1 millisecond and at most
    /// 100 days; beyond, the nearest of the two. Default: the entity's.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl.clamp(SHORTEST, LONGEST_TTL));
        self
    }

    /// How long absences stored by these calls are known; zero for not at all. Default: the
    /// entity's.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl.min(LONGEST_TTL));
        self
    }

    /// How long after its TTL these calls accept a row while it is reloaded; zero for not at all.
    /// Default: the entity's.
    pub fn stale_ttl(mut self, ttl: Duration) -> Self {
        self.stale_ttl = Some(ttl.min(LONGEST_TTL));
        self
    }

    /// Passes the near cache over, for the guarantee of entities without one: while Redis answers,
    /// no older state than that of any write acknowledged before, by whichever process.
    /// Default: off.
    pub fn skip_near(mut self) -> Self {
        self.skip_near = true;
        self
    }

    /// Asks the database whatever the cache holds, and repairs the cache. Default: off.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }
}

/// How one repository reads: the three layers put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPolicy {
    pub(crate) ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) stale_ttl: Duration,
    pub(crate) fresh: bool,
    /// Whether the near cache may answer.
    pub(crate) near: bool,
}

impl ReadPolicy {
    pub(crate) fn of(config: &Config, entity: &EntityOptions) -> Self {
        Self {
            ttl: entity.ttl.unwrap_or(config.ttl),
            negative_ttl: entity.negative_ttl.unwrap_or(config.negative_ttl),
            stale_ttl: entity.stale_ttl.unwrap_or(config.stale_ttl),
            fresh: false,
            near: true,
        }
    }

    pub(crate) fn with(self, options: ReadOptions) -> Self {
        Self {
            ttl: options.ttl.unwrap_or(self.ttl),
            negative_ttl: options.negative_ttl.unwrap_or(self.negative_ttl),
            stale_ttl: options.stale_ttl.unwrap_or(self.stale_ttl),
            fresh: self.fresh || options.fresh,
            near: self.near && !options.skip_near && !options.fresh,
        }
    }
}
