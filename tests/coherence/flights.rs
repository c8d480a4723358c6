//! Shared loads: which callers may join, which answer each gets, and what a caller that leaves
//! ends.

use std::time::Duration;

use cached_repo::{ReadError, ReadOptions, Source};
use cached_repo_tests::{
    World, eventually,
    gated::{Gate, Mine, note},
};
use sea_orm::ActiveValue::Set;

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

fn find(
    notes: &note::Repository,
    id: i64,
) -> tokio::task::JoinHandle<Result<Option<cached_repo::Cached<note::Model>>, ReadError>> {
    let notes = notes.clone();
    tokio::spawn(async move { notes.find_by_id(id).await })
}

/// Waits until this many more reads have missed; they join a flight right after.
async fn missed(notes: &note::Repository, count: u64) {
    eventually("the reads have missed", async || {
        (notes.stats().misses >= count).then_some(())
    })
    .await;
}

/// A row that is in the database and not in the cache.
async fn uncached(world: &World, text: &str) -> note::Repository {
    world.create_table(note::Entity).await;
    let notes = note::Repository::new(&world.db().await);
    notes.insert(new_note(1, text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    let _ = world.statements.take();
    notes
}

on_both_tiers!(a_stampede_is_one_load);
/// Goal: many readers of one missing row, one SELECT.
async fn a_stampede_is_one_load(world: World) {
    let text = unique("row");
    let notes = uncached(&world, &text).await;
    let gate = Gate::hold(&text);
    let first = find(&notes, 1);
    gate.arrived(1).await;
    let rest: Vec<_> = (0..50).map(|_| find(&notes, 1)).collect();
    missed(&notes, 51).await;
    gate.open();
    for reader in rest.into_iter().chain([first]) {
        assert_eq!(reader.await.unwrap().unwrap().unwrap().text.0, text);
    }
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let stats = notes.stats();
    assert_eq!((stats.loads, stats.joined), (1, 50));
}

on_both_tiers!(a_caller_that_comes_after_a_newer_write_does_not_join_the_older_load);
/// Goal: a load that began before a write must not answer a reader that came after it.
async fn a_caller_that_comes_after_a_newer_write_does_not_join_the_older_load(world: World) {
    let text = unique("old");
    let notes = uncached(&world, &text).await;
    let gate = Gate::hold(&text);
    let early = find(&notes, 1);
    gate.arrived(1).await;
    let row = note::Model {
        id: 1,
        text: "new".into(),
        version: 1,
    };
    notes.save(row).await.unwrap();
    let late = find(&notes, 1);
    gate.open();
    assert_eq!(early.await.unwrap().unwrap().unwrap().text.0, text);
    assert_eq!(late.await.unwrap().unwrap().unwrap().text.0, "new");
}

on_both_tiers!(a_caller_that_missed_before_a_write_and_joined_after_it_sees_the_write);
/// Goal: the same where the late reader has to load too, because the write only invalidated.
async fn a_caller_that_missed_before_a_write_and_joined_after_it_sees_the_write(world: World) {
    let text = unique("old");
    let notes = uncached(&world, &text).await;
    let gate = Gate::hold(&text);
    let early = find(&notes, 1);
    gate.arrived(1).await;
    world
        .raw(r#"UPDATE "note" SET text = 'new' WHERE id = 1"#)
        .await;
    notes.invalidate(1).await.unwrap();
    let late = find(&notes, 1);
    missed(&notes, 2).await;
    gate.open();
    assert_eq!(early.await.unwrap().unwrap().unwrap().text.0, text);
    assert_eq!(late.await.unwrap().unwrap().unwrap().text.0, "new");
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
}

on_both_tiers!(a_dropped_leader_leaves_the_row_to_its_waiters);
/// Goal: the caller that started a load goes away; its waiters get the row, from one SELECT.
async fn a_dropped_leader_leaves_the_row_to_its_waiters(world: World) {
    let text = unique("row");
    let notes = uncached(&world, &text).await;
    let gate = Gate::hold(&text);
    let leader = find(&notes, 1);
    gate.arrived(1).await;
    let waiters: Vec<_> = (0..5).map(|_| find(&notes, 1)).collect();
    missed(&notes, 6).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.open();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().unwrap().text.0, text);
    }
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let warm = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(warm.source(), Source::Shared);
}

on_both_tiers!(a_panicking_load_wakes_everyone_and_leaves_the_key_usable);
/// Goal: a load that panics is an error for its waiters, not a hang; and the next load does not
/// wait for the lease that the panic left.
async fn a_panicking_load_wakes_everyone_and_leaves_the_key_usable(world: World) {
    world.create_table(note::Entity).await;
    // A caller that has to wait for a lease waits long enough to fail the test.
    let db = world
        .db_with(|config| {
            config.lease_ttl = Duration::from_secs(600);
            config.lease_wait = Duration::from_secs(600);
        })
        .await;
    let notes = note::Repository::new(&db);
    let text = unique("mined");
    notes.insert(new_note(1, &text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    {
        let _mine = Mine::lay(&text);
        let readers: Vec<_> = (0..5).map(|_| find(&notes, 1)).collect();
        for reader in readers {
            let error = reader.await.unwrap().unwrap_err();
            assert!(matches!(error, ReadError::Aborted { .. }), "{error}");
        }
    }
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, text);
    eventually("the row is cached", async || {
        let row = notes.find_by_id(1).await.unwrap().unwrap();
        (row.source() == Source::Shared).then_some(())
    })
    .await;
}

on_both_tiers!(an_error_goes_to_everyone_and_is_not_cached);
/// Goal: a load that fails, fails for all its waiters, and the next read tries again at once.
async fn an_error_goes_to_everyone_and_is_not_cached(world: World) {
    let notes = uncached(&world, "row").await;
    world.raw(r#"ALTER TABLE "note" RENAME TO "away""#).await;
    let readers: Vec<_> = (0..5).map(|_| find(&notes, 1)).collect();
    for reader in readers {
        let error = reader.await.unwrap().unwrap_err();
        assert!(matches!(error, ReadError::Database { .. }), "{error}");
    }
    assert!(notes.stats().load_errors > 0);
    world.raw(r#"ALTER TABLE "away" RENAME TO "note""#).await;
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "row");
    assert_eq!(notes.stats().lease_waits, 0, "the lease was given back");
}

on_both_tiers!(a_shared_load_serves_nobody_a_stale_row_who_did_not_ask_for_it);
/// Goal: a waiter that accepts no stale rows gets none, whichever caller started the flight.
async fn a_shared_load_serves_nobody_a_stale_row_who_did_not_ask_for_it(world: World) {
    let text = unique("row");
    let notes = uncached(&world, &text).await;
    let easy = notes.with(
        ReadOptions::new()
            .ttl(Duration::from_millis(1))
            .stale_ttl(Duration::from_secs(60)),
    );
    let gate = Gate::hold(&text);
    let leader = tokio::spawn(async move { easy.find_by_id(1).await });
    gate.arrived(1).await;
    let strict = find(&notes, 1);
    missed(&notes, 2).await;
    gate.open();
    leader.await.unwrap().unwrap();
    assert!(!strict.await.unwrap().unwrap().unwrap().is_stale());
}

on_both_tiers!(two_cached_dbs_do_not_share_their_flights);
/// Goal: a load of one `CachedDb` never answers another's caller, even for the same key text.
async fn two_cached_dbs_do_not_share_their_flights(world: World) {
    let text = unique("row");
    let notes = uncached(&world, &text).await;
    let others = note::Repository::new(
        &world
            .db_with(|config| config.lease_wait = Duration::ZERO)
            .await,
    );
    let gate = Gate::hold(&text);
    let reader = find(&notes, 1);
    gate.arrived(1).await;
    let other = find(&others, 1);
    gate.arrived(2).await;
    gate.open();
    reader.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert_eq!(world.statements.verbs(), ["SELECT", "SELECT"]);
}
