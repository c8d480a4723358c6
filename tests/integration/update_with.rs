//! `update_with`: read, change, write, and again after a conflict.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::verbs::{contested, counter},
};
use sea_orm::{ActiveValue::Set, EntityTrait};

async fn insert_counter(counters: &counter::Repository) {
    let row = counter::ActiveModel {
        id: Set(1),
        value: Set(0),
        ..Default::default()
    };
    counters.insert(row).await.unwrap();
}

everywhere!(concurrent_increments_through_two_caches_lose_nothing);
/// Goal: 20 tasks that each raise one counter 10 times, half of them through another handle,
/// raise it by exactly 200.
async fn concurrent_increments_through_two_caches_lose_nothing(world: World) {
    const TASKS: i64 = 20;
    const TIMES: i64 = 10;
    world.create_table(counter::Entity).await;
    let patient = |config: &mut cached_repo::Config| config.update_attempts = 10_000;
    let one = world.db_with(patient).await;
    // In-process caches share nothing, and two of them over one database are no cache of it.
    let other = match world.tier() {
        Tier::Redis => world.db_with(patient).await,
        Tier::Memory => one.clone(),
    };
    let counters = [
        counter::Repository::new(&one),
        counter::Repository::new(&other),
    ];
    insert_counter(&counters[0]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let counters = counters[task as usize % 2].clone();
            tokio::spawn(async move {
                let mut last = 0;
                for _ in 0..TIMES {
                    let saved = counters
                        .update_with(1, |row| row.value = Set(row.value.as_ref() + 1))
                        .await
                        .unwrap();
                    // Each of a task's own writes comes after the one before.
                    assert!(saved.value > last);
                    last = saved.value;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for counters in &counters {
        let row = counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(row.value, TASKS * TIMES);
        assert_eq!(i64::from(row.version), 1 + TASKS * TIMES);
    }
    let in_database = counter::Entity::find_by_id(1).one(&world.conn).await;
    assert_eq!(in_database.unwrap().unwrap().value, TASKS * TIMES);
}

everywhere!(changing_a_row_that_is_not_there_is_not_found);
/// Goal: `update_with` on a missing row is `NotFound`, and `change` is never called.
async fn changing_a_row_that_is_not_there_is_not_found(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let error = counters
        .update_with(1, |_| panic!("there is nothing to change"))
        .await
        .unwrap_err();
    let WriteError::NotFound { entity, id } = error else {
        panic!("{error}");
    };
    assert_eq!((entity.as_str(), id.as_str()), ("counter", "1"));
}

everywhere!(setting_nothing_writes_nothing);
/// Goal: a change that sets nothing returns the row without any SQL.
async fn setting_nothing_writes_nothing(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert_counter(&counters).await;
    counters.find_by_id(1).await.unwrap();
    let _ = world.statements.take();
    let row = counters.update_with(1, |_| {}).await.unwrap();
    assert_eq!((row.value, row.version), (0, 1));
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(counters.stats().writes, 1);
}

everywhere!(a_stale_cache_costs_one_retry);
/// Goal: the cache is behind because someone wrote past the library. The first attempt conflicts
/// and repairs the cache, and the second succeeds on what they wrote.
async fn a_stale_cache_costs_one_retry(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert_counter(&counters).await;
    counters.find_by_id(1).await.unwrap();
    world
        .raw("UPDATE counter SET value = 1000, version = 5")
        .await;
    let mut calls = 0;
    let row = counters
        .update_with(1, |row| {
            calls += 1;
            row.value = Set(row.value.as_ref() + 1);
        })
        .await
        .unwrap();
    assert_eq!((row.value, row.version, calls), (1001, 6, 2));
    let stats = counters.stats();
    assert_eq!((stats.conflicts, stats.retries), (1, 1));
}

everywhere!(a_stale_cache_above_the_database_costs_one_retry);
/// Goal: the same when the version in the database is lower than the cached one, as after a
/// restored backup.
async fn a_stale_cache_above_the_database_costs_one_retry(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert_counter(&counters).await;
    for _ in 0..3 {
        counters
            .update_with(1, |row| row.value = Set(7))
            .await
            .unwrap();
    }
    world.raw("UPDATE counter SET value = 3, version = 1").await;
    let row = counters
        .update_with(1, |row| row.value = Set(row.value.as_ref() + 1))
        .await
        .unwrap();
    assert_eq!((row.value, row.version), (4, 2));
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.value, found.version), (4, 2));
}

everywhere!(attempts_are_bounded);
/// Goal: when every attempt meets a conflict, `update_with` gives up after `update_attempts`,
/// with the last conflict.
async fn attempts_are_bounded(world: World) {
    world.create_table(contested::Entity).await;
    let db = world.db_with(|config| config.update_attempts = 4).await;
    let contested = contested::Repository::new(&db);
    let row = contested::ActiveModel {
        id: Set(1),
        value: Set(0),
        ..Default::default()
    };
    contested.insert(row).await.unwrap();
    let mut calls = 0;
    let error = contested
        .update_with(1, |row| {
            calls += 1;
            row.value = Set(-1);
        })
        .await
        .unwrap_err();
    let WriteError::VersionConflict {
        expected, found, ..
    } = error
    else {
        panic!("{error}");
    };
    // The rival has raised the version once per attempt.
    assert_eq!((calls, expected, found), (4, 4, 5));
    let stats = contested.stats();
    assert_eq!((stats.conflicts, stats.retries, stats.writes), (4, 3, 1));
    let now = contested.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((now.value, now.version), (400, 5));
}

everywhere!(a_row_deleted_meanwhile_is_not_found);
/// Goal: a cached row that is gone from the database is `NotFound`, not a conflict, and the cache
/// forgets it.
async fn a_row_deleted_meanwhile_is_not_found(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert_counter(&counters).await;
    let cached = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(cached.source(), Source::Shared);
    world.raw("DELETE FROM counter").await;
    let error = counters
        .update_with(1, |row| row.value = Set(1))
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
    assert!(counters.find_by_id(1).await.unwrap().is_none());
}

everywhere!(a_change_may_not_move_the_version_by_hand);
/// Goal: whatever a change sets the version to, the database's version rises by one or the write
/// conflicts: nobody can write over a row they have not read.
async fn a_change_may_not_move_the_version_by_hand(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db_with(|config| config.update_attempts = 2).await;
    let counters = counter::Repository::new(&db);
    insert_counter(&counters).await;
    let error = counters
        .update_with(1, |row| {
            row.value = Set(9);
            row.version = Set(50);
        })
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::VersionConflict {
                expected: 50,
                found: 1,
                ..
            }
        ),
        "{error}"
    );
    let row = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((row.value, row.version), (0, 1));
}

/// Goal: MySQL and MariaDB show a transaction the state that it began with. `update_with` changes the
/// newest one all the same, and a conflict names the version that the database has.
#[tokio::test]
async fn a_change_in_a_transaction_that_sees_an_older_state_is_made_to_the_newest() {
    for backend in [Backend::Postgres, Backend::MariaDb] {
        let world = World::new(backend, Tier::Redis).await;
        changed_by_two(world).await;
    }
}

async fn changed_by_two(world: World) {
    world.create_table(counter::Entity).await;
    world
        .raw("INSERT INTO counter (id, value, version) VALUES (1, 10, 1)")
        .await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let tx = db.begin().await.unwrap();
    let inside = counters.on(&tx);
    let seen = inside.find_by_id(1).await.unwrap().unwrap().into_model();
    counters
        .update_with(1, |row| row.value = Set(20))
        .await
        .unwrap();
    let conflict = inside.save(seen).await.unwrap_err();
    let WriteError::VersionConflict { found, .. } = conflict else {
        panic!("{conflict}");
    };
    assert_eq!(found, 2);
    let changed = inside
        .update_with(1, |row| row.value = Set(row.value.as_ref() + 1))
        .await
        .unwrap();
    assert_eq!((changed.value, changed.version), (21, 3));
    tx.commit().await.unwrap();
    let row = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((row.value, row.version), (21, 3));
}
