//! Applications, databases and tenants that share a Redis: nobody is served another's rows.

use cached_repo::{CachedDb, Config, ConfigError, TierError};
use cached_repo_harness::{Redis, redis_url, unique};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{near::badge, user},
    eventually, redis_pool,
};
use deadpool_redis::redis;
use sea_orm::{ActiveValue::Set, ConnectionTrait};

async fn with_user(backend: Backend, name: &str) -> World {
    let world = World::new(backend, Tier::Redis).await;
    world.create_table(user::Entity).await;
    let table = match backend {
        Backend::MariaDb => "`user`",
        _ => "\"user\"",
    };
    let values = format!("(1, '{name}@example.com', '{name}', 1)");
    let sql = format!("INSERT INTO {table} (id, email, name, version) VALUES {values}");
    world.conn.execute_unprepared(&sql).await.unwrap();
    world
}

async fn name_of(db: &CachedDb) -> String {
    let users = user::Repository::new(db);
    users.find_by_id(1).await.unwrap().unwrap().name.clone()
}

/// Goal: a Redis without a namespace is refused; the in-process tier needs none.
#[tokio::test]
async fn a_redis_needs_a_namespace() {
    let world = with_user(Backend::Sqlite, "ada").await;
    let builder = || CachedDb::builder(world.conn.clone());
    let refused = builder().redis(redis_pool(&redis_url())).build().await;
    let error = refused.unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Invalid {
                setting: "namespace",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("each other's rows"), "{error}");
    let mut config = Config::default();
    config.redis = Some(deadpool_redis::Config::from_url(redis_url()));
    let refused = builder().config(config).build().await;
    assert!(matches!(refused, Err(ConfigError::Invalid { .. })));
    assert_eq!(name_of(&builder().build().await.unwrap()).await, "ada");
}

/// Goal: a second database in one namespace is refused by name, on every kind of database; another
/// connection to the same one is not.
#[tokio::test]
async fn a_namespace_is_for_one_database() {
    for backend in [Backend::Sqlite, Backend::Postgres, Backend::MariaDb] {
        let (one, two) = (
            with_user(backend, "ada").await,
            with_user(backend, "bob").await,
        );
        let namespace = unique("shared");
        let build = |world: &World| {
            let builder = CachedDb::builder(world.conn.clone());
            builder
                .redis(redis_pool(&redis_url()))
                .namespace(namespace.clone())
                .build()
        };
        let first = build(&one).await.unwrap();
        assert_eq!(name_of(&first).await, "ada");
        assert_eq!(name_of(&build(&one).await.unwrap()).await, "ada");
        let refused = build(&two).await.unwrap_err();
        let ConfigError::OtherDatabase {
            namespace: named,
            database,
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!(named, &namespace);
        assert!(refused.to_string().contains(database), "{refused}");
    }
}

/// Goal: a namespace that changes hands while a process is away is not used: the cache stays down, and
/// says why.
#[tokio::test]
async fn a_namespace_that_has_become_anothers_is_left_alone() {
    let mut redis = Redis::start().unwrap();
    let world = with_user(Backend::Sqlite, "ada").await;
    let namespace = unique("lost");
    let db = CachedDb::builder(world.conn.clone())
        .redis(redis_pool(&redis.url()))
        .namespace(namespace.clone())
        .build()
        .await
        .unwrap();
    assert!(db.health().is_good(), "{:?}", db.health());
    redis.kill().unwrap();
    eventually("the loss is noticed", async || {
        assert_eq!(name_of(&db).await, "ada");
        db.health().problem
    })
    .await;
    redis.restart().unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{namespace}:#database");
    let set = redis::cmd("SET")
        .arg(&key)
        .arg("elsewhere")
        .query_async::<()>(&mut admin)
        .await;
    set.unwrap();
    let elsewhere = async || match db.health().problem {
        Some(TierError::OtherDatabase(database)) => Some(database),
        // It may have come back before.
        None => {
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg("NORMAL")
                .query_async::<()>(&mut admin.clone())
                .await
                .unwrap();
            name_of(&db).await;
            None
        }
        _ => None,
    };
    assert_eq!(eventually("it is refused", elsewhere).await, "elsewhere");
    assert_eq!(name_of(&db).await, "ada");
    let deleted = redis::cmd("DEL")
        .arg(&key)
        .query_async::<()>(&mut admin)
        .await;
    deleted.unwrap();
    eventually("the cache is back", async || {
        db.health().problem.is_none().then_some(())
    })
    .await;
}

/// Goal: tenants with the same tables and keys share a cache and see their own rows only, in the near
/// cache too; each is invalidated by itself.
#[tokio::test]
async fn tenants_see_their_own_rows() {
    for tier in [Tier::Redis, Tier::Memory] {
        let worlds = [
            World::new(Backend::Sqlite, tier).await,
            World::new(Backend::Postgres, tier).await,
        ];
        let root = worlds[0].db().await;
        let names = ["ada", "bob"];
        let mut rows = Vec::new();
        for (world, name) in worlds.iter().zip(names) {
            world.create_table(badge::Entity).await;
            let db = root.tenant(name, world.conn.clone());
            let repository = badge::Repository::new(&db);
            let row = badge::ActiveModel {
                id: Set(1),
                code: Set(1),
                text: Set(name.into()),
                ..Default::default()
            };
            repository.insert(row).await.unwrap();
            rows.push((db, repository));
        }
        let texts = async || {
            let mut texts = Vec::new();
            for (_, rows) in &rows {
                texts.push(rows.find_by_id(1).await.unwrap().unwrap().text.clone());
            }
            texts
        };
        for _ in 0..3 {
            assert_eq!(texts().await, names);
        }
        rows[0]
            .1
            .update_with(1, |row| row.text = Set("eve".into()))
            .await
            .unwrap();
        assert_eq!(texts().await, ["eve", "bob"]);
        rows[1].1.delete_by_id(1).await.unwrap();
        assert_eq!(rows[0].1.find_by_id(1).await.unwrap().unwrap().text, "eve");
        assert!(rows[1].1.find_by_id(1).await.unwrap().is_none());
        assert_eq!(rows[0].0.stats().writes, 2);
        assert_eq!(rows[1].0.stats().writes, 2);
        assert_eq!(root.stats().writes, 0);
    }
}

/// Goal: what is required is missed at once, and what is not is reported by `health`.
#[tokio::test]
async fn a_redis_that_refuses_is_reported() {
    let redis = Redis::builder()
        .arg("requirepass", "secret")
        .start()
        .unwrap();
    let world = with_user(Backend::Sqlite, "ada").await;
    let nobody = format!(
        "redis://127.0.0.1:{}",
        cached_repo_harness::free_port().unwrap()
    );
    for url in [nobody, redis.url()] {
        let builder = || {
            CachedDb::builder(world.conn.clone())
                .redis(redis_pool(&url))
                .namespace("shop")
        };
        let refused = builder().require_redis().build().await.unwrap_err();
        assert!(
            matches!(refused, ConfigError::Unavailable { .. }),
            "{refused}"
        );
        let db = builder().build().await.unwrap();
        let health = db.health();
        assert!(!health.is_good() && health.problem.is_some(), "{health:?}");
        assert_eq!(name_of(&db).await, "ada");
    }
}
