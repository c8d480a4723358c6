//! Invalidations that the cache did not acknowledge are queued, visible and replayed. Until then
//! the process serves nothing that contradicts them.

use std::time::{Duration, Instant};

use cached_repo::{Drained, Source, WriteError};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    entities::setting,
    eventually,
    gated::{Gate, Mine, note},
};
use sea_orm::{ActiveValue::Set, EntityTrait};

use super::{
    CACHE_TIMEOUT, READ_LIMIT, as_users_do, find, is_cached, new_note, on, unique, until_given_up,
};

outage! {
    /// Goal: `Proceed`: a write while Redis is away commits and its invalidation is queued. Its
    /// process does not serve the old entry that Redis still holds, and replays the invalidation.
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
        // A second write of the same key is queued once.
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
    /// Goal: an `invalidate` while Redis is away is queued, also if its caller leaves.
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
    /// Goal: queued invalidations are visible in the statistics, of each entity and of all
    /// together. An invalidation of a whole entity counts as one. The counter is a gauge, so it
    /// ends at zero.
    async fn what_is_pending_is_visible_in_the_statistics() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        world.create_table(setting::Entity).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.pending_capacity = 3;
            })
            .await;
        let notes = note::Repository::new(&db);
        let settings = setting::Repository::new(&db);
        let pending = || {
            let stats = [notes.stats(), settings.stats(), db.stats()];
            stats.map(|stats| stats.pending_invalidations)
        };
        assert_eq!(pending(), [0, 0, 0]);
        redis.pause().unwrap();
        until_given_up(&db).await;
        let dark = setting::ActiveModel {
            name: Set("theme".into()),
            value: Set("dark".into()),
        };
        settings.insert(dark).await.unwrap();
        notes.insert(new_note(1, "one")).await.unwrap();
        notes.insert(new_note(2, "two")).await.unwrap();
        assert_eq!(pending(), [2, 1, 3]);
        // Beyond the capacity one invalidation of the whole entity is queued.
        notes.insert(new_note(3, "three")).await.unwrap();
        notes.insert(new_note(4, "four")).await.unwrap();
        assert_eq!(pending(), [3, 1, 4]);
        assert_eq!(db.pending_invalidations(), 4);
        assert!(db.stats().iter().any(|number| number == ("pending_invalidations", 4)));
        redis.resume().unwrap();
        eventually("what was pending is replayed", async || {
            (pending() == [0, 0, 0]).then_some(())
        })
        .await;
        assert_eq!(db.stats().unpublished, 5, "a counter does not go back");
    }
}

outage! {
    /// Goal: the block was acknowledged, and the process dies before it publishes: another process
    /// is served nothing stale, and reads and caches the committed row.
    async fn a_done_that_is_lost_after_an_acknowledged_block_leaves_nothing_stale() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.block_ttl = Duration::from_secs(2);
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
        // Blocked and committed. It loses its connection for ever, and its queued invalidation is
        // lost.
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
    /// Goal: a writer panics after its commit, while Redis is away: its invalidation is queued all
    /// the same.
    async fn a_writer_that_dies_between_commit_and_publish_queues_its_invalidation() {
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
    /// Goal: `shutdown` waits for running work and queued invalidations, and no longer than its
    /// limit.
    async fn shutdown_drains_or_times_out() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let text = unique("new");
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        assert_eq!(db.shutdown(READ_LIMIT).await, Drained::All);

        // A write in flight, whose caller has left.
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

        // A queued invalidation.
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
