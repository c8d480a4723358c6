//! Single flight: a stampede is one SELECT. All waiters get an error, and no later reader does.

use std::time::Duration;

use cached_repo::{Config, ReadError};
use cached_repo_tests::{Tier, World, entities::verbs::counter};
use sea_orm::ActiveValue::Set;

const READERS: usize = 200;

/// On a busy machine another process's load may take longer than the default wait.
fn patient(config: &mut Config) {
    config.lease_ttl = Duration::from_secs(60);
    config.lease_wait = Duration::from_secs(60);
}

async fn insert(world: &World) {
    world.create_table(counter::Entity).await;
    world
        .raw("INSERT INTO counter (id, value, version) VALUES (1, 10, 1)")
        .await;
}

everywhere!(a_stampede_on_a_cold_row_is_one_select);
/// Goal: 200 concurrent finds of one cold row issue one SELECT and all get the row.
async fn a_stampede_on_a_cold_row_is_one_select(world: World) {
    insert(&world).await;
    let counters = counter::Repository::new(&world.db_with(patient).await);
    for id in [1, 2] {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let counters = counters.clone();
                tokio::spawn(async move { counters.find_by_id(id).await.unwrap() })
            })
            .collect();
        for reader in readers {
            let found = reader.await.unwrap().map(|row| row.value);
            assert_eq!(found, (id == 1).then_some(10));
        }
        assert_eq!(world.statements.verbs(), ["SELECT"]);
    }
    let stats = counters.stats();
    assert_eq!((stats.loads, stats.fills), (2, 2));
    assert_eq!(stats.shared_hits + stats.misses, 2 * READERS as u64);
}

everywhere!(two_processes_that_stampede_issue_one_select);
/// Goal: two handles on one Redis share the load too; two in-process caches load once each.
async fn two_processes_that_stampede_issue_one_select(world: World) {
    insert(&world).await;
    let repositories = [
        counter::Repository::new(&world.db_with(patient).await),
        counter::Repository::new(&world.db_with(patient).await),
    ];
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let counters = repositories[reader % 2].clone();
            tokio::spawn(async move { counters.find_by_id(1).await.unwrap().unwrap().value })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 10);
    }
    let selects = match world.tier() {
        Tier::Redis => 1,
        Tier::Memory => 2,
    };
    assert_eq!(world.statements.verbs().len(), selects);
}

everywhere!(a_stampede_behind_a_save_sees_the_save);
/// Goal: readers that start after a save was acknowledged never get the row from before it, also
/// when a load from before it is still under way.
async fn a_stampede_behind_a_save_sees_the_save(world: World) {
    insert(&world).await;
    let counters = counter::Repository::new(&world.db_with(patient).await);
    for value in 0..20 {
        counters.invalidate(1).await.unwrap();
        let early: Vec<_> = (0..5)
            .map(|_| {
                let counters = counters.clone();
                tokio::spawn(async move { counters.find_by_id(1).await.unwrap().unwrap().value })
            })
            .collect();
        for _ in 0..value % 7 {
            tokio::task::yield_now().await;
        }
        counters
            .update_with(1, |row| row.value = Set(100 + value))
            .await
            .unwrap();
        let late: Vec<_> = (0..5)
            .map(|_| {
                let counters = counters.clone();
                tokio::spawn(async move { counters.find_by_id(1).await.unwrap().unwrap().value })
            })
            .collect();
        for reader in late {
            assert_eq!(reader.await.unwrap(), 100 + value);
        }
        for reader in early {
            let seen = reader.await.unwrap();
            assert!([10, 99 + value, 100 + value].contains(&seen), "{seen}");
        }
    }
}

everywhere!(an_error_goes_to_all_who_wait_and_is_not_cached);
/// Goal: without its table every waiting find fails with the database's error, in a few loads and
/// not one each; with the table back, the next find succeeds at once.
async fn an_error_goes_to_all_who_wait_and_is_not_cached(world: World) {
    insert(&world).await;
    let counters = counter::Repository::new(&world.db_with(patient).await);
    world.raw("DROP TABLE counter").await;
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let counters = counters.clone();
            tokio::spawn(async move { counters.find_by_id(1).await.map(|_| ()) })
        })
        .collect();
    for reader in readers {
        let error = reader.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, ReadError::Database { entity, .. } if entity == "counter"),
            "{error}"
        );
    }
    let stats = counters.stats();
    assert!(stats.load_errors <= 10, "{stats:?}");
    assert_eq!((stats.load_errors, stats.fills), (stats.loads, 0));

    insert(&world).await;
    let row = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(row.value, 10);
    assert_eq!(
        counters.stats().lease_waits,
        0,
        "a failed load gives its lease back"
    );
}

everywhere!(a_failed_load_leaves_a_cached_row_alone);
/// Goal: a refresh that fails is an error to its caller only: what the cache holds is still
/// served, and can be refreshed later.
async fn a_failed_load_leaves_a_cached_row_alone(world: World) {
    insert(&world).await;
    let counters = counter::Repository::new(&world.db_with(patient).await);
    counters.find_by_id(1).await.unwrap();
    world.raw("ALTER TABLE counter RENAME TO hidden").await;
    counters.refresh(1).await.unwrap_err();
    assert_eq!(counters.find_by_id(1).await.unwrap().unwrap().value, 10);
    world.raw("ALTER TABLE hidden RENAME TO counter").await;
    world.raw("UPDATE counter SET value = 11").await;
    assert_eq!(counters.refresh(1).await.unwrap().unwrap().value, 11);
    assert_eq!(counters.find_by_id(1).await.unwrap().unwrap().value, 11);
}

everywhere!(the_callers_of_a_load_may_all_go_away);
/// Goal: dropping every reader of a cold row at any of its first steps leaves neither a lease nor a
/// flight behind: the next find has the row at once.
async fn the_callers_of_a_load_may_all_go_away(world: World) {
    insert(&world).await;
    let db = world.db_with(patient).await;
    let counters = counter::Repository::new(&db);
    for polls in 0..10 {
        counters.invalidate(1).await.unwrap();
        let mut finds: Vec<_> = (0..3).map(|_| Box::pin(counters.find_by_id(1))).collect();
        for _ in 0..polls {
            for at in (0..finds.len()).rev() {
                let find = &mut finds[at];
                let once = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(find.as_mut().poll(context).is_ready())
                });
                if once.await {
                    drop(finds.swap_remove(at));
                }
            }
            tokio::task::yield_now().await;
        }
        drop(finds);
        let found = tokio::time::timeout(Duration::from_secs(10), counters.find_by_id(1)).await;
        assert_eq!(
            found.unwrap().unwrap().unwrap().value,
            10,
            "after {polls} polls"
        );
    }
    assert_eq!(counters.stats().lease_waits, 0);
    let _ = db.shutdown(Duration::from_secs(10)).await;
}
