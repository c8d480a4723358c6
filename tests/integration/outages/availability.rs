//! Redis is down, hangs, or loses its connections and scripts: reads cost a SELECT, and it is used
//! again when it is back.

use std::time::{Duration, Instant};

use cached_repo::Source;
use cached_repo_harness::Redis;
use cached_repo_tests::{
    eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis;

use super::{BUILD_LIMIT, as_users_do, find, is_cached, new_note, on, unique, until_given_up};

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
    /// Goal: a Redis that stops answering: each read costs one time-out and a SELECT. After a few
    /// time-outs the connection stops trying, and it is back soon after Redis is.
    async fn a_paused_redis_costs_a_few_time_outs_and_then_nothing() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        // Long enough to distinguish one time-out from two.
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
    /// Goal: Redis forgets the scripts: each is sent again, and no caller notices.
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
