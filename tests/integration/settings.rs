//! `Config`: where it comes from, what is refused, and what errors may say.

use std::{collections::HashMap, time::Duration};

use cached_repo::{CachedDb, Config, ConfigError, OnCacheFailure};
use cached_repo_harness as harness;
use cached_repo_tests::{Backend, Tier, World, entities::verbs::counter};

/// Reads a configuration as an application does, through the `config` crate.
fn from_text(text: &str, format: config::FileFormat) -> Result<Config, config::ConfigError> {
    config::Config::builder()
        .add_source(config::File::from_str(text, format))
        .build()?
        .try_deserialize()
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, config::ConfigError> {
    let variables: HashMap<_, _> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    config::Config::builder()
        .add_source(
            config::Environment::with_prefix("CACHE")
                .prefix_separator("_")
                .separator("__")
                .source(Some(variables)),
        )
        .build()?
        .try_deserialize()
}

/// Every setting with another value than its default.
fn assert_changed(config: &Config) {
    assert_eq!(config.namespace, "shop");
    assert_eq!(
        config.redis.as_ref().unwrap().url.as_deref(),
        Some("redis://cache:6379/2")
    );
    assert_eq!(config.ttl, Duration::from_secs(5400));
    assert_eq!(config.negative_ttl, Duration::ZERO);
    assert_eq!(config.stale_ttl, Duration::from_millis(1500));
    assert_eq!(config.ttl_jitter, 0.25);
    assert_eq!(config.early_refresh, 0.0);
    assert_eq!(config.lease_ttl, Duration::from_secs(4));
    assert_eq!(config.lease_wait, Duration::from_millis(50));
    assert_eq!(config.block_ttl, Duration::from_secs(6));
    assert_eq!(config.tombstone_ttl, Duration::from_secs(60));
    assert_eq!(config.cache_timeout, Duration::from_millis(20));
    assert_eq!((config.max_queued_reads, config.max_loads), (300, 7));
    assert_eq!(config.load_queue_timeout, Duration::from_secs(1));
    assert_eq!(config.on_cache_failure, OnCacheFailure::Refuse);
    assert_eq!(config.audit_rate, 0.125);
    assert_eq!(config.update_attempts, 3);
    assert_eq!(config.pending_capacity, 17);
    assert_eq!(config.memory_capacity_bytes, 1_000_000);
}

/// Goal: every setting can be read from TOML.
#[test]
fn every_setting_from_toml() {
    let text = r#"
        namespace = "shop"
        ttl = "1h 30m"
        negative_ttl = "0s"
        stale_ttl = "1500ms"
        ttl_jitter = 0.25
        early_refresh = 0
        lease_ttl = "4s"
        lease_wait = "50ms"
        block_ttl = "6s"
        tombstone_ttl = "1m"
        cache_timeout = "20ms"
        max_queued_reads = 300
        max_loads = 7
        load_queue_timeout = "1s"
        on_cache_failure = "refuse"
        audit_rate = 0.125
        update_attempts = 3
        pending_capacity = 17
        memory_capacity_bytes = 1000000
        [redis]
        url = "redis://cache:6379/2"
    "#;
    assert_changed(&from_text(text, config::FileFormat::Toml).unwrap());
    assert_changed(
        &toml::from_str(&text.replace("early_refresh = 0\n", "early_refresh = 0.0\n")).unwrap(),
    );
}

/// Goal: every setting can be read from JSON, also without the `config` crate.
#[test]
fn every_setting_from_json() {
    let text = r#"{
        "namespace": "shop", "ttl": "1h 30m", "negative_ttl": "0s", "stale_ttl": "1500ms",
        "ttl_jitter": 0.25, "early_refresh": 0, "lease_ttl": "4s", "lease_wait": "50ms",
        "block_ttl": "6s", "tombstone_ttl": "1m", "cache_timeout": "20ms", "on_cache_failure": "refuse",
        "max_queued_reads": 300, "max_loads": 7, "load_queue_timeout": "1s", "audit_rate": 0.125,
        "update_attempts": 3, "pending_capacity": 17, "memory_capacity_bytes": 1000000,
        "redis": {"url": "redis://cache:6379/2"}
    }"#;
    assert_changed(&from_text(text, config::FileFormat::Json).unwrap());
    let config: Config = serde_json::from_str(text).unwrap();
    assert_changed(&config);
    // What is written can be read again.
    let written = serde_json::to_string(&config).unwrap();
    assert_changed(&serde_json::from_str(&written).unwrap());
}

/// Goal: every setting can be read from environment variables, which are all texts.
#[test]
fn every_setting_from_the_environment() {
    let config = from_environment(&[
        ("CACHE_NAMESPACE", "shop"),
        ("CACHE_TTL", "1h 30m"),
        ("CACHE_NEGATIVE_TTL", "0s"),
        ("CACHE_STALE_TTL", "1500ms"),
        ("CACHE_TTL_JITTER", "0.25"),
        ("CACHE_EARLY_REFRESH", "0"),
        ("CACHE_LEASE_TTL", "4s"),
        ("CACHE_LEASE_WAIT", "50ms"),
        ("CACHE_BLOCK_TTL", "6s"),
        ("CACHE_TOMBSTONE_TTL", "1m"),
        ("CACHE_CACHE_TIMEOUT", "20ms"),
        ("CACHE_MAX_QUEUED_READS", "300"),
        ("CACHE_MAX_LOADS", "7"),
        ("CACHE_LOAD_QUEUE_TIMEOUT", "1s"),
        ("CACHE_ON_CACHE_FAILURE", "refuse"),
        ("CACHE_AUDIT_RATE", "0.125"),
        ("CACHE_UPDATE_ATTEMPTS", "3"),
        ("CACHE_PENDING_CAPACITY", "17"),
        ("CACHE_MEMORY_CAPACITY_BYTES", "1000000"),
        ("CACHE_REDIS__URL", "redis://cache:6379/2"),
    ]);
    assert_changed(&config.unwrap());
}

/// Goal: nothing at all is a configuration with the documented defaults.
#[test]
fn what_is_left_out_has_its_default() {
    for config in [
        Config::default(),
        from_text("", config::FileFormat::Toml).unwrap(),
        from_text("{}", config::FileFormat::Json).unwrap(),
        from_environment(&[]).unwrap(),
    ] {
        assert_eq!(config.namespace, "");
        assert!(config.redis.is_none());
        assert_eq!(config.ttl, Duration::from_secs(600));
        assert_eq!(config.negative_ttl, Duration::from_secs(30));
        assert_eq!(config.stale_ttl, Duration::ZERO);
        assert_eq!(config.ttl_jitter, 0.1);
        assert_eq!(config.early_refresh, 1.0);
        assert_eq!(config.lease_ttl, Duration::from_secs(3));
        assert_eq!(config.lease_wait, Duration::from_millis(500));
        assert_eq!(config.block_ttl, Duration::from_secs(5));
        assert_eq!(config.tombstone_ttl, Duration::from_secs(30));
        assert_eq!(config.cache_timeout, Duration::from_millis(100));
        assert_eq!((config.max_queued_reads, config.max_loads), (10_000, 64));
        assert_eq!(config.max_queued_loads, 10_000);
        assert_eq!(config.load_queue_timeout, Duration::from_secs(2));
        assert_eq!(config.on_cache_failure, OnCacheFailure::Proceed);
        assert_eq!(config.audit_rate, 0.0);
        assert_eq!(config.update_attempts, 10);
        assert_eq!(config.pending_capacity, 100_000);
        assert_eq!(config.memory_capacity_bytes, 64 * 1024 * 1024);
    }
}

/// Goal: a misspelt setting, a duration without a unit and an unknown policy are refused, and the
/// error says which.
#[test]
fn what_is_misspelt_is_refused_by_name() {
    for (text, named) in [
        ("tll = '10m'", "tll"),
        ("ttl = '10'", "10"),
        ("ttl = 'ten minutes'", "ten minutes"),
        ("on_cache_failure = 'panic'", "panic"),
        ("update_attempts = -1", "-1"),
    ] {
        let error = from_text(text, config::FileFormat::Toml).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        let error = toml::from_str::<Config>(text).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
/// Goal: a setting that makes no sense is refused when the database is built, by its name.
async fn what_makes_no_sense_is_refused_by_name() {
    type Change = fn(&mut Config);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    let cases: &[(&str, Change)] = &[
        ("namespace", |config| config.namespace = "n".repeat(65)),
        ("ttl", |config| config.ttl = Duration::ZERO),
        ("ttl", |config| config.ttl = Duration::from_nanos(1)),
        ("ttl", |config| config.ttl = 101 * DAY),
        ("negative_ttl", |config| config.negative_ttl = 101 * DAY),
        ("stale_ttl", |config| config.stale_ttl = Duration::MAX),
        ("ttl_jitter", |config| config.ttl_jitter = 1.0),
        ("ttl_jitter", |config| config.ttl_jitter = -0.1),
        ("ttl_jitter", |config| config.ttl_jitter = f64::NAN),
        ("early_refresh", |config| config.early_refresh = -1.0),
        ("early_refresh", |config| config.early_refresh = f64::NAN),
        ("early_refresh", |config| {
            config.early_refresh = f64::INFINITY
        }),
        ("lease_ttl", |config| config.lease_ttl = Duration::ZERO),
        ("lease_ttl", |config| config.lease_ttl = DAY),
        ("lease_wait", |config| config.lease_wait = Duration::MAX),
        ("block_ttl", |config| config.block_ttl = Duration::ZERO),
        ("block_ttl", |config| config.block_ttl = DAY),
        ("tombstone_ttl", |config| {
            config.tombstone_ttl = config.block_ttl
        }),
        ("tombstone_ttl", |config| config.tombstone_ttl = 2 * DAY),
        ("cache_timeout", |config| {
            config.cache_timeout = Duration::ZERO
        }),
        ("cache_timeout", |config| {
            config.cache_timeout = config.block_ttl
        }),
        ("audit_rate", |config| config.audit_rate = -0.1),
        ("audit_rate", |config| config.audit_rate = 1.1),
        ("audit_rate", |config| config.audit_rate = f64::NAN),
        ("max_queued_reads", |config| config.max_queued_reads = 0),
        ("max_loads", |config| config.max_loads = 0),
        ("max_queued_loads", |config| config.max_queued_loads = 0),
        ("load_queue_timeout", |config| {
            config.load_queue_timeout = Duration::MAX
        }),
        ("update_attempts", |config| config.update_attempts = 0),
        ("pending_capacity", |config| config.pending_capacity = 0),
    ];
    for (name, change) in cases {
        let mut config = Config::default();
        change(&mut config);
        let refused = CachedDb::builder(world.conn.clone()).config(config).build();
        let error = refused.await.unwrap_err();
        let ConfigError::Invalid { setting, expected } = &error else {
            panic!("{error}");
        };
        assert_eq!(setting, name);
        let message = error.to_string();
        assert!(
            message.contains(name) && message.contains(expected),
            "{message}"
        );
    }
}

#[tokio::test]
/// Goal: the limits of each setting's range are allowed, and a database with them works.
async fn what_just_makes_sense_works() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(counter::Entity).await;
    let longest = Duration::from_secs(100 * 24 * 60 * 60);
    let changes: [fn(&mut Config, Duration); 2] = [
        |config, longest| {
            config.ttl = longest;
            config.negative_ttl = longest;
            config.stale_ttl = longest;
            config.ttl_jitter = 0.999_999;
            config.audit_rate = 1.0;
            config.lease_ttl = Duration::from_secs(3600);
            config.lease_wait = Duration::from_secs(3600);
            config.block_ttl = Duration::from_secs(3600);
            config.tombstone_ttl = Duration::from_secs(24 * 3600);
            config.load_queue_timeout = Duration::from_secs(3600);
            (config.max_loads, config.max_queued_reads) = (usize::MAX, usize::MAX);
        },
        |config, _| {
            config.ttl = Duration::from_millis(1);
            config.lease_ttl = Duration::from_millis(1);
            config.lease_wait = Duration::ZERO;
            config.load_queue_timeout = Duration::ZERO;
            (config.max_loads, config.max_queued_reads) = (1, 1);
            config.memory_capacity_bytes = 0;
        },
    ];
    for change in changes {
        let db = world.db_with(|config| change(config, longest)).await;
        let counters = counter::Repository::new(&db);
        for _ in 0..3 {
            assert!(counters.find_by_id(1).await.unwrap().is_none());
        }
        let row = counter::ActiveModel {
            id: sea_orm::Set(1),
            value: sea_orm::Set(1),
            ..Default::default()
        };
        let inserted = counters.insert(row).await.unwrap();
        for _ in 0..3 {
            assert_eq!(counters.find_by_id(1).await.unwrap().unwrap(), inserted);
        }
        assert!(counters.delete_by_id(1).await.unwrap().is_some());
        counters.invalidate_all().await.unwrap();
        world.redis().await.del_one(world.key("counter", 1)).await;
    }
}

/// DEL, by a name that does not clash.
trait Del {
    async fn del_one(&mut self, key: String);
}

impl Del for deadpool_redis::redis::aio::MultiplexedConnection {
    async fn del_one(&mut self, key: String) {
        let () = deadpool_redis::redis::AsyncCommands::del(self, key)
            .await
            .unwrap();
    }
}

#[tokio::test]
/// Goal: Redis settings that make no sense are a `ConfigError`, and neither it nor anything else
/// that prints shows the password.
async fn a_bad_redis_url_does_not_leak_its_password() {
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    for url in [
        "redis://ada:hunter2@cache:not-a-port",
        "http://ada:hunter2@cache:6379",
        "hunter2",
        "redis://:hunter2@[::1",
        "redis://ada:hunter2@cache:6379/not-a-database",
    ] {
        let mut config = Config::default();
        config.namespace = "shop".into();
        config.redis = Some(deadpool_redis::Config::from_url(url));
        let builder = CachedDb::builder(world.conn.clone()).config(config.clone());
        let shown = format!("{builder:?} {config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let error = builder.build().await.unwrap_err();
        assert!(matches!(error, ConfigError::Redis(_)), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let mut config = Config::default();
    let mut redis = deadpool_redis::Config::from_url("redis://:hunter2@cache");
    redis.connection = Some(deadpool_redis::ConnectionInfo::default());
    config.namespace = "shop".into();
    config.redis = Some(redis);
    let both = CachedDb::builder(world.conn.clone()).config(config).build();
    let error = both.await.unwrap_err();
    assert!(matches!(error, ConfigError::Redis(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
/// Goal: a `CachedDb` takes its Redis from the configuration as well as from a pool.
async fn the_redis_of_the_configuration_is_used() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(counter::Entity).await;
    let mut config = Config::default();
    config.namespace.clone_from(&world.namespace);
    config.redis = Some(deadpool_redis::Config::from_url(harness::redis_url()));
    let db = CachedDb::builder(world.conn.clone())
        .config(config)
        .build()
        .await
        .unwrap();
    let counters = counter::Repository::new(&db);
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    let _ = db.shutdown(Duration::from_secs(10)).await;
    assert!(world.entry(&world.key("counter", 1)).await.is_some());
}
