//! The auditor: it finds stale entries and measures how long they are stale. It reports no other
//! entry as stale.

use std::time::{Duration, Instant};

use cached_repo::{CachedDb, Config, Drained, ReadOptions, Source, Stats};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{
        audited::{Labels, labelled, labelled_and_versioned},
        setting,
    },
    eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis;
use sea_orm::{ActiveValue::Set, ConnectionTrait};

use crate::in_time;

/// The auditor's named bound.
const CHECKS: usize = 16;

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

fn audited(config: &mut Config) {
    config.audit_rate = 1.0;
    // Nothing but the auditor asks the database in the background.
    config.early_refresh = 0.0;
}

/// A database with every hit audited, and one row that is cached.
async fn cached(world: &World, text: &str) -> (CachedDb, note::Repository) {
    world.create_table(note::Entity).await;
    let db = world.db_with(audited).await;
    let notes = note::Repository::new(&db);
    notes.insert(new_note(1, text)).await.unwrap();
    let _ = world.statements.take();
    (db, notes)
}

/// Reads row 1 from the cache.
async fn hit(notes: &note::Repository) -> String {
    let row = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(row.source(), Source::Shared);
    row.text.0.clone()
}

/// Waits until the running audits have ended.
async fn joined(db: &CachedDb) -> Stats {
    assert_eq!(db.shutdown(Duration::from_secs(20)).await, Drained::All);
    db.stats()
}

/// Counts of audit results: checked, in motion, stale, stale entries, skipped, failed.
fn verdicts(stats: &Stats) -> [u64; 6] {
    [
        stats.audit_checked,
        stats.audit_in_motion,
        stats.audit_stale,
        stats.audit_stale_entries,
        stats.audit_skipped,
        stats.audit_failed,
    ]
}

on_both_tiers!(the_auditor_is_off_by_default);
/// Goal: without the auditor a hit sends nothing to the database.
async fn the_auditor_is_off_by_default(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db_with(|config| config.early_refresh = 0.0).await;
    let notes = note::Repository::new(&db);
    notes.insert(new_note(1, "row")).await.unwrap();
    let _ = world.statements.take();
    for _ in 0..20 {
        assert_eq!(hit(&notes).await, "row");
    }
    let stats = joined(&db).await;
    assert_eq!(world.statements.take(), [""; 0]);
    assert_eq!(verdicts(&stats), [0; 6]);
}

on_both_tiers!(every_hit_is_audited_at_rate_one);
/// Goal: each hit, and each known absence, is one SELECT and one check; the auditor's SELECTs are
/// not counted as loads.
async fn every_hit_is_audited_at_rate_one(world: World) {
    let (db, notes) = cached(&world, "row").await;
    assert!(notes.find_by_id(2).await.unwrap().is_none());
    eventually("the absence is cached", async || {
        (db.stats().fills == 1).then_some(())
    })
    .await;
    let before = db.stats();
    let _ = world.statements.take();
    for _ in 0..5 {
        hit(&notes).await;
        assert!(notes.find_by_id(2).await.unwrap().is_none());
    }
    let stats = joined(&db).await;
    assert_eq!(verdicts(&stats), [10, 0, 0, 0, 0, 0]);
    assert_eq!(world.statements.verbs(), ["SELECT"; 10]);
    assert_eq!(stats.absent_hits, 5);
    assert_eq!((stats.loads, stats.misses), (before.loads, before.misses));
}

on_both_tiers!(a_share_of_the_hits_is_audited);
/// Goal: the rate is a share. Of 200 fair draws fewer than 50 or more than 150 come once in
/// 10^12 runs.
async fn a_share_of_the_hits_is_audited(world: World) {
    world.create_table(note::Entity).await;
    let db = world
        .builder()
        .namespace(world.namespace.clone())
        .audit_rate(0.5)
        .build()
        .await
        .unwrap();
    let notes = note::Repository::new(&db);
    notes.insert(new_note(1, "row")).await.unwrap();
    for _ in 0..20 {
        for _ in 0..10 {
            notes.find_by_id(1).await.unwrap().unwrap();
        }
        joined(&db).await;
    }
    let checked = db.stats().audit_checked;
    assert!((50..=150).contains(&checked), "{checked} of 200");
}

on_both_tiers!(a_write_past_the_library_is_found_stale_and_measured);
/// Goal: raw SQL changes a row and nobody invalidates it. The hits after it are stale and one entry
/// is stale. The duration is known while it lasts and after it has ended.
async fn a_write_past_the_library_is_found_stale_and_measured(world: World) {
    let (db, notes) = cached(&world, "old").await;
    hit(&notes).await;
    assert_eq!(verdicts(&joined(&db).await), [1, 0, 0, 0, 0, 0]);
    let began = Instant::now();
    world
        .raw(r#"UPDATE "note" SET text = 'new', version = 2"#)
        .await;
    assert_eq!(hit(&notes).await, "old");
    eventually("the hit is found stale", async || {
        (verdicts(&db.stats()) == [2, 0, 1, 1, 0, 0]).then_some(())
    })
    .await;
    let found = Instant::now();
    assert_eq!(hit(&notes).await, "old");
    eventually("the next hit of the entry is found stale", async || {
        (verdicts(&db.stats()) == [3, 0, 2, 1, 0, 0]).then_some(())
    })
    .await;
    eventually("its staleness grows", async || {
        (db.stats().audit_staleness_max_ms >= 50).then_some(())
    })
    .await;
    let at_least = found.elapsed();

    notes.invalidate(1).await.unwrap();
    // Longer than the pause between two looks has become by now.
    let ended = eventually("the staleness has ended", async || {
        let before = db.stats();
        tokio::time::sleep(at_least * 3).await;
        (db.stats() == before).then_some(before)
    })
    .await;
    let at_most = u64::try_from(began.elapsed().as_millis()).unwrap();
    assert!(ended.audit_staleness_max_ms <= at_most, "{ended:?}");
    assert_eq!(ended.audit_staleness_ms, ended.audit_staleness_max_ms);
    assert!(
        ended.audit_age_max_ms >= ended.audit_staleness_max_ms,
        "{ended:?}"
    );
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    assert_eq!(joined(&db).await.audit_stale, 2);
}

on_both_tiers!(every_kind_of_write_past_the_library_is_found);
/// Goal: an update that leaves the version alone, one of an unversioned row, a delete, and an
/// insert under a known absence.
async fn every_kind_of_write_past_the_library_is_found(world: World) {
    let (db, notes) = cached(&world, "old").await;
    world.create_table(setting::Entity).await;
    let settings = setting::Repository::new(&db);
    let dark = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    settings.insert(dark).await.unwrap();
    notes.insert(new_note(2, "gone")).await.unwrap();
    let read_all = async || {
        for id in [1, 2, 3] {
            notes.find_by_id(id).await.unwrap();
        }
        settings.find_by_id("theme").await.unwrap();
    };
    read_all().await;
    eventually("the row and the absence are cached", async || {
        (db.stats().fills == 2).then_some(())
    })
    .await;
    joined(&db).await;
    let before = verdicts(&db.stats());
    assert_eq!(before[1..], [0; 5]);

    world
        .raw(r#"UPDATE "note" SET text = 'new' WHERE id = 1"#)
        .await;
    world.raw(r#"DELETE FROM "note" WHERE id = 2"#).await;
    world
        .raw(r#"INSERT INTO "note" (id, text, version) VALUES (3, 'here', 1)"#)
        .await;
    world.raw(r#"UPDATE "setting" SET value = 'light'"#).await;
    let hits = db.stats().shared_hits;
    read_all().await;
    assert_eq!(db.stats().shared_hits, hits + 4, "all of it is stale");
    eventually("all of it is found", async || {
        (verdicts(&db.stats()) == [before[0] + 4, 0, 4, 4, 0, 0]).then_some(())
    })
    .await;
    assert_eq!(notes.stats().audit_stale, 3);
    assert_eq!(settings.stats().audit_stale, 1);
}

on_both_tiers!(the_longest_staleness_of_all_is_that_of_one_entity);
/// Goal: sums add up over entities, maxima do not.
async fn the_longest_staleness_of_all_is_that_of_one_entity(world: World) {
    let (db, notes) = cached(&world, "old").await;
    world.create_table(setting::Entity).await;
    let settings = setting::Repository::new(&db);
    let dark = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    settings.insert(dark).await.unwrap();
    settings.find_by_id("theme").await.unwrap();
    eventually("the row is cached", async || {
        (settings.stats().fills == 1).then_some(())
    })
    .await;
    world.raw(r#"UPDATE "note" SET text = 'new'"#).await;
    world.raw(r#"UPDATE "setting" SET value = 'light'"#).await;
    hit(&notes).await;
    settings.find_by_id("theme").await.unwrap();
    eventually("both are stale for a while", async || {
        let staleness = [notes.stats(), settings.stats()].map(|s| s.audit_staleness_max_ms);
        staleness.iter().all(|ms| *ms >= 20).then_some(())
    })
    .await;
    let all = joined(&db).await;
    let [one, two] = [notes.stats(), settings.stats()];
    let longest = one.audit_staleness_max_ms.max(two.audit_staleness_max_ms);
    assert_eq!(all.audit_staleness_max_ms, longest);
    assert_eq!(
        all.audit_staleness_ms,
        one.audit_staleness_ms + two.audit_staleness_ms
    );
    assert_eq!(
        all.audit_age_max_ms,
        one.audit_age_max_ms.max(two.audit_age_max_ms)
    );
    assert!(
        all.iter()
            .any(|number| number == ("audit_staleness_max_ms", longest))
    );
}

on_both_tiers!(a_write_that_passes_by_during_the_audit_is_not_staleness);
/// Goal: the auditor has seen the newer state when the cache receives the invalidation, and has not
/// looked at the cache again yet.
async fn a_write_that_passes_by_during_the_audit_is_not_staleness(world: World) {
    let (db, notes) = cached(&world, "old").await;
    let text = unique("new");
    let gate = Gate::hold(&text);
    world
        .raw(&format!(
            r#"UPDATE "note" SET text = '{text}', version = 2"#
        ))
        .await;
    assert_eq!(hit(&notes).await, "old");
    gate.arrived(1).await;
    notes.invalidate(1).await.unwrap();
    gate.open();
    assert_eq!(verdicts(&joined(&db).await), [1, 1, 0, 0, 0, 0]);
}

/// Goal: a transaction of the library commits between the hit and the auditor's SELECT, which
/// therefore finds a newer version than was served. The hit was right when it was served.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hit_from_before_a_commit_is_not_stale_because_of_it() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        let (db, notes) = cached(&world, "old").await;
        let writer = world.db().await;
        let row = notes.find_by_id(1).await.unwrap().unwrap().into_model();
        assert_eq!(joined(&db).await.audit_checked, 1);

        let tx = writer.begin().await.unwrap();
        // Readers of the table wait for the transaction; those of the cache do not.
        let lock = r#"LOCK TABLE "note" IN ACCESS EXCLUSIVE MODE"#;
        tx.execute_unprepared(lock).await.unwrap();
        let text = unique("new");
        let mut row = row;
        row.text = text.as_str().into();
        note::Repository::new(&writer)
            .on(&tx)
            .save(row)
            .await
            .unwrap();
        assert_eq!(hit(&notes).await, "old");
        world.lock_waiters(1).await;
        let gate = Gate::hold(&text);
        tx.commit().await.unwrap();
        // The auditor has read the new row, and the commit is published.
        gate.arrived(1).await;
        gate.open();
        assert_eq!(verdicts(&joined(&db).await), [2, 1, 0, 0, 0, 0]);
        assert_eq!(hit(&notes).await, text);
    })
    .await;
}

on_both_tiers!(no_more_audits_run_at_a_time_than_their_bound);
/// Goal: a database that does not answer is asked 16 times and no more; the hits are served all
/// the same, and what was skipped is counted.
async fn no_more_audits_run_at_a_time_than_their_bound(world: World) {
    let text = unique("row");
    let (db, notes) = cached(&world, &text).await;
    let gate = Gate::hold(&text);
    for _ in 0..CHECKS {
        hit(&notes).await;
    }
    gate.arrived(CHECKS).await;
    for _ in 0..5 {
        hit(&notes).await;
    }
    assert_eq!(verdicts(&db.stats()), [0, 0, 0, 0, 5, 0]);
    gate.open();
    assert_eq!(verdicts(&joined(&db).await), [CHECKS as u64, 0, 0, 0, 5, 0]);
    assert_eq!(world.statements.take().len(), CHECKS);
    hit(&notes).await;
    assert_eq!(joined(&db).await.audit_checked, CHECKS as u64 + 1);
}

on_both_tiers!(a_database_that_fails_during_an_audit_says_nothing_of_the_hit);
/// Goal: a failure is counted as one, and the hit is neither an error nor stale.
async fn a_database_that_fails_during_an_audit_says_nothing_of_the_hit(world: World) {
    let (db, notes) = cached(&world, "row").await;
    world.raw(r#"ALTER TABLE "note" RENAME TO "away""#).await;
    assert_eq!(hit(&notes).await, "row");
    let stats = joined(&db).await;
    assert_eq!(verdicts(&stats), [0, 0, 0, 0, 0, 1]);
    assert_eq!(stats.load_errors, 0, "nothing was loaded");
    world.raw(r#"ALTER TABLE "away" RENAME TO "note""#).await;
    hit(&notes).await;
    assert_eq!(verdicts(&joined(&db).await), [1, 0, 0, 0, 0, 1]);
}

/// Goal: without a second look at the cache there is no verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cache_that_fails_during_an_audit_says_nothing_of_the_hit() {
    in_time(async {
        let mut redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        world.create_table(note::Entity).await;
        let db = world
            .db_with(|config| {
                audited(config);
                config.cache_timeout = Duration::from_millis(200);
            })
            .await;
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, "old")).await.unwrap();
        let text = unique("new");
        let gate = Gate::hold(&text);
        world
            .raw(&format!(r#"UPDATE "note" SET text = '{text}'"#))
            .await;
        assert_eq!(hit(&notes).await, "old");
        gate.arrived(1).await;
        redis.pause().unwrap();
        gate.open();
        assert_eq!(verdicts(&joined(&db).await), [0, 0, 0, 0, 0, 1]);
        redis.resume().unwrap();
    })
    .await;
}

on_both_tiers!(shutdown_waits_for_audits_and_not_for_staleness_to_end);
/// Goal: `shutdown` waits for a running audit. It does not wait for a row that stays stale until
/// its TTL in ten minutes, and keeps what was measured of it.
async fn shutdown_waits_for_audits_and_not_for_staleness_to_end(world: World) {
    let text = unique("row");
    let (db, notes) = cached(&world, &text).await;
    let gate = Gate::hold(&text);
    hit(&notes).await;
    gate.arrived(1).await;
    let limit = Duration::from_millis(50);
    assert_eq!(db.shutdown(limit).await, Drained::TimedOut);
    assert_eq!(db.stats().audit_checked, 0);
    gate.open();
    assert_eq!(joined(&db).await.audit_checked, 1);

    world.raw(r#"UPDATE "note" SET text = 'new'"#).await;
    hit(&notes).await;
    eventually("its staleness is followed", async || {
        (db.stats().audit_staleness_max_ms >= 20).then_some(())
    })
    .await;
    let stopped = joined(&db).await;
    assert_eq!((stopped.audit_stale, stopped.audit_stale_entries), (1, 1));
    assert_eq!(stopped.audit_staleness_ms, stopped.audit_staleness_max_ms);
    // Repositories, and their audits, go on.
    assert_eq!(hit(&notes).await, text);
    eventually("the next hit is audited", async || {
        (db.stats().audit_stale == 2).then_some(())
    })
    .await;
}

/// Goal: a `CachedDb` without handles is dropped, and its connections with it, although it was
/// following a row that stays stale for ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stale_row_does_not_keep_its_database_alive() {
    in_time(async {
        let redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        let (db, notes) = cached(&world, "old").await;
        world.raw(r#"UPDATE "note" SET text = 'new'"#).await;
        hit(&notes).await;
        eventually("its staleness is followed", async || {
            (db.stats().audit_staleness_max_ms >= 20).then_some(())
        })
        .await;
        let mut admin = world.redis().await;
        let mut clients = async || -> usize {
            let list = redis::cmd("CLIENT").arg("LIST").clone();
            let list: String = list.query_async(&mut admin).await.unwrap();
            list.lines().count()
        };
        assert_eq!(clients().await, 2);
        drop((db, notes));
        eventually("its connection is closed", async || {
            (clients().await == 1).then_some(())
        })
        .await;
    })
    .await;
}

on_both_tiers!(a_stale_row_is_followed_until_its_ttl);
/// Goal: if nobody repairs a stale entry, it ends with the TTL, and so does its watch. The tier
/// keeps the row longer, for readers that accept it past its TTL.
async fn a_stale_row_is_followed_until_its_ttl(world: World) {
    world.create_table(note::Entity).await;
    let ttl = Duration::from_millis(600);
    let db = world
        .db_with(|config| {
            audited(config);
            config.ttl = ttl;
            config.ttl_jitter = 0.0;
            config.early_refresh = 0.0;
            config.stale_ttl = Duration::from_secs(600);
        })
        .await;
    let strict = ReadOptions::new().stale_ttl(Duration::ZERO);
    let notes = note::Repository::new(&db).with(strict);
    eventually("a row is found stale before it expires", async || {
        world.raw(r#"DELETE FROM "note""#).await;
        notes.invalidate_all().await.unwrap();
        notes.insert(new_note(1, "old")).await.unwrap();
        world.raw(r#"UPDATE "note" SET text = 'new'"#).await;
        let stale = db.stats().audit_stale;
        let _ = notes.find_by_id(1).await.unwrap().unwrap();
        tokio::time::sleep(ttl / 4).await;
        (db.stats().audit_stale > stale).then_some(())
    })
    .await;
    let ended = eventually("the staleness has ended", async || {
        let before = db.stats();
        tokio::time::sleep(ttl * 2).await;
        (db.stats() == before).then_some(before)
    })
    .await;
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    // The last look comes at most one pause after the end; by then a pause is as long as all time
    // before it.
    let longest = u64::try_from(ttl.as_millis()).unwrap() * 3;
    assert!(ended.audit_staleness_max_ms > 0, "{ended:?}");
    assert!(ended.audit_staleness_max_ms < longest, "{ended:?}");
}

on_both_tiers!(a_row_whose_bytes_have_no_order_is_not_taken_for_another);
/// Goal: a `HashMap` is written in another order each time. With a version the auditor compares the
/// version. Without one it cannot compare, and counts that instead of a stale hit.
async fn a_row_whose_bytes_have_no_order_is_not_taken_for_another(world: World) {
    let labels = || {
        let label = |n: usize| (format!("key {n}"), format!("value {n}"));
        Set(Labels((0..20).map(label).collect()))
    };
    world.create_table(labelled::Entity).await;
    world.create_table(labelled_and_versioned::Entity).await;
    let db = world.db_with(audited).await;
    let plain = labelled::Repository::new(&db);
    let versioned = labelled_and_versioned::Repository::new(&db);
    let row = labelled::ActiveModel {
        id: Set(1),
        labels: labels(),
    };
    plain.insert(row).await.unwrap();
    let row = labelled_and_versioned::ActiveModel {
        id: Set(1),
        labels: labels(),
        ..Default::default()
    };
    versioned.insert(row).await.unwrap();
    plain.find_by_id(1).await.unwrap();
    eventually("the row is cached", async || {
        (plain.stats().fills == 1).then_some(())
    })
    .await;
    for _ in 0..5 {
        plain.find_by_id(1).await.unwrap();
        versioned.find_by_id(1).await.unwrap();
    }
    joined(&db).await;
    assert_eq!(verdicts(&plain.stats()), [0, 0, 0, 0, 5, 0]);
    assert_eq!(verdicts(&versioned.stats()), [5, 0, 0, 0, 0, 0]);
    world
        .raw(r#"UPDATE "labelled_and_versioned" SET version = 2"#)
        .await;
    versioned.find_by_id(1).await.unwrap();
    eventually("another version is another row", async || {
        (versioned.stats().audit_stale == 1).then_some(())
    })
    .await;
}
