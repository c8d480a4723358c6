//! Rows that are missed at the same time are loaded together; a failure of one does not affect the
//! others.

use std::time::Duration;

use cached_repo_tests::{
    Backend, Tier, World,
    gated::{Gate, Mine, Text, note},
};
use futures_util::future::join_all;
use sea_orm::{ActiveValue::Set, EntityTrait};

const ROWS: i64 = 100;
/// A limit that no test should reach.
const LIMIT: Duration = Duration::from_secs(10);

/// Goal: a hundred cold rows take a handful of statements, and everyone gets the right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_missed_together_are_loaded_together() {
    let world = cold_notes("row").await;
    let notes = note::Repository::new(&world.db().await);
    let found = join_all((1..=ROWS).map(async |id| notes.find_by_id(id).await)).await;
    for (id, found) in (1..=ROWS).zip(found) {
        assert_eq!(found.unwrap().unwrap().id, id);
    }
    let statements = world.statements.verbs();
    assert!(
        statements.len() <= 20,
        "{ROWS} rows took {} statements",
        statements.len()
    );
}

/// Goal: one row that panics when it is decoded fails its own readers only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_loaded_spares_those_beside_it() {
    let prefix = cached_repo_harness::unique("row");
    let world = cold_notes(&prefix).await;
    let notes = note::Repository::new(&world.db().await);
    {
        let _mine = Mine::lay(&format!("{prefix}7"));
        let found = join_all((1..=ROWS).map(async |id| notes.find_by_id(id).await)).await;
        for (id, found) in (1..=ROWS).zip(found) {
            assert_eq!(found.is_err(), id == 7, "{id}: {found:?}");
        }
    }
    assert_eq!(notes.find_by_id(7).await.unwrap().unwrap().id, 7);
}

/// Goal: a statement that fails is repeated row by row, and the error reaches everyone if that
/// fails too; afterwards loads work again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_fails_every_reader_and_then_none() {
    let world = cold_notes("row").await;
    let notes = note::Repository::new(&world.db().await);
    world
        .raw(r#"ALTER TABLE "note" RENAME TO "elsewhere""#)
        .await;
    let found = join_all((1..=ROWS).map(async |id| notes.find_by_id(id).await)).await;
    assert!(found.iter().all(Result::is_err));
    world
        .raw(r#"ALTER TABLE "elsewhere" RENAME TO "note""#)
        .await;
    let found = join_all((1..=ROWS).map(async |id| notes.find_by_id(id).await)).await;
    assert!(found.iter().all(|row| matches!(row, Ok(Some(_)))));
}

/// Goal: a row does not wait for a statement that stalls, although its own batch is small.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_row_does_not_wait_for_a_batch_that_stalls() {
    let prefix = cached_repo_harness::unique("row");
    let world = cold_notes(&prefix).await;
    let db = world
        .db_with(|config| config.load_queue_timeout = 2 * LIMIT)
        .await;
    let notes = note::Repository::new(&db);
    let hold = |id: i64| Gate::hold(&format!("{prefix}{id}"));
    let find = |id: i64| {
        let notes = notes.clone();
        tokio::spawn(async move { notes.find_by_id(id).await.unwrap().unwrap().id })
    };
    // As many statements as may run at a time: further requests wait and form a batch.
    let (mut stalled, mut readers) = (Vec::new(), Vec::new());
    for id in 1..=4 {
        let gate = hold(id);
        readers.push(find(id));
        in_time(gate.arrived(1)).await;
        stalled.push(gate);
    }
    let in_batch = hold(10);
    readers.extend((10..20).map(find));
    // A request follows a moment after its miss.
    let missed = async {
        while notes.stats().misses < 14 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(missed).await;
    // Two statements end: one takes the batch along, which stalls, and the other one ends.
    stalled.truncate(2);
    in_time(in_batch.arrived(1)).await;
    assert_eq!(in_time(find(50)).await.unwrap(), 50);
    drop((stalled, in_batch));
    let ids = in_time(join_all(readers))
        .await
        .into_iter()
        .map(Result::unwrap);
    assert_eq!(
        ids.collect::<Vec<_>>(),
        (1..=4).chain(10..20).collect::<Vec<_>>()
    );
}

async fn in_time<F: Future>(what: F) -> F::Output {
    let in_time = tokio::time::timeout(LIMIT, what).await;
    in_time.expect("it waits for the batch that stalls")
}

/// Rows 1 to 100 that the cache does not know, their texts numbered.
async fn cold_notes(prefix: &str) -> World {
    let world = World::new(Backend::Postgres, Tier::Redis).await;
    world.create_table(note::Entity).await;
    let rows = (1..=ROWS).map(|id| note::ActiveModel {
        id: Set(id),
        text: Set(Text(format!("{prefix}{id}"))),
        version: Set(1),
    });
    note::Entity::insert_many(rows)
        .exec(&world.conn)
        .await
        .unwrap();
    let _ = world.statements.take();
    world
}

/// Goal: a find of many thousand keys stores all of them, although all its portions together take longer
/// than the cache may take to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_portion_of_a_large_find_is_stored() {
    const ROWS: i64 = 12_000;
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(note::Entity).await;
    for from in (0..ROWS).step_by(1_000) {
        let rows = (from..from + 1_000).map(|id| format!("({id}, 'row', 1)"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        world
            .raw(&format!(r#"INSERT INTO "note" VALUES {rows}"#))
            .await;
    }
    let db = world
        .db_with(|config| config.cache_timeout = Duration::from_millis(300))
        .await;
    let notes = note::Repository::new(&db);
    let began = std::time::Instant::now();
    let found = notes.find_by_ids(0..ROWS).await.unwrap();
    assert_eq!(found.iter().flatten().count(), ROWS as usize);
    assert!(
        began.elapsed() > Duration::from_millis(300),
        "it is too fast to show anything"
    );
    let _ = db.shutdown(LIMIT).await;
    let stored = db.stats().fills;
    assert!(
        stored > ROWS as u64 * 9 / 10,
        "{stored} of {ROWS} rows were stored"
    );
}
