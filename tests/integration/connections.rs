//! Many readers at once: they share commands to Redis while it answers. When it does not, few of
//! them ask the database at a time.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose helper cannot do its part has failed"
)]

use std::time::{Duration, Instant};

use cached_repo::{CachedDb, Config, ReadError, Source};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, Tier, World, eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis::{self, AsyncCommands};
use sea_orm::{ActiveValue::Set, EntityTrait};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(60);

/// Declares a test in which nothing may hang.
macro_rules! connections {
    ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            tokio::time::timeout(LIMIT, async $body).await.expect("the test hangs");
        }
    };
}

/// A table of notes, numbered from 0.
async fn notes(world: &World, count: i64, text: &str) {
    world.create_table(note::Entity).await;
    let note = |id| note::ActiveModel {
        id: Set(id),
        text: Set(text.into()),
        version: Set(1),
    };
    note::Entity::insert_many((0..count).map(note))
        .exec_without_returning(&world.conn)
        .await
        .unwrap();
    let _ = world.statements.take();
}

/// Starts a find of every key at once.
fn find_all(
    notes: &note::Repository,
    ids: impl IntoIterator<Item = i64>,
) -> JoinSet<(i64, Result<Source, ReadError>)> {
    let find = |id| {
        let notes = notes.clone();
        async move {
            let found = notes.find_by_id(id).await;
            (
                id,
                found
                    .map(|row| row.unwrap())
                    .inspect(|row| assert_eq!(row.id, id))
                    .map(|row| row.source()),
            )
        }
    };
    ids.into_iter().map(find).collect()
}

async fn warm(notes: &note::Repository, count: i64) {
    for (_, found) in find_all(notes, 0..count).join_all().await {
        found.unwrap();
    }
    for id in 0..count {
        eventually("the row is stored", async || {
            let row = notes.find_by_id(id).await.unwrap().unwrap();
            (row.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

/// How often a command was called since the server's statistics were reset.
async fn calls(world: &World, command: &str) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut world.redis().await)
        .await
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn reset_calls(world: &World) {
    let reset = redis::cmd("CONFIG").arg("RESETSTAT").to_owned();
    let () = reset.query_async(&mut world.redis().await).await.unwrap();
}

connections! {
    /// Goal: with many readers, far fewer commands reach Redis than rows are read.
    async fn concurrent_finds_share_commands() {
        const ROWS: i64 = 200;
        const TASKS: i64 = 64;
        let redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        notes(&world, ROWS, "row").await;
        let db = world.db().await;
        let repository = note::Repository::new(&db);
        warm(&repository, ROWS).await;
        reset_calls(&world).await;
        let before = db.stats();
        let read = |task: i64| {
            let notes = repository.clone();
            async move {
                for id in (0..ROWS).map(|id| (id + task) % ROWS) {
                    let row = notes.find_by_id(id).await.unwrap().unwrap();
                    assert_eq!((row.id, row.source()), (id, Source::Shared));
                }
            }
        };
        (0..TASKS).map(read).collect::<JoinSet<_>>().join_all().await;
        let reads = u64::try_from(ROWS * TASKS).unwrap();
        assert_eq!(db.stats().shared_hits - before.shared_hits, reads);
        let (gets, mgets) = (calls(&world, "get").await, calls(&world, "mget").await);
        assert!(mgets > 0 && gets + mgets < reads / 4, "{gets} GET, {mgets} MGET");
    }
}

connections! {
    async fn a_lone_find_is_one_get() {
        let redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        notes(&world, 10, "row").await;
        let repository = note::Repository::new(&world.db().await);
        warm(&repository, 10).await;
        reset_calls(&world).await;
        for id in (0..10).cycle().take(100) {
            repository.find_by_id(id).await.unwrap().unwrap();
        }
        assert_eq!((calls(&world, "get").await, calls(&world, "mget").await), (100, 0));
    }
}

connections! {
    /// Goal: for a value of another type, `MGET` returns nil. A reader whose key is in that batch
    /// gets its row from the database, and the others theirs from the cache.
    async fn a_key_of_a_wrong_type_harms_nobody_else() {
        let world = World::new(Backend::Sqlite, Tier::Redis).await;
        notes(&world, 40, "row").await;
        let repository = note::Repository::new(&world.db().await);
        warm(&repository, 40).await;
        let mut redis = world.redis().await;
        let foreign = world.key("note", 17);
        let () = redis.del(&foreign).await.unwrap();
        let () = redis.hset(&foreign, "a", "b").await.unwrap();
        let found = find_all(&repository, 0..40).join_all().await;
        assert_eq!(found.len(), 40);
        for (id, source) in found {
            let expected = if id == 17 { Source::Database } else { Source::Shared };
            assert_eq!(source.unwrap(), expected, "{id}");
        }
    }
}

connections! {
    /// Goal: a full queue costs a SELECT, and no time-out.
    async fn a_read_that_finds_the_queue_full_asks_the_database_at_once() {
        const ROWS: i64 = 200;
        const QUEUE: usize = 8;
        const TIMEOUT: Duration = Duration::from_secs(4);
        let mut redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        notes(&world, ROWS, "row").await;
        let db = world
            .db_with(|config| (config.max_queued_reads, config.cache_timeout) = (QUEUE, TIMEOUT))
            .await;
        let repository = note::Repository::new(&db);
        for id in 0..ROWS {
            warm_one(&repository, id).await;
        }
        redis.pause().unwrap();
        let began = Instant::now();
        let mut finds = find_all(&repository, 0..ROWS);
        let mut overloaded = 0;
        while db.connection_stats().overloaded == 0 || overloaded < db.connection_stats().overloaded {
            let (_, source) = finds.join_next().await.unwrap().unwrap();
            assert_eq!(source.unwrap(), Source::Database);
            overloaded += 1;
        }
        assert!(began.elapsed() < TIMEOUT, "they waited: {:?}", began.elapsed());
        assert!(finds.len() >= QUEUE, "the others wait for Redis");
        redis.resume().unwrap();
        for (_, source) in finds.join_all().await {
            assert_eq!(source.unwrap(), Source::Shared);
        }
        assert_eq!(db.connection_stats().timeouts, 0);
    }
}

/// One by one, so that none finds a queue that is full.
async fn warm_one(notes: &note::Repository, id: i64) {
    eventually("the row is stored", async || {
        let row = notes.find_by_id(id).await.unwrap().unwrap();
        (row.source() == Source::Shared).then_some(())
    })
    .await;
}

connections! {
    /// Goal: a reader gets the row promptly when Redis dies during its read.
    async fn finds_under_way_when_redis_dies_are_answered_by_the_database() {
        let mut redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        notes(&world, 100, "row").await;
        let db = world.db().await;
        let repository = note::Repository::new(&db);
        warm(&repository, 100).await;
        let read = |task: i64| {
            let (notes, db) = (repository.clone(), db.clone());
            async move {
                // Until Redis is gone, and a little longer.
                for id in (0..100).cycle().skip(task.unsigned_abs() as usize) {
                    let row = notes.find_by_id(id).await.unwrap().unwrap();
                    assert_eq!(row.id, id);
                    if row.source() == Source::Database && db.connection_stats().reconnects > 0 {
                        return;
                    }
                }
            }
        };
        let readers = (0..64).map(read).collect::<JoinSet<_>>();
        let before = db.stats().shared_hits;
        eventually("the readers are at it", async || {
            (db.stats().shared_hits > before + 1_000).then_some(())
        })
        .await;
        redis.kill().unwrap();
        let began = Instant::now();
        readers.join_all().await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        redis.restart().unwrap();
        eventually("rows are cached again", async || {
            let row = repository.find_by_id(1).await.unwrap().unwrap();
            (row.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

/// A `CachedDb` that has noticed that its Redis is away.
async fn without_redis(
    world: &World,
    redis: &mut Redis,
    change: impl FnOnce(&mut Config),
) -> CachedDb {
    redis.kill().unwrap();
    let db = world.db_with(change).await;
    assert!(
        note::Repository::new(&db)
            .find_by_id(-1)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(db.connection_stats().unavailable, 1);
    db
}

connections! {
    /// Goal: without a cache, a thousand readers of a thousand rows do not all ask the database at
    /// once, and all of them get their row.
    async fn a_dead_cache_does_not_stampede_the_database() {
        const READERS: i64 = 1_000;
        // Fewer than the statements that load rows of one entity.
        const MAX_LOADS: usize = 1;
        let mut redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        let text = cached_repo_harness::unique("held");
        notes(&world, READERS, &text).await;
        let db = without_redis(&world, &mut redis, |config| {
            (config.max_loads, config.load_queue_timeout) = (MAX_LOADS, LIMIT);
        })
        .await;
        let repository = note::Repository::new(&db);
        let before = db.stats();
        let gate = Gate::hold(&text);
        let finds = find_all(&repository, 0..READERS);
        gate.arrived(MAX_LOADS).await;
        eventually("every reader has given up on the cache", async || {
            (db.stats().bypasses - before.bypasses == READERS as u64).then_some(())
        })
        .await;
        // All other readers had time to start a statement too, if nothing limited them.
        let more = tokio::time::timeout(Duration::from_millis(200), gate.arrived(MAX_LOADS + 1));
        assert!(more.await.is_err(), "more loads than allowed");
        assert_eq!(db.stats().loads - before.loads, MAX_LOADS as u64);
        gate.open();
        for (_, source) in finds.join_all().await {
            assert_eq!(source.unwrap(), Source::Database);
        }
        let loads = db.stats().loads - before.loads;
        assert!(loads <= 20, "{READERS} readers took {loads} statements");
        assert_eq!(db.stats().loads_refused, 0);
    }
}

connections! {
    /// Goal: a load that waits too long for a permit fails, and its error names the limit. A
    /// transaction holds a connection that others may wait for, so it does not wait for a permit at
    /// all.
    async fn a_load_waits_for_its_turn_only_so_long_and_a_transaction_not_at_all() {
        const WAIT: Duration = Duration::from_millis(100);
        let world = World::new(Backend::Sqlite, Tier::Memory).await;
        let text = cached_repo_harness::unique("held");
        notes(&world, 2, "free").await;
        world.raw(&format!(r#"UPDATE "note" SET "text" = '{text}' WHERE "id" = 0"#)).await;
        let db = world
            .db_with(|config| (config.max_loads, config.load_queue_timeout) = (1, WAIT))
            .await;
        let repository = note::Repository::new(&db);
        let gate = Gate::hold(&text);
        let held = find_all(&repository, [0]);
        gate.arrived(1).await;
        let began = Instant::now();
        let error = repository.find_by_id(1).await.unwrap_err();
        assert!(began.elapsed() >= WAIT);
        assert!(matches!(&error, ReadError::Overloaded { entity } if entity == "note"), "{error}");
        assert!(repository.fresh().find_by_id(1).await.is_err(), "fresh reads wait too");
        assert_eq!(db.stats().loads_refused, 2);
        let read = db.transaction(async |tx| {
            let row = repository.on(tx).find_by_id(1).await?.unwrap();
            assert_eq!(row.text.0, "free");
            Ok::<_, cached_repo::Error>(())
        });
        read.await.unwrap();
        gate.open();
        for (_, source) in held.join_all().await {
            assert_eq!(source.unwrap(), Source::Database);
        }
        // The permit is back, and the refused loads have left nothing behind.
        eventually("the row is cached", async || {
            let row = repository.find_by_id(1).await.unwrap().unwrap();
            (row.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

connections! {
    /// Goal: far more finds than the database can answer in time fail together after one wait, also
    /// those that found too many before them.
    async fn an_overload_costs_one_wait() {
        const WAIT: Duration = Duration::from_secs(1);
        const FINDS: i64 = 20_000;
        let world = World::new(Backend::Sqlite, Tier::Memory).await;
        let text = cached_repo_harness::unique("held");
        notes(&world, 1, &text).await;
        let db = world
            .db_with(|config| {
                (config.max_loads, config.load_queue_timeout) = (1, WAIT);
                config.max_queued_loads = 5_000;
            })
            .await;
        let repository = note::Repository::new(&db);
        let gate = Gate::hold(&text);
        let held = find_all(&repository, [0]);
        gate.arrived(1).await;
        let began = Instant::now();
        let finds = find_all(&repository, 1..=FINDS).join_all().await;
        let took = began.elapsed();
        let refused = finds.iter().filter(|(_, found)| {
            matches!(found, Err(ReadError::Overloaded { .. }))
        });
        assert_eq!(refused.count(), FINDS as usize);
        // A debug build needs a moment for so many tasks.
        assert!(took < WAIT * 3, "{took:?}");
        assert_eq!(db.stats().loads_refused, FINDS as u64);
        gate.open();
        held.join_all().await;
    }
}
