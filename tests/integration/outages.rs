//! Redis is away, slow, empty, full or forgetful: reads go to the database, writes follow the
//! policy, nothing hangs, and nothing stale is served by whoever knows better.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose helper cannot do its part has failed"
)]

use std::time::{Duration, Instant};

use cached_repo::{CachedDb, Config, Drained, LookedUp, OnCacheFailure, Source, WriteError};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, World,
    entities::user,
    eventually,
    gated::{Gate, Mine, note},
};
use deadpool_redis::redis::{self, AsyncCommands};
use sea_orm::{ActiveValue::Set, EntityTrait, PaginatorTrait};

const CACHE_TIMEOUT: Duration = Duration::from_millis(100);
/// Five operations' time to connect, and what a busy test machine adds.
const BUILD_LIMIT: Duration = Duration::from_secs(3);
/// One operation's time-out, a SELECT, and what a busy test machine adds.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// Declares a test in which nothing may hang.
macro_rules! outage {
    ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            tokio::time::timeout(Duration::from_secs(60), async $body)
                .await
                .expect("the test hangs");
        }
    };
}

fn unique(text: &str) -> String {
    cached_repo_harness::unique(text)
}

fn new_note(id: i64, text: &str) -> note::ActiveModel {
    note::ActiveModel {
        id: Set(id),
        text: Set(text.into()),
        ..Default::default()
    }
}

fn as_users_do(config: &mut Config) {
    config.cache_timeout = CACHE_TIMEOUT;
}

/// A database, and a Redis of the test's own that is up.
async fn on(redis: &Redis) -> World {
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(note::Entity).await;
    world
}

async fn find(notes: &note::Repository, id: i64) -> (String, Source) {
    let row = tokio::time::timeout(READ_LIMIT, notes.find_by_id(id))
        .await
        .expect("a read took longer than its time-outs")
        .unwrap()
        .unwrap();
    (row.text.0.clone(), row.source())
}

/// Waits until the key is served from the cache, and asserts the text of every answer until then.
async fn is_cached(notes: &note::Repository, id: i64, text: &str) {
    eventually("the row is served from the cache", async || {
        let (found, source) = find(notes, id).await;
        assert_eq!(found, text);
        (source == Source::Shared).then_some(())
    })
    .await;
}

/// Reads until the lane has given up, so that what follows is not even sent.
async fn until_given_up(db: &CachedDb) {
    let notes = note::Repository::new(db);
    eventually("the lane has given up", async || {
        let _ = notes.find_by_id(i64::MAX).await.unwrap();
        (db.connection_stats().unavailable > 0).then_some(())
    })
    .await;
}

outage! {
    /// Goal: a Redis that refuses connections when the `CachedDb` is built.
    async fn a_redis_that_is_down_at_build_time_is_used_once_it_is_up() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        redis.kill().unwrap();
        let began = Instant::now();
        let db = world.db_with(as_users_do).await;
        assert!(began.elapsed() < BUILD_LIMIT, "{:?}", began.elapsed());
        let notes = note::Repository::new(&db);
        assert!(notes.insert(new_note(1, "row")).await.unwrap().is_pending());
        for _ in 0..3 {
            assert_eq!(find(&notes, 1).await, ("row".into(), Source::Database));
        }
        assert!(db.stats().bypasses >= 3 && db.connection_stats().unavailable > 0);
        redis.restart().unwrap();
        is_cached(&notes, 1, "row").await;
        assert_eq!(db.pending_invalidations(), 0);
    }
}

outage! {
    /// Goal: the same where connections are accepted and nothing answers.
    async fn a_redis_that_does_not_answer_at_build_time_is_used_once_it_does() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        redis.pause().unwrap();
        let began = Instant::now();
        let db = world.db_with(as_users_do).await;
        assert!(began.elapsed() < BUILD_LIMIT, "{:?}", began.elapsed());
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, "row")).await.unwrap();
        assert_eq!(find(&notes, 1).await, ("row".into(), Source::Database));
        redis.resume().unwrap();
        is_cached(&notes, 1, "row").await;
    }
}

outage! {
    /// Goal: a Redis that dies and comes back empty.
    async fn a_redis_that_is_killed_and_comes_back_empty_is_filled_again() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, "row")).await.unwrap();
        is_cached(&notes, 1, "row").await;
        redis.kill().unwrap();
        for _ in 0..3 {
            assert_eq!(find(&notes, 1).await, ("row".into(), Source::Database));
        }
        redis.restart().unwrap();
        is_cached(&notes, 1, "row").await;
        assert_eq!(db.connection_stats().reconnects, 1);
    }
}

outage! {
    /// Goal: a Redis that stops answering: each read costs one time-out and a SELECT, after a few
    /// the lane stops trying, and it is back soon after Redis is.
    async fn a_paused_redis_costs_a_few_time_outs_and_then_nothing() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        // Long enough to tell one time-out from two.
        let timeout = Duration::from_millis(400);
        let db = world.db_with(|config| config.cache_timeout = timeout).await;
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, "row")).await.unwrap();
        is_cached(&notes, 1, "row").await;
        redis.pause().unwrap();
        let began = Instant::now();
        assert_eq!(find(&notes, 1).await, ("row".into(), Source::Database));
        assert!(began.elapsed() < timeout * 2, "{:?}", began.elapsed());
        until_given_up(&db).await;
        let timeouts = db.connection_stats().timeouts;
        assert!(timeouts <= 5, "{timeouts} time-outs");
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(find(&notes, 1).await, ("row".into(), Source::Database));
        }
        assert!(began.elapsed() < timeout * 5, "{:?}", began.elapsed());
        assert_eq!(db.connection_stats().timeouts, timeouts);
        redis.resume().unwrap();
        is_cached(&notes, 1, "row").await;
    }
}

outage! {
    /// Goal: an outage is not a stampede: readers of one row share their SELECTs, whether the
    /// cache is away or not to be trusted.
    async fn readers_of_one_row_share_their_loads_during_an_outage() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let text = unique("row");
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        redis.pause().unwrap();
        until_given_up(&db).await;
        row.text = text.as_str().into();
        assert!(notes.save(row).await.unwrap().is_pending());
        let gate = Gate::hold(&text);
        let loads = db.stats().loads;
        let bypasses = db.stats().bypasses;
        let readers: Vec<_> = (0..30)
            .map(|_| {
                let notes = notes.clone();
                tokio::spawn(async move { notes.find_by_id(1).await })
            })
            .collect();
        eventually("all readers are there", async || {
            (db.stats().bypasses == bypasses + 30).then_some(())
        })
        .await;
        gate.arrived(1).await;
        gate.open();
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap().unwrap().text.0, text);
        }
        let loads = db.stats().loads - loads;
        assert!(loads <= 3, "{loads} loads");
    }
}

outage! {
    /// Goal: `Proceed`: a write while Redis is away commits, is pending, is not contradicted by
    /// the old entry that Redis still holds, and is replayed.
    async fn a_write_while_redis_is_away_is_pending_and_then_replayed() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&others, 1, "old").await;
        redis.pause().unwrap();
        until_given_up(&db).await;

        row.text = "new".into();
        let saved = notes.save(row).await.unwrap();
        assert!(saved.is_pending());
        assert_eq!((saved.version, db.pending_invalidations()), (2, 1));
        assert_eq!(db.stats().unpublished, 1);
        assert_eq!(find(&notes, 1).await, ("new".into(), Source::Database));
        // A second write of the same key is owed once.
        let saved = notes.save(saved.into_model()).await.unwrap();
        assert_eq!((saved.version, db.pending_invalidations()), (3, 1));

        redis.resume().unwrap();
        is_cached(&notes, 1, "new").await;
        assert_eq!(db.pending_invalidations(), 0);
        assert_eq!(find(&others, 1).await.0, "new");
    }
}

outage! {
    /// Goal: the same for a delete and an insert.
    async fn a_delete_and_an_insert_while_redis_is_away_are_replayed() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        notes.insert(new_note(1, "gone")).await.unwrap();
        is_cached(&others, 1, "gone").await;
        assert!(others.find_by_id(2).await.unwrap().is_none());
        redis.pause().unwrap();
        until_given_up(&db).await;
        notes.delete_by_id(1).await.unwrap().unwrap();
        notes.insert(new_note(2, "here")).await.unwrap();
        assert_eq!(db.pending_invalidations(), 2);
        assert!(notes.find_by_id(1).await.unwrap().is_none());
        redis.resume().unwrap();
        eventually("what was pending is replayed", async || {
            assert!(notes.find_by_id(1).await.unwrap().is_none());
            assert_eq!(find(&notes, 2).await.0, "here");
            (db.pending_invalidations() == 0).then_some(())
        })
        .await;
        assert!(others.find_by_id(1).await.unwrap().is_none());
        assert_eq!(find(&others, 2).await.0, "here");
    }
}

outage! {
    /// Goal: an `invalidate` while Redis is away is remembered, also if its caller leaves.
    async fn an_invalidation_while_redis_is_away_is_replayed_even_if_its_caller_left() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, "old")).await.unwrap();
        is_cached(&notes, 1, "old").await;
        redis.pause().unwrap();
        world.raw(r#"UPDATE "note" SET text = 'new'"#).await;
        let began = tokio::time::timeout(CACHE_TIMEOUT / 10, notes.invalidate(1)).await;
        assert!(began.is_err(), "the caller left while Redis did not answer");
        assert_eq!(find(&notes, 1).await, ("new".into(), Source::Database));
        redis.resume().unwrap();
        is_cached(&notes, 1, "new").await;

        redis.pause().unwrap();
        world.raw(r#"UPDATE "note" SET text = 'newer'"#).await;
        let began = tokio::time::timeout(CACHE_TIMEOUT / 10, notes.invalidate_all()).await;
        assert!(began.is_err(), "the caller left while Redis did not answer");
        assert_eq!(find(&notes, 1).await, ("newer".into(), Source::Database));
        redis.resume().unwrap();
        is_cached(&notes, 1, "newer").await;
    }
}

outage! {
    /// Goal: more pending keys than there is room for: the whole entity is distrusted, and then
    /// invalidated as a whole.
    async fn more_pending_keys_than_there_is_room_for_distrust_the_entity() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.pending_capacity = 2;
            })
            .await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut rows = Vec::new();
        for id in 1..=6 {
            rows.push(notes.insert(new_note(id, "old")).await.unwrap().into_model());
            is_cached(&others, id, "old").await;
        }
        redis.pause().unwrap();
        until_given_up(&db).await;
        for row in rows.iter().take(5) {
            let mut row = row.clone();
            row.text = "new".into();
            assert!(notes.save(row).await.unwrap().is_pending());
        }
        assert_eq!(db.pending_invalidations(), 3, "two keys and the entity");
        redis.resume().unwrap();
        eventually("what was pending is replayed", async || {
            for id in 1..=5 {
                assert_eq!(find(&notes, id).await.0, "new");
            }
            (db.pending_invalidations() == 0).then_some(())
        })
        .await;
        for id in 1..=5 {
            assert_eq!(find(&others, id).await.0, "new");
        }
        assert_eq!(find(&others, 6).await, ("old".into(), Source::Database));
    }
}

outage! {
    /// Goal: `Refuse`: nothing is written while the cache is away, whatever the verb, also an
    /// insert whose key the database makes.
    async fn with_refuse_nothing_is_written_while_redis_is_away() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        world.create_table(user::Entity).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.on_cache_failure = OnCacheFailure::Refuse;
            })
            .await;
        let (notes, users) = (note::Repository::new(&db), user::Repository::new(&db));
        let row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        redis.kill().unwrap();
        let mut new = row.clone();
        new.text = "new".into();
        let ada = user::ActiveModel {
            email: Set("ada@example.com".into()),
            name: Set("Ada".into()),
            ..Default::default()
        };
        let refused = [
            ("save", notes.save(new).await.err()),
            ("update_with", notes.update_with(1, |note| note.text = Set("new".into())).await.err()),
            ("insert", notes.insert(new_note(2, "new")).await.err()),
            ("insert, key by the database", users.insert(ada.clone()).await.err()),
            ("delete", notes.delete(row.clone()).await.err()),
            ("delete_by_id", notes.delete_by_id(1).await.err()),
        ];
        for (verb, error) in refused {
            assert!(matches!(error, Some(WriteError::CacheUnavailable { .. })), "{verb}: {error:?}");
        }
        let rows = note::Entity::find().all(&world.conn).await.unwrap();
        assert_eq!(rows, std::slice::from_ref(&row));
        assert_eq!(user::Entity::find().count(&world.conn).await.unwrap(), 0);
        assert_eq!(db.pending_invalidations(), 0);
        redis.restart().unwrap();
        eventually("writes are accepted again", async || {
            let mut new = row.clone();
            new.text = "new".into();
            notes.save(new).await.ok()
        })
        .await;
        users.insert(ada).await.unwrap();
    }
}

outage! {
    /// Goal: the block was acknowledged and `done` is lost, with the process: another process is
    /// served nothing stale, and reads and caches the committed row.
    async fn a_done_that_is_lost_after_an_acknowledged_block_leaves_nothing_stale() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.block = Duration::from_secs(2);
            })
            .await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let text = unique("new");
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&others, 1, "old").await;
        let gate = Gate::hold(&text);
        row.text = text.as_str().into();
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        // Blocked and committed. It loses its connection for ever, and with it what it owes.
        gate.arrived(1).await;
        redis.pause().unwrap();
        gate.open();
        assert!(writer.await.unwrap().unwrap().is_pending());
        until_given_up(&db).await;
        drop((notes, db));
        redis.resume().unwrap();
        let found = find(&others, 1).await;
        assert_eq!(found.0, text);
        is_cached(&others, 1, &text).await;
    }
}

outage! {
    /// Goal: a writer that panics after its commit, while Redis is away: what it owes is owed all
    /// the same.
    async fn a_writer_that_dies_between_commit_and_publish_owes_what_redis_does_not_know() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&notes, 1, "old").await;
        redis.pause().unwrap();
        until_given_up(&db).await;
        let text = unique("mined");
        row.text = text.as_str().into();
        {
            let _mine = Mine::lay(&text);
            let error = notes.save(row).await.unwrap_err();
            assert!(matches!(error, WriteError::Aborted { .. }), "{error}");
        }
        let truth = note::Entity::find_by_id(1).one(&world.conn).await.unwrap().unwrap();
        assert_eq!(truth.text.0, text, "the row was committed");
        redis.resume().unwrap();
        is_cached(&notes, 1, &text).await;
    }
}

outage! {
    /// Goal: the scripts are forgotten: each is sent again, and nobody notices.
    async fn scripts_that_redis_forgot_are_sent_again() {
        let redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db().await;
        let notes = note::Repository::new(&db);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let mut admin = world.redis().await;
        let forget = async |admin: &mut redis::aio::MultiplexedConnection| {
            redis::cmd("SCRIPT").arg("FLUSH").exec_async(admin).await.unwrap();
        };
        forget(&mut admin).await;
        row.text = "new".into();
        let saved = notes.save(row).await.unwrap();
        assert!(!saved.is_pending());
        forget(&mut admin).await;
        notes.invalidate(1).await.unwrap();
        forget(&mut admin).await;
        is_cached(&notes, 1, "new").await;
        assert_eq!(db.connection_stats().failures, 0);
    }
}

outage! {
    /// Goal: everything is flushed while loads and writes are under way: no lease from before the
    /// flush stores anything, and no write is lost.
    async fn a_flush_revokes_leases_and_loses_no_write() {
        let redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
            panic!("nothing is cached");
        };
        let mut admin = world.redis().await;
        admin.flushall::<()>().await.unwrap();
        let mut row = old.clone();
        row.text = "new".into();
        world.raw(r#"UPDATE "note" SET text = 'new', version = 2"#).await;
        lease.fill(old).await.unwrap();
        assert_eq!(notes.stats().fills_refused, 1);
        is_cached(&notes, 1, "new").await;

        // A write that is flushed between its block and its done.
        let text = unique("newer");
        let gate = Gate::hold(&text);
        row.text = text.as_str().into();
        row.version = 2;
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        admin.flushall::<()>().await.unwrap();
        gate.open();
        writer.await.unwrap().unwrap();
        is_cached(&others, 1, &text).await;
        is_cached(&notes, 1, &text).await;
    }
}

outage! {
    /// Goal: a Redis at its memory limit that evicts nothing: nothing new is cached, but writes
    /// are protected as ever, and what is cached is never stale.
    async fn a_full_redis_refuses_fills_and_still_protects_writes() {
        let redis = Redis::builder()
            .arg("maxmemory", "8mb")
            .arg("maxmemory-policy", "noeviction")
            .start()
            .unwrap();
        let world = on(&redis).await;
        // A lease that is left behind by a refused fill holds up the next reader.
        let patient = |config: &mut Config| config.lease_wait = Duration::from_secs(60);
        let db = world.db_with(patient).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.insert(new_note(2, "cold")).await.unwrap();
        notes.insert(new_note(3, "raw")).await.unwrap();
        notes.invalidate(2).await.unwrap();
        is_cached(&others, 1, "old").await;
        is_cached(&others, 3, "raw").await;
        let mut admin = world.redis().await;
        fill_up(&mut admin).await;

        for _ in 0..3 {
            assert_eq!(find(&notes, 2).await, ("cold".into(), Source::Database));
        }
        eventually("the fills are refused", async || {
            (notes.stats().fills_refused >= 3).then_some(())
        })
        .await;
        assert_eq!(db.connection_stats().reconnects, 0, "a refusal is no outage");
        row.text = "new".into();
        let saved = notes.save(row).await.unwrap();
        assert!(!saved.is_pending());
        assert_eq!(find(&others, 1).await, ("new".into(), Source::Shared));
        notes.delete(saved.into_model()).await.unwrap();
        assert!(others.find_by_id(1).await.unwrap().is_none());
        notes.insert(new_note(1, "again")).await.unwrap();
        assert_eq!(find(&others, 1).await.0, "again");
        // A repair cannot store the row; it must not leave the old one either.
        world.raw(r#"UPDATE "note" SET text = 'past the library' WHERE id = 3"#).await;
        notes.refresh(3).await.unwrap();
        assert_eq!(find(&others, 3).await.0, "past the library");
    }
}

outage! {
    /// Goal: a Redis that evicts what it likes, blocks and leases included: rows come from the
    /// database, and every read after a write sees it.
    async fn a_redis_that_evicts_anything_serves_nothing_stale() {
        let redis = Redis::builder()
            .arg("maxmemory", "4mb")
            .arg("maxmemory-policy", "allkeys-lru")
            .start()
            .unwrap();
        let world = on(&redis).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let mut admin = world.redis().await;
        for id in 1..=5 {
            notes.insert(new_note(id, "0")).await.unwrap();
        }
        for round in 1..=10 {
            for id in 1..=5 {
                let text = format!("{round}");
                let mut row = others.find_by_id(id).await.unwrap().unwrap().into_model();
                row.text = text.as_str().into();
                notes.save(row).await.unwrap();
                let mut pipe = redis::pipe();
                for junk in 0..20 {
                    pipe.set(format!("junk {round} {id} {junk}"), vec![0u8; 10_000]).ignore();
                }
                pipe.exec_async(&mut admin).await.unwrap();
                assert_eq!(find(&others, id).await.0, text);
                assert_eq!(find(&notes, id).await.0, text);
            }
        }
        let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut admin).await.unwrap();
        assert!(!stats.contains("evicted_keys:0\r\n"), "nothing was evicted");
    }
}

outage! {
    /// Goal: our connection is killed: one operation fails, and the next connection is made.
    async fn a_killed_connection_is_replaced() {
        let redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db().await;
        let notes = note::Repository::new(&db);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&notes, 1, "old").await;
        let mut admin = world.redis().await;
        let kill = async |admin: &mut redis::aio::MultiplexedConnection| {
            redis::cmd("CLIENT")
                .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                .exec_async(admin)
                .await
                .unwrap();
        };
        kill(&mut admin).await;
        is_cached(&notes, 1, "old").await;
        kill(&mut admin).await;
        row.text = "new".into();
        notes.save(row).await.unwrap();
        is_cached(&notes, 1, "new").await;
        assert!(db.connection_stats().reconnects >= 1);
        assert_eq!(db.pending_invalidations(), 0);
    }
}

outage! {
    /// Goal: `shutdown` waits for what is under way and pending, and no longer than it was told.
    async fn shutdown_drains_or_times_out() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let text = unique("new");
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        assert_eq!(db.shutdown(READ_LIMIT).await, Drained::All);

        // A write that is under way, whose caller has left.
        row.text = text.as_str().into();
        let gate = Gate::hold(&text);
        let caller = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        caller.abort();
        assert_eq!(db.shutdown(Duration::from_millis(50)).await, Drained::TimedOut);
        gate.open();
        assert_eq!(db.shutdown(READ_LIMIT).await, Drained::All);
        is_cached(&notes, 1, &text).await;

        // An invalidation that is owed.
        redis.pause().unwrap();
        notes.invalidate(1).await.unwrap_err();
        let began = Instant::now();
        assert_eq!(db.shutdown(Duration::from_millis(50)).await, Drained::TimedOut);
        assert!(began.elapsed() < READ_LIMIT);
        redis.resume().unwrap();
        assert_eq!(db.shutdown(Duration::from_secs(20)).await, Drained::All);
        assert_eq!(db.pending_invalidations(), 0);
    }
}

/// Writes until Redis has no more room.
async fn fill_up(admin: &mut redis::aio::MultiplexedConnection) {
    for size in [100_000, 1_000, 1] {
        for junk in 0..100_000 {
            let filled = admin
                .set::<_, _, ()>(format!("junk {size} {junk}"), vec![0u8; size])
                .await;
            if let Err(error) = filled {
                assert!(error.to_string().contains("OOM"), "{error}");
                break;
            }
        }
    }
}
