//! Time: absences, TTLs and their jitter, stale rows, early refresh, and which setting wins.

use std::{collections::HashSet, time::Duration};

use cached_repo::{Drained, LookedUp, ReadOptions, Source};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{messagepack::shapes::odd, setting, user, verbs::counter},
    eventually, lapse,
};
use deadpool_redis::redis::AsyncCommands;
use sea_orm::{ActiveValue::Set, DbBackend};

const LIMIT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

async fn insert(counters: &counter::Repository, id: i32, value: i64) {
    let row = counter::ActiveModel {
        id: Set(id),
        value: Set(value),
        ..Default::default()
    };
    counters.insert(row).await.unwrap();
}

everywhere!(an_absence_is_cached_and_ends_with_an_insert_under_its_key);
/// Goal: the second find of nothing issues no SQL; an insert that names the key ends the absence.
async fn an_absence_is_cached_and_ends_with_an_insert_under_its_key(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    let _ = world.statements.take();
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    assert_eq!(world.statements.verbs(), [""; 0]);
    insert(&counters, 1, 10).await;
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.value, found.source()), (10, Source::Shared));
}

everywhere!(an_absence_ends_with_an_insert_whose_key_the_database_makes);
/// Goal: the keys that an auto-increment is about to make are known to be absent in this and
/// another process; once inserted, both find the rows.
async fn an_absence_ends_with_an_insert_whose_key_the_database_makes(world: World) {
    world.create_table(user::Entity).await;
    let one = world.db().await;
    let other = match world.tier() {
        Tier::Redis => world.db().await,
        Tier::Memory => one.clone(),
    };
    let (here, there) = (user::Repository::new(&one), user::Repository::new(&other));
    for id in 1..=3 {
        assert!(here.find_by_id(id).await.unwrap().is_none());
        assert!(there.find_by_id(id).await.unwrap().is_none());
    }
    for expected in 1..=3 {
        let ada = user::ActiveModel {
            email: Set(format!("ada{expected}@example.com")),
            name: Set("Ada".into()),
            ..Default::default()
        };
        let inserted = here.insert(ada).await.unwrap();
        assert_eq!(inserted.id, expected);
        assert_eq!(there.find_by_id(expected).await.unwrap().unwrap(), inserted);
        assert_eq!(here.find_by_id(expected).await.unwrap().unwrap(), inserted);
    }
}

everywhere!(no_negative_ttl_no_absence);
/// Goal: with `negative_ttl` zero every find of a missing row asks the database and leaves nothing
/// behind, so the next one waits for no lease.
async fn no_negative_ttl_no_absence(world: World) {
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world
        .db_with(|config| config.negative_ttl = Duration::ZERO)
        .await;
    let counters = counter::Repository::new(&db);
    let settings = setting::Repository::new(&db);
    for _ in 0..3 {
        assert!(counters.find_by_id(1).await.unwrap().is_none());
        assert!(settings.find_by_id("theme").await.unwrap().is_none());
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        if world.tier() == Tier::Redis {
            assert_eq!(world.entry(&world.key("counter", 1)).await, None);
            assert_eq!(world.entry(&world.key("setting", "theme")).await, None);
        }
        assert_eq!(world.statements.verbs(), ["SELECT", "SELECT"]);
    }
    let stats = db.stats();
    assert_eq!(
        (stats.absent_hits, stats.lease_waits, stats.fills),
        (0, 0, 0)
    );
}

everywhere!(an_absence_lapses);
/// Goal: a row inserted past the library appears when the absence's TTL is over.
async fn an_absence_lapses(world: World) {
    world.create_table(counter::Entity).await;
    let db = world
        .db_with(|config| config.negative_ttl = Duration::from_millis(300))
        .await;
    let counters = counter::Repository::new(&db);
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    world
        .raw("INSERT INTO counter (id, value, version) VALUES (1, 10, 1)")
        .await;
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    eventually("the row appears", async || {
        counters.find_by_id(1).await.unwrap()
    })
    .await;
    assert!(counters.stats().absent_hits > 0);
}

everywhere!(a_row_lapses);
/// Goal: a row changed past the library is seen when its TTL is over, and is cached for as long
/// again.
async fn a_row_lapses(world: World) {
    world.create_table(counter::Entity).await;
    let db = world
        .db_with(|config| {
            config.ttl = Duration::from_millis(300);
            // The reader that comes just before the end would load it again.
            config.early_refresh = 0.0;
        })
        .await;
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 10).await;
    world.raw("UPDATE counter SET value = 11").await;
    let before = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((before.value, before.source()), (10, Source::Shared));
    assert!(before.age() < Duration::from_millis(300));
    assert!(!before.is_stale());
    let after = eventually("the row lapses", async || {
        let row = counters.find_by_id(1).await.unwrap().unwrap();
        assert!(!row.is_stale());
        (row.value == 11).then_some(row)
    })
    .await;
    assert_eq!(
        (after.source(), after.age()),
        (Source::Database, Duration::ZERO)
    );
}

#[tokio::test]
/// Goal: rows stored together, by loads, by writes and as absences, end at different moments, all
/// within the jitter's share before their TTL; without jitter all end at the TTL.
async fn jitter_spreads_the_ends() {
    const ROWS: i32 = 60;
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(counter::Entity).await;
    for jitter in [0.0, 0.5] {
        let db = world
            .db_with(|config| {
                config.ttl = HOUR;
                config.negative_ttl = HOUR;
                config.ttl_jitter = jitter;
            })
            .await;
        let counters = counter::Repository::new(&db);
        let mut redis = world.redis().await;
        world.raw("DELETE FROM counter").await;
        for id in 0..ROWS {
            let key = world.key("counter", id);
            let () = redis.del(&key).await.unwrap();
            if id % 3 > 0 {
                insert(&counters, id, 0).await;
            }
            if id % 3 == 1 {
                let () = redis.del(&key).await.unwrap();
            }
            let _ = counters.find_by_id(id).await.unwrap();
        }
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        for kind in 0..3 {
            let mut spans = HashSet::new();
            for id in (kind..ROWS).step_by(3) {
                let key = world.key("counter", id);
                let entry = world.entry(&key).await.unwrap();
                spans.insert(entry.span_ms);
                let least = 3_600_000.0 * (1.0 - jitter);
                assert!((least..=3_600_000.0).contains(&(entry.span_ms as f64)));
                // Redis forgets it when it is over, and not before.
                let expires: u64 = redis.pexpire_time(&key).await.unwrap();
                assert_eq!(expires, entry.fresh_until().as_millis());
            }
            let expected = if jitter == 0.0 { 1..=1 } else { 15..=20 };
            assert!(expected.contains(&spans.len()), "{kind}: {spans:?}");
        }
    }
}

everywhere!(a_stale_row_is_served_while_it_is_refreshed_behind);
/// Goal: past its TTL a row is served once more at once, marked stale, and loaded behind the
/// reader, once; then it is fresh again.
async fn a_stale_row_is_served_while_it_is_refreshed_behind(world: World) {
    world.create_table(counter::Entity).await;
    let db = world
        .db_with(|config| {
            config.ttl = Duration::from_millis(200);
            config.early_refresh = 0.0;
            config.stale_ttl = HOUR;
        })
        .await;
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 10).await;
    world.raw("UPDATE counter SET value = 11").await;
    let stale = eventually("the row is stale", async || {
        let row = counters.find_by_id(1).await.unwrap().unwrap();
        row.is_stale().then_some(row)
    })
    .await;
    assert_eq!((stale.value, stale.source()), (10, Source::Shared));
    assert!(stale.age() >= Duration::from_millis(180));
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let refreshed = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(refreshed.value, 11);
    let stats = counters.stats();
    assert_eq!((stats.stale_hits, stats.refreshes, stats.misses), (1, 1, 0));
}

everywhere!(many_readers_of_a_stale_row_cause_one_refresh);
/// Goal: 100 readers of a stale row are all served, and one SELECT is issued behind them.
async fn many_readers_of_a_stale_row_cause_one_refresh(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db_with(|config| config.stale_ttl = HOUR).await;
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 10).await;
    // Stored for a moment only; the readers themselves would store it for long.
    let short = counters.with(ReadOptions::new().ttl(Duration::from_millis(1)));
    short.refresh(1).await.unwrap();
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
    lapse(Duration::from_millis(5)).await;
    let _ = world.statements.take();
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let counters = counters.clone();
            tokio::spawn(async move { counters.find_by_id(1).await.unwrap().unwrap() })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().value, 10);
    }
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    assert_eq!(counters.stats().refreshes, 1);
}

everywhere!(a_row_that_vanished_is_not_served_stale_twice);
/// Goal: a stale row that is gone from the database is gone after the refresh, also where
/// absences are not cached.
async fn a_row_that_vanished_is_not_served_stale_twice(world: World) {
    world.create_table(counter::Entity).await;
    for negative_ttl in [Duration::ZERO, HOUR] {
        let db = world
            .db_with(|config| {
                config.ttl = Duration::from_millis(50);
                config.early_refresh = 0.0;
                config.stale_ttl = HOUR;
                config.negative_ttl = negative_ttl;
            })
            .await;
        let counters = counter::Repository::new(&db);
        insert(&counters, 1, 10).await;
        world.raw("DELETE FROM counter").await;
        eventually("the row is stale", async || {
            let row = counters.find_by_id(1).await.unwrap().unwrap();
            row.is_stale().then_some(())
        })
        .await;
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        assert!(counters.find_by_id(1).await.unwrap().is_none());
        counters.invalidate(1).await.unwrap();
    }
}

everywhere!(a_reader_takes_nothing_staler_than_it_says);
/// Goal: an entry that is kept for an hour past its TTL is still too stale for a reader who
/// accepts 50 milliseconds, and for one who accepts nothing.
async fn a_reader_takes_nothing_staler_than_it_says(world: World) {
    world.create_table(counter::Entity).await;
    let db = world
        .db_with(|config| {
            config.ttl = Duration::from_millis(50);
            config.early_refresh = 0.0;
            config.stale_ttl = HOUR;
        })
        .await;
    let counters = counter::Repository::new(&db);
    for (id, accepts) in [(1, Duration::from_millis(50)), (2, Duration::ZERO)] {
        insert(&counters, id, 10).await;
        world.raw("UPDATE counter SET value = 11").await;
        lapse(Duration::from_millis(150)).await;
        let strict = counters.with(ReadOptions::new().stale_ttl(accepts));
        let row = strict.find_by_id(id).await.unwrap().unwrap();
        assert_eq!((row.value, row.is_stale()), (11, false));
    }
    assert_eq!(counters.stats().stale_hits, 0);
}

everywhere!(a_dear_row_is_refreshed_before_it_lapses);
/// Goal: with an eager enough early refresh, a row that was slow to load is served and loaded again
/// in the background although its TTL is far; with early refresh off, never.
async fn a_dear_row_is_refreshed_before_it_lapses(world: World) {
    world.create_table(counter::Entity).await;
    for (id, eager) in [(1, true), (2, false)] {
        let db = world
            .db_with(|config| config.early_refresh = if eager { 1e15 } else { 0.0 })
            .await;
        let counters = counter::Repository::new(&db);
        insert(&counters, id, 10).await;
        let LookedUp::Miss(lease) = counters.fresh().cache().lookup(id).await else {
            panic!("a fresh lookup");
        };
        // The load takes this long.
        lapse(Duration::from_millis(20)).await;
        let loaded = counter::Model {
            id,
            value: 9,
            note: None,
            version: 1,
        };
        lease.fill(loaded).await.unwrap();
        let _ = world.statements.take();
        let row = counters.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(
            (row.value, row.source(), row.is_stale()),
            (9, Source::Shared, false)
        );
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        assert_eq!(world.statements.verbs().len(), usize::from(eager));
        let row = counters.find_by_id(id).await.unwrap().unwrap();
        assert_eq!(row.value, if eager { 10 } else { 9 });
        let stats = counters.stats();
        assert_eq!((stats.stale_hits, stats.refreshes), (0, u64::from(eager)));
    }
}

everywhere!(a_row_that_a_write_has_stored_is_refreshed_early);
/// Goal: early refresh works for rows that no load has stored, and for loads that take no millisecond.
async fn a_row_that_a_write_has_stored_is_refreshed_early(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db_with(|config| config.early_refresh = 1e15).await;
    let counters = counter::Repository::new(&db);
    insert(&counters, 1, 10).await;
    for round in 1..=2 {
        let _ = world.statements.take();
        let row = counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((row.source(), row.is_stale()), (Source::Shared, false));
        assert_eq!(db.shutdown(LIMIT).await, Drained::All);
        assert_eq!(world.statements.verbs(), ["SELECT"]);
        assert_eq!(counters.stats().refreshes, round);
    }
}

#[tokio::test]
/// Goal: the call's setting wins over the entity's, the entity's over the `CachedDb`'s, and that
/// over the default. The entries show which.
async fn the_call_wins_over_the_entity_over_the_config() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(counter::Entity).await;
    world.create_table(odd::Entity).await;
    let db = world
        .db_with(|config| {
            config.ttl = Duration::from_secs(100);
            config.stale_ttl = Duration::from_secs(7);
            config.negative_ttl = Duration::from_secs(9);
            config.ttl_jitter = 0.0;
        })
        .await;
    let counters = counter::Repository::new(&db);
    let oddities = odd::Oddities::new(&db);
    insert(&counters, 1, 10).await;
    let row = odd::ActiveModel {
        r#type: Set("a".into()),
        two_words: Set("b".into()),
        mood: Set(odd::Mood(1)),
        ..Default::default()
    };
    let id = oddities.insert(row).await.unwrap().id;
    oddities.find_by_id(id).await.unwrap().unwrap();
    counters.find_by_id(2).await.unwrap();
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);

    // Fresh and kept, in milliseconds.
    let times = async |key: String| {
        let entry = world.entry(&key).await.unwrap();
        let expires: u64 = world.redis().await.pexpire_time(&key).await.unwrap();
        (entry.span_ms, expires - entry.at.as_millis())
    };
    let of_config = times(world.key("counter", 1)).await;
    assert_eq!(of_config, (100_000, 107_000));
    let absent_of_config = times(world.key("counter", 2)).await;
    assert_eq!(absent_of_config, (9_000, 9_000));
    let of_entity = times(world.key("curious", id)).await;
    assert_eq!(of_entity, (3_600_000, 3_660_000));
    let options = ReadOptions::new()
        .ttl(Duration::from_secs(5))
        .stale_ttl(Duration::from_secs(1))
        .negative_ttl(Duration::from_secs(2));
    oddities.with(options).refresh(id).await.unwrap();
    counters.with(options).refresh(2).await.unwrap();
    assert_eq!(db.shutdown(LIMIT).await, Drained::All);
    assert_eq!(times(world.key("curious", id)).await, (5_000, 6_000));
    assert_eq!(times(world.key("counter", 2)).await, (2_000, 2_000));
    // A save through a repository with options of its own stores by them too.
    let row = oddities.find_by_id(id).await.unwrap().unwrap().into_model();
    oddities.with(options).save(row).await.unwrap();
    let after_save = times(world.key("curious", id)).await;
    assert!([(5_000, 6_000), (3_600_000, 3_660_000)].contains(&after_save));
    assert_eq!(world.backend(), DbBackend::Sqlite);
}
