//! Races, one per test, each brought about by gates: nothing here depends on luck or sleeps.

use std::time::Duration;

use cached_repo::{CachedDb, Config, LookedUp, ReadOptions, Source, WriteError};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::user,
    eventually,
    gated::{Gate, note},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, TransactionTrait};

use crate::in_time;

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

fn new_user(name: &str) -> user::ActiveModel {
    user::ActiveModel {
        email: Set(unique(name)),
        name: Set(name.into()),
        ..Default::default()
    }
}

/// Long enough for a busy test machine to do what is to happen under a block, short enough to
/// wait for its end.
fn short_block(config: &mut Config) {
    config.block_ttl = Duration::from_secs(1);
    config.cache_timeout = Duration::from_millis(500);
}

/// A second process where the tier is shared; the same one where it is not.
async fn another(world: &World, db: &CachedDb) -> CachedDb {
    match world.tier() {
        Tier::Redis => world.db().await,
        Tier::Memory => db.clone(),
    }
}

/// Waits until the key serves from the cache, and gives the text.
async fn served(notes: &note::Repository, id: i64) -> String {
    eventually("the row is served from the cache", async || {
        let row = notes.find_by_id(id).await.unwrap()?;
        (row.source() == Source::Shared).then(|| row.text.0.clone())
    })
    .await
}

on_both_tiers!(a_fill_racing_a_save_is_refused);
/// Goal: a reader that has SELECTed the old row when a save completes does not store it.
async fn a_fill_racing_a_save_is_refused(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
    notes.invalidate(1).await.unwrap();

    let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let mut row = old.clone();
    row.text = "new".into();
    others.save(row).await.unwrap();
    lease.fill(old).await.unwrap();

    assert_eq!(notes.stats().fills_refused, 1);
    for repository in [&notes, &others] {
        let found = repository.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(found.text.0, "new");
    }
}

on_both_tiers!(a_find_racing_a_save_returns_the_old_row_but_does_not_cache_it);
/// Goal: the same through `find_by_id`, stopped between its SELECT and its fill.
async fn a_find_racing_a_save_returns_the_old_row_but_does_not_cache_it(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let text = unique("old");
    let mut row = notes.insert(new_note(1, &text)).await.unwrap().into_model();
    notes.invalidate(1).await.unwrap();

    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let notes = notes.clone();
        async move { notes.find_by_id(1).await }
    });
    gate.arrived(1).await;
    row.text = "new".into();
    others.save(row).await.unwrap();
    // It began before the save was acknowledged, so the old row is a right answer, once.
    gate.open();
    assert_eq!(reader.await.unwrap().unwrap().unwrap().text.0, text);

    assert_eq!(others.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    assert_eq!(served(&notes, 1).await, "new");
}

on_both_tiers!(a_refresh_racing_a_save_does_not_put_the_old_row_back);
/// Goal: a refresh lease over a cached row is revoked by a save like any other.
async fn a_refresh_racing_a_save_does_not_put_the_old_row_back(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let text = unique("old");
    let mut row = notes.insert(new_note(1, &text)).await.unwrap().into_model();
    let gate = Gate::hold(&text);
    let refresh = tokio::spawn({
        let notes = notes.clone();
        async move { notes.refresh(1).await }
    });
    gate.arrived(1).await;
    row.text = "new".into();
    others.save(row).await.unwrap();
    gate.open();
    refresh.await.unwrap().unwrap();
    assert_eq!(others.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    assert_eq!(served(&notes, 1).await, "new");
}

on_both_tiers!(of_two_savers_exactly_one_wins);
/// Goal: no lost update, and the cache has what the winner wrote.
async fn of_two_savers_exactly_one_wins(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let row = notes.insert(new_note(1, "old")).await.unwrap().into_model();

    let mut ours = row.clone();
    ours.text = "ours".into();
    let mut theirs = row;
    theirs.text = "theirs".into();
    let (ours, theirs) = tokio::join!(notes.save(ours), others.save(theirs));
    let winner = match (ours, theirs) {
        (
            Ok(row),
            Err(WriteError::VersionConflict {
                expected: 1,
                found: 2,
                ..
            }),
        )
        | (
            Err(WriteError::VersionConflict {
                expected: 1,
                found: 2,
                ..
            }),
            Ok(row),
        ) => row,
        other => panic!("{other:?}"),
    };
    for repository in [&notes, &others] {
        let found = repository.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((&found.text, found.version), (&winner.text, 2));
        assert_eq!(served(repository, 1).await, winner.text.0);
    }
}

/// Goal: the same with both of them past their block and before their commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_savers_behind_a_row_lock_exactly_one_wins() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let (one, two) = (world.db().await, world.db().await);
        let (one, two) = (note::Repository::new(&one), note::Repository::new(&two));
        let row = one.insert(new_note(1, "old")).await.unwrap().into_model();
        let lock = lock_row(&world).await;
        let save = |notes: &note::Repository, text: &str| {
            let (notes, mut row) = (notes.clone(), row.clone());
            row.text = text.into();
            tokio::spawn(async move { notes.save(row).await })
        };
        let first = save(&one, "first");
        let second = save(&two, "second");
        world.lock_waiters(2).await;
        assert_eq!(
            world
                .entry(&world.key("note", 1))
                .await
                .unwrap()
                .claims
                .writers()
                .len(),
            2
        );
        lock.commit().await.unwrap();
        let results = [first.await.unwrap(), second.await.unwrap()];
        let winners: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
        let [winner] = winners[..] else {
            panic!("{results:?}");
        };
        assert_eq!(served(&one, 1).await, winner.text.0);
        let entry = world.entry(&world.key("note", 1)).await.unwrap();
        assert!(entry.claims.writers().is_empty());
    })
    .await;
}

on_both_tiers!(a_publisher_that_wakes_after_a_delete_and_a_new_insert_resurrects_nothing);
/// Goal: a save races with a delete and a re-insert. The save commits, then sleeps before it
/// publishes; meanwhile the row is deleted and inserted again, which starts at version 1.
async fn a_publisher_that_wakes_after_a_delete_and_a_new_insert_resurrects_nothing(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let mut row = notes
        .insert(new_note(1, "first life"))
        .await
        .unwrap()
        .into_model();

    let text = unique("saved");
    let gate = Gate::hold(&text);
    row.text = text.as_str().into();
    let saver = tokio::spawn({
        let notes = notes.clone();
        async move { notes.save(row).await }
    });
    gate.arrived(1).await;
    // The deleted row meets the gate as well when the database returns it.
    let deleter = tokio::spawn({
        let others = others.clone();
        async move { others.delete_by_id(1).await }
    });
    gate.arrived(2).await;
    let again = others.insert(new_note(1, "second life")).await.unwrap();
    assert_eq!(again.version, 1);
    let now = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(now.text.0, "second life");

    gate.open();
    assert_eq!(saver.await.unwrap().unwrap().version, 2);
    let found = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.text.0.as_str(), found.version), ("second life", 1));
    deleter.await.unwrap().unwrap();
    for repository in [&notes, &others] {
        let found = repository.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((found.text.0.as_str(), found.version), ("second life", 1));
    }
}

on_both_tiers!(a_save_published_after_the_delete_of_its_row_does_not_bring_it_back);
/// Goal: catch "tombstone floor = v instead of v + 1": a save commits version 2 and sleeps,
/// version 2 is deleted and that is published, then the sleeper publishes.
async fn a_save_published_after_the_delete_of_its_row_does_not_bring_it_back(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let mut row = notes.insert(new_note(1, "row")).await.unwrap().into_model();
    let text = unique("saved");
    let gate = Gate::hold(&text);
    row.text = text.as_str().into();
    let saver = tokio::spawn({
        let (notes, row) = (notes.clone(), row.clone());
        async move { notes.save(row).await }
    });
    gate.arrived(1).await;
    row.version = 2;
    others.delete(row).await.unwrap();
    gate.open();
    assert_eq!(saver.await.unwrap().unwrap().version, 2);
    assert_eq!(notes.find_by_id(1).await.unwrap(), None);
    assert_eq!(others.find_by_id(1).await.unwrap(), None);
}

on_both_tiers!(a_publisher_that_wakes_late_does_not_replace_a_newer_row);
/// Goal: a save commits version 2 and sleeps; version 3 is written, published and cached. The
/// sleeper changes nothing.
async fn a_publisher_that_wakes_late_does_not_replace_a_newer_row(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let mut row = notes.insert(new_note(1, "one")).await.unwrap().into_model();

    let text = unique("two");
    let gate = Gate::hold(&text);
    row.text = text.as_str().into();
    let sleeper = tokio::spawn({
        let notes = notes.clone();
        let row = row.clone();
        async move { notes.save(row).await }
    });
    gate.arrived(1).await;
    row.text = "three".into();
    row.version = 2;
    assert_eq!(others.save(row).await.unwrap().version, 3);
    // Version 3 is put but not served while the sleeper's outcome is open.
    let found = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(
        (found.text.0.as_str(), found.source()),
        ("three", Source::Database)
    );

    gate.open();
    assert_eq!(sleeper.await.unwrap().unwrap().version, 2);
    let found = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(
        (found.text.0.as_str(), found.source()),
        ("three", Source::Shared)
    );
}

on_both_tiers!(a_publisher_past_its_deadline_invalidates);
/// Goal: a publisher sleeps past its block. Readers have taken over and cached what they read. Its
/// late put ends as an invalidation, and readers find the newest row.
async fn a_publisher_past_its_deadline_invalidates(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db_with(short_block).await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let mut row = notes.insert(new_note(1, "one")).await.unwrap().into_model();
    let text = unique("two");
    let gate = Gate::hold(&text);
    row.text = text.as_str().into();
    let sleeper = tokio::spawn({
        let notes = notes.clone();
        let row = row.clone();
        async move { notes.save(row).await }
    });
    gate.arrived(1).await;
    row.text = "three".into();
    row.version = 2;
    others.save(row).await.unwrap();
    assert_eq!(served(&others, 1).await, "three");
    let puts = db.stats().puts;
    gate.open();
    sleeper.await.unwrap().unwrap();
    assert_eq!(db.stats().puts, puts, "the late row was put");
    let found = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.text.0.as_str(), found.version), ("three", 3));
}

on_both_tiers!(an_insert_ends_a_cached_absence);
/// Goal: an insert racing a cached absence, with a key of the caller's and one of the database's.
async fn an_insert_ends_a_cached_absence(world: World) {
    world.create_table(note::Entity).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let other = another(&world, &db).await;
    let (notes, others) = (note::Repository::new(&db), note::Repository::new(&other));
    assert!(notes.find_by_id(1).await.unwrap().is_none());
    eventually("the absence is cached", async || {
        let hits = db.stats().absent_hits;
        assert!(notes.find_by_id(1).await.unwrap().is_none());
        (db.stats().absent_hits > hits).then_some(())
    })
    .await;
    others.insert(new_note(1, "here")).await.unwrap();
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "here");

    let (users, others) = (user::Repository::new(&db), user::Repository::new(&other));
    let last = users.insert(new_user("last")).await.unwrap().id;
    eventually("the absence is cached", async || {
        let hits = db.stats().absent_hits;
        assert!(users.find_by_id(last + 1).await.unwrap().is_none());
        (db.stats().absent_hits > hits).then_some(())
    })
    .await;
    let next = others.insert(new_user("next")).await.unwrap();
    assert_eq!(next.id, last + 1);
    assert_eq!(users.find_by_id(next.id).await.unwrap().unwrap(), next);
}

on_both_tiers!(an_absence_in_flight_is_not_stored_over_an_insert);
/// Goal: a reader that found no row when the insert commits must not store the absence, also
/// when the key was not known before the SQL.
async fn an_absence_in_flight_is_not_stored_over_an_insert(world: World) {
    world.create_table(note::Entity).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let other = another(&world, &db).await;
    let (notes, others) = (note::Repository::new(&db), note::Repository::new(&other));
    let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    others.insert(new_note(1, "here")).await.unwrap();
    lease.fill_absent().await;
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "here");

    let (users, others) = (user::Repository::new(&db), user::Repository::new(&other));
    let last = users.insert(new_user("last")).await.unwrap().id;
    let LookedUp::Miss(lease) = users.cache().lookup(last + 1).await else {
        panic!("nothing is cached");
    };
    let next = others.insert(new_user("next")).await.unwrap();
    lease.fill_absent().await;
    assert_eq!(users.find_by_id(next.id).await.unwrap().unwrap(), next);
    assert_eq!(users.stats().fills_refused + notes.stats().fills_refused, 2);
}

on_both_tiers!(a_lease_that_lapses_during_the_load_stores_nothing);
/// Goal: expiry during a fill, of the lease: the next reader takes over, and the first's row,
/// which may be older, is dropped.
async fn a_lease_that_lapses_during_the_load_stores_nothing(world: World) {
    world.create_table(note::Entity).await;
    let db = world
        .db_with(|config| {
            config.lease_ttl = Duration::from_millis(50);
            config.lease_wait = Duration::from_secs(20);
        })
        .await;
    let notes = note::Repository::new(&db);
    let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
    notes.invalidate(1).await.unwrap();
    let LookedUp::Miss(slow) = notes.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    // The second reader waits until the first one's lease has lapsed.
    let LookedUp::Miss(next) = notes.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    world
        .raw(r#"UPDATE "note" SET text = 'new', version = 2 WHERE id = 1"#)
        .await;
    slow.fill(old).await.unwrap();
    assert_eq!(notes.stats().fills_refused, 1);
    drop(next);
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
}

on_both_tiers!(a_row_that_expires_during_its_refresh_is_loaded_again);
/// Goal: the row expires while it is refreshed. Nothing is stored on the key, which is empty by
/// then, and the next read simply loads.
async fn a_row_that_expires_during_its_refresh_is_loaded_again(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let short = ReadOptions::new().ttl(Duration::from_millis(100));
    let notes = note::Repository::new(&db);
    let text = unique("row");
    notes.insert(new_note(1, &text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    notes.with(short).find_by_id(1).await.unwrap();
    let gate = Gate::hold(&text);
    let refresh = tokio::spawn({
        let notes = notes.clone();
        async move { notes.refresh(1).await }
    });
    gate.arrived(1).await;
    let held = tokio::time::Instant::now();
    // Until the row has expired, whether or not its refresh has kept the key.
    tokio::time::sleep_until(held + Duration::from_millis(150)).await;
    gate.open();
    assert_eq!(refresh.await.unwrap().unwrap().unwrap().text.0, text);
    assert_eq!(served(&notes, 1).await, text);
}

/// Goal: a block that times out under a slow commit. Readers may load and cache the old row,
/// which is still the committed one; the late commit ends that, and its late `done` puts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_slower_than_its_block_ends_what_readers_cached_meanwhile() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let slow = world.db_with(short_block).await;
        let slow_notes = note::Repository::new(&slow);
        let notes = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();

        let lock = lock_row(&world).await;
        row.text = "new".into();
        let writer = tokio::spawn({
            let slow_notes = slow_notes.clone();
            async move { slow_notes.save(row).await }
        });
        world.lock_waiters(1).await;
        // While the block stands nobody is served from the cache; once it has lapsed, the old
        // row may be cached again.
        assert_eq!(served(&notes, 1).await, "old");
        lock.commit().await.unwrap();
        assert_eq!(writer.await.unwrap().unwrap().version, 2);
        assert_eq!(slow.stats().puts, 0, "its deadline had passed");
        assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
        assert_eq!(served(&notes, 1).await, "new");
    })
    .await;
}

/// Goal: while a write is in flight, readers go to the database and store nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_stored_while_a_write_is_in_flight() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let lock = lock_row(&world).await;
        row.text = "new".into();
        let writer = tokio::spawn({
            let others = others.clone();
            async move { others.save(row).await }
        });
        world.lock_waiters(1).await;
        for _ in 0..3 {
            let found = notes.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(
                (found.text.0.as_str(), found.source()),
                ("old", Source::Database)
            );
        }
        assert_eq!(notes.stats().misses_writing, 3);
        assert_eq!(notes.stats().fills, 0);
        lock.commit().await.unwrap();
        writer.await.unwrap().unwrap();
        let found = notes.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(
            (found.text.0.as_str(), found.source()),
            ("new", Source::Shared)
        );
    })
    .await;
}

on_both_tiers!(a_write_that_the_database_refuses_leaves_no_block_behind);
/// Goal: a statement that the database refused (a check, a trigger, a serialization failure) has
/// written nothing, so its block goes at once: the next read fills the cache, and a row that is
/// written badly again and again does not run out of room for writers.
async fn a_write_that_the_database_refuses_leaves_no_block_behind(world: World) {
    world.create_table(note::Entity).await;
    let check = match world.backend() {
        sea_orm::DbBackend::Sqlite => {
            "CREATE TRIGGER refuse BEFORE UPDATE ON note WHEN NEW.text = 'bad' \
             BEGIN SELECT RAISE(ABORT, 'bad'); END"
        }
        _ => "ALTER TABLE note ADD CHECK (text <> 'bad')",
    };
    world.raw(check).await;
    let notes = note::Repository::new(&world.db().await);
    let row = notes
        .insert(new_note(1, "good"))
        .await
        .unwrap()
        .into_model();
    for _ in 0..60 {
        let mut bad = row.clone();
        bad.text = "bad".into();
        let error = notes.save(bad).await.unwrap_err();
        assert!(matches!(error, WriteError::Database { .. }), "{error}");
    }
    notes.find_by_id(1).await.unwrap();
    let found = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(
        (found.text.0.as_str(), found.source()),
        ("good", Source::Shared)
    );
    let mut good = row;
    good.text = "better".into();
    notes.save(good).await.unwrap();
}

on_both_tiers!(a_refresh_that_outlasts_its_lease_still_repairs_the_cache);
/// Goal: after `refresh` returns, no read finds what the cache held before it, also when the load
/// took longer than its lease and the row could not be stored.
async fn a_refresh_that_outlasts_its_lease_still_repairs_the_cache(world: World) {
    world.create_table(note::Entity).await;
    let db = world
        .db_with(|config| config.lease_ttl = Duration::from_millis(20))
        .await;
    let notes = note::Repository::new(&db);
    notes.insert(new_note(1, "old")).await.unwrap();
    let found = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(found.text.0, "old");
    let text = unique("past the library");
    world
        .raw(&format!(
            r#"UPDATE "note" SET text = '{text}' WHERE id = 1"#
        ))
        .await;
    let gate = Gate::hold(&text);
    let refresh = tokio::spawn({
        let notes = notes.clone();
        async move { notes.refresh(1).await }
    });
    gate.arrived(1).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    gate.open();
    assert_eq!(refresh.await.unwrap().unwrap().unwrap().text.0, text);
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, text);
}

/// Locks row 1 of `note` until the transaction ends.
async fn lock_row(world: &World) -> sea_orm::DatabaseTransaction {
    let lock = world.conn.begin().await.unwrap();
    lock.execute_unprepared("SELECT 1 FROM note WHERE id = 1 FOR UPDATE")
        .await
        .unwrap();
    lock
}

on_both_tiers!(a_save_published_after_a_raw_transaction_does_not_hide_what_that_changed);
/// Goal: the caller's own statement, inside a transaction that invalidates its row, leaves the
/// version as it was. An earlier save that is published only afterwards stores nothing.
async fn a_save_published_after_a_raw_transaction_does_not_hide_what_that_changed(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let other = another(&world, &db).await;
    let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();

    let saved = unique("saved");
    row.text = saved.as_str().into();
    let gate = Gate::hold(&saved);
    let save = tokio::spawn({
        let notes = notes.clone();
        async move { notes.save(row).await }
    });
    gate.arrived(1).await;
    let tx = other.begin().await.unwrap();
    tx.execute_unprepared(r#"UPDATE "note" SET text = 'raw' WHERE id = 1"#)
        .await
        .unwrap();
    tx.invalidate::<note::Model>(1);
    tx.commit().await.unwrap();
    gate.open();
    save.await.unwrap().unwrap();

    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "raw");
}

/// Goal: rows that go with another are blocked before the COMMIT that deletes them: a reader meanwhile
/// gets them from the database and stores nothing, and nobody gets them afterwards.
#[tokio::test]
async fn rows_that_are_deleted_with_another_are_blocked_before_the_commit() {
    use cached_repo_tests::entities::family::{owner, post};
    let world = World::new(Backend::Postgres, Tier::Redis).await;
    world.create_table(owner::Entity).await;
    world.create_table(post::Entity).await;
    world
        .raw(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$",
        )
        .await;
    world
        .raw(
            "CREATE CONSTRAINT TRIGGER wait AFTER DELETE ON owner
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let db = world.db().await;
    let (owners, posts) = (owner::Repository::new(&db), post::Repository::new(&db));
    let others = post::Repository::new(&world.db().await);
    let row = owner::ActiveModel {
        id: Set(7),
        code: Set("code".into()),
        name: Set("name".into()),
        ..Default::default()
    };
    owners.insert(row).await.unwrap();
    let row = post::ActiveModel {
        id: Set(1),
        owner_id: Set(7),
        title: Set("title".into()),
        ..Default::default()
    };
    posts.insert(row).await.unwrap();
    let found = others.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(found.source(), Source::Shared);
    let lock = world.conn.begin().await.unwrap();
    lock.execute_unprepared("SELECT pg_advisory_xact_lock(4711)")
        .await
        .unwrap();
    let deleting = tokio::spawn(async move { owners.delete_by_id(7).await });
    world.lock_waiters(1).await;
    for _ in 0..3 {
        let found = others.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(found.source(), Source::Database);
    }
    assert_eq!(others.stats().fills, 0);
    lock.commit().await.unwrap();
    assert!(in_time(deleting).await.unwrap().unwrap().is_some());
    assert!(others.find_by_id(1).await.unwrap().is_none());
    assert_eq!(others.find_all_by_owner_id(7).await.unwrap(), []);
}
