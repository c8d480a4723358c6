//! Cache-aside: the caller loads the row, and the lease keeps old rows out of the cache.

use std::time::Duration;

use cached_repo::{CacheError, LookedUp, ReadOptions, Source};
use cached_repo_tests::{
    World,
    entities::{setting, verbs::counter},
    eventually,
};
use sea_orm::{ActiveValue::Set, EntityTrait};

fn model(id: i32, value: i64, version: i32) -> counter::Model {
    counter::Model {
        id,
        value,
        note: None,
        version,
    }
}

everywhere!(a_miss_a_fill_and_a_hit);
/// Goal: a lookup misses, the filled row is returned as loaded, and the next lookup and find are
/// hits without SQL.
async fn a_miss_a_fill_and_a_hit(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let filled = lease.fill(model(1, 10, 3)).await.unwrap();
    assert_eq!(
        (filled.source(), &*filled),
        (Source::Database, &model(1, 10, 3))
    );
    let LookedUp::Hit(hit) = counters.cache().lookup(1).await else {
        panic!("it was filled");
    };
    assert_eq!((hit.source(), &*hit), (Source::Shared, &model(1, 10, 3)));
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(
        (found.source(), &*found),
        (Source::Shared, &model(1, 10, 3))
    );
    assert_eq!(world.statements.verbs(), [""; 0]);
    let stats = counters.stats();
    assert_eq!((stats.misses, stats.shared_hits, stats.fills), (1, 2, 1));
}

everywhere!(a_filled_absence_is_known_where_texts_are_exact);
/// Goal: `fill_absent` is remembered, except for a text key on a database that may call another
/// text equal, and with negative caching off.
async fn a_filled_absence_is_known_where_texts_are_exact(world: World) {
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    lease.fill_absent().await;
    assert!(matches!(counters.cache().lookup(1).await, LookedUp::Absent));
    assert_eq!(counters.stats().absent_hits, 1);

    let off = counters.with(ReadOptions::new().negative_ttl(Duration::ZERO));
    for _ in 0..2 {
        let LookedUp::Miss(lease) = off.cache().lookup(2).await else {
            panic!("absences are not cached");
        };
        lease.fill_absent().await;
    }
    let settings = setting::Repository::new(&db);
    let LookedUp::Miss(lease) = settings.cache().lookup("theme").await else {
        panic!("nothing is cached");
    };
    lease.fill_absent().await;
    let known = matches!(settings.cache().lookup("theme").await, LookedUp::Absent);
    assert_eq!(known, world.backend() != sea_orm::DbBackend::MySql);
}

everywhere!(a_fill_after_a_save_is_refused);
/// Goal: a row that was loaded before somebody's save does not get into the cache after it; the
/// caller still gets its row back.
async fn a_fill_after_a_save_is_refused(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let row = counter::ActiveModel {
        id: Set(1),
        value: Set(10),
        ..Default::default()
    };
    counters.insert(row).await.unwrap();
    counters.invalidate(1).await.unwrap();
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("it was invalidated");
    };
    let old = counter::Entity::find_by_id(1).one(&world.conn).await;
    let old = old.unwrap().unwrap();
    let mut new = old.clone();
    new.value = 11;
    let saved = counters.save(new).await.unwrap();

    assert_eq!(*lease.fill(old.clone()).await.unwrap(), old);
    assert_eq!(counters.stats().fills_refused, 1);
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &saved));
}

everywhere!(an_absence_filled_after_an_insert_is_refused);
/// Goal: the same for a reader that found no row just before somebody inserted it, also when the
/// database made the key.
async fn an_absence_filled_after_an_insert_is_refused(world: World) {
    use cached_repo_tests::entities::user;
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let LookedUp::Miss(lease) = users.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let ada = user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    };
    let inserted = users.insert(ada).await.unwrap();
    assert_eq!(inserted.id, 1);
    lease.fill_absent().await;
    assert_eq!(users.find_by_id(1).await.unwrap().as_ref(), Some(&inserted));
    assert_eq!(users.find_by_id(1).await.unwrap().as_ref(), Some(&inserted));
}

everywhere!(another_row_is_refused_and_the_lease_given_back);
/// Goal: a row of another key than the one looked up is an error that names both, it is not
/// stored under either, and the next lookup gets the lease.
async fn another_row_is_refused_and_the_lease_given_back(world: World) {
    let counters = counter::Repository::new(&world.db().await);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let error = lease.fill(model(2, 10, 1)).await.unwrap_err();
    let CacheError::OtherRow { expected, found } = &error else {
        panic!("{error}");
    };
    assert!(expected.ends_with(":counter:1"), "{expected}");
    assert!(found.ends_with(":counter:2"), "{found}");
    fill_soon(&counters, 1).await;
    assert!(matches!(
        counters.cache().lookup(2).await,
        LookedUp::Miss(_)
    ));
}

everywhere!(a_dropped_lease_is_given_back);
/// Goal: a caller that gives up delays nobody: the next lookup gets the lease, long before it would
/// have lapsed.
async fn a_dropped_lease_is_given_back(world: World) {
    let db = world
        .db_with(|config| {
            config.lease_ttl = Duration::from_secs(600);
            config.lease_wait = Duration::from_secs(600);
        })
        .await;
    let counters = counter::Repository::new(&db);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    drop(lease);
    fill_soon(&counters, 1).await;
}

/// Looks up and fills until the row is stored.
async fn fill_soon(counters: &counter::Repository, id: i32) {
    eventually("the lease is free again", async || {
        match counters.cache().lookup(id).await {
            LookedUp::Hit(_) => Some(()),
            LookedUp::Absent => panic!("nobody has said so"),
            LookedUp::Miss(lease) => {
                lease.fill(model(id, 1, 1)).await.unwrap();
                None
            }
        }
    })
    .await;
}

everywhere!(a_lookup_during_another_load_waits_for_it);
/// Goal: while one caller loads, another waits and gets what it filled, without a lease of its own.
async fn a_lookup_during_another_load_waits_for_it(world: World) {
    let db = world
        .db_with(|config| config.lease_wait = Duration::from_secs(60))
        .await;
    let counters = counter::Repository::new(&db);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let waiting = tokio::spawn({
        let counters = counters.clone();
        async move {
            match counters.cache().lookup(1).await {
                LookedUp::Hit(row) => row.value,
                other => panic!("{other:?}"),
            }
        }
    });
    eventually("it waits", async || {
        (counters.stats().lease_waits > 0).then_some(())
    })
    .await;
    lease.fill(model(1, 42, 1)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 42);
}

everywhere!(a_lookup_past_a_stuck_load_may_not_store);
/// Goal: once `lease_wait` is over the second caller asks the database itself. The row that it
/// loads is not stored, because the first caller may still store one.
async fn a_lookup_past_a_stuck_load_may_not_store(world: World) {
    let db = world
        .db_with(|config| config.lease_wait = Duration::from_millis(20))
        .await;
    let counters = counter::Repository::new(&db);
    let LookedUp::Miss(stuck) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    let LookedUp::Miss(second) = counters.cache().lookup(1).await else {
        panic!("the first one has not filled");
    };
    assert_eq!(second.fill(model(1, 2, 2)).await.unwrap().value, 2);
    assert_eq!(stuck.fill(model(1, 1, 1)).await.unwrap().value, 1);
    let LookedUp::Hit(row) = counters.cache().lookup(1).await else {
        panic!("the first one has filled");
    };
    assert_eq!(row.value, 1);
}

everywhere!(a_fresh_lookup_is_never_a_hit);
/// Goal: `fresh()` asks the database whatever the cache holds, also by cache-aside, and the fill
/// replaces what was there.
async fn a_fresh_lookup_is_never_a_hit(world: World) {
    let counters = counter::Repository::new(&world.db().await);
    let LookedUp::Miss(lease) = counters.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    lease.fill(model(1, 1, 1)).await.unwrap();
    let fresh = counters.fresh();
    let LookedUp::Miss(lease) = fresh.cache().lookup(1).await else {
        panic!("a fresh read is not served from the cache");
    };
    lease.fill(model(1, 2, 1)).await.unwrap();
    let LookedUp::Hit(row) = counters.cache().lookup(1).await else {
        panic!("it was filled");
    };
    assert_eq!(row.value, 2);
}
