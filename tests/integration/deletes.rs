//! Deletes, what they leave behind, and rows that come back.

use std::time::Duration;

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{keys::host, setting, user, verbs::counter},
    eventually,
};
use sea_orm::{ActiveValue::Set, EntityTrait};

fn row(value: i64) -> counter::ActiveModel {
    counter::ActiveModel {
        id: Set(1),
        value: Set(value),
        ..Default::default()
    }
}

everywhere!(a_deleted_row_is_gone_and_its_absence_is_cached);
/// Goal: after `delete` the row is not found, first from the database and then from the cache, and
/// not in the database either.
async fn a_deleted_row_is_gone_and_its_absence_is_cached(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let inserted = counters.insert(row(1)).await.unwrap().into_model();
    counters.delete(inserted).await.unwrap();
    let in_database = counter::Entity::find_by_id(1).one(&world.conn).await;
    assert_eq!(in_database.unwrap(), None);
    let _ = world.statements.take();

    assert!(counters.find_by_id(1).await.unwrap().is_none());
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(counters.stats().absent_hits, 1);
}

everywhere!(a_stale_delete_conflicts_and_repairs_the_cache);
/// Goal: a delete of a row that someone wrote since is refused with the facts, and the next read
/// returns what they wrote.
async fn a_stale_delete_conflicts_and_repairs_the_cache(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let stale = counters.insert(row(1)).await.unwrap().into_model();
    counters.find_by_id(1).await.unwrap();
    world.raw("UPDATE counter SET value = 8, version = 3").await;
    let error = counters.delete(stale).await.unwrap_err();
    let WriteError::VersionConflict {
        entity,
        id,
        expected,
        found,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((entity.as_str(), id.as_str()), ("counter", "1"));
    assert_eq!((expected, found), (1, 3));
    let current = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((current.value, current.version), (8, 3));
    counters.delete(current.into_model()).await.unwrap();
    assert!(counters.find_by_id(1).await.unwrap().is_none());
}

everywhere!(delete_by_id_returns_the_row_as_it_was);
/// Goal: `delete_by_id` needs no version, returns the database's row even when the cache is behind,
/// and `None` when there is none.
async fn delete_by_id_returns_the_row_as_it_was(world: World) {
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    counters.insert(row(1)).await.unwrap();
    counters.find_by_id(1).await.unwrap();
    world.raw("UPDATE counter SET value = 8, version = 3").await;

    let deleted = counters.delete_by_id(1).await.unwrap().unwrap();
    assert_eq!((deleted.value, deleted.version), (8, 3));
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    assert_eq!(counters.delete_by_id(1).await.unwrap(), None);
    assert!(counters.find_by_id(1).await.unwrap().is_none());

    let settings = setting::Repository::new(&db);
    let theme = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    let theme = settings.insert(theme).await.unwrap().into_model();
    assert_eq!(settings.delete_by_id("theme").await.unwrap(), Some(theme));
    assert_eq!(settings.delete_by_id("theme").await.unwrap(), None);
}

everywhere!(delete_by_id_forgets_a_row_that_only_the_cache_has);
/// Goal: a row deleted past the library and still cached is not found after `delete_by_id`, though
/// that deleted nothing.
async fn delete_by_id_forgets_a_row_that_only_the_cache_has(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    counters.insert(row(1)).await.unwrap();
    let cached = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(cached.source(), Source::Shared);
    world.raw("DELETE FROM counter").await;
    assert_eq!(counters.delete_by_id(1).await.unwrap(), None);
    assert!(counters.find_by_id(1).await.unwrap().is_none());
}

everywhere!(a_row_that_comes_back_is_readable_at_once_and_cached_once_its_floor_lapses);
/// Goal: a row that was deleted at a high version and inserted again at version 1 is read at once,
/// and cached again when the floor of its earlier life has lapsed.
async fn a_row_that_comes_back_is_readable_at_once_and_cached_once_its_floor_lapses(world: World) {
    world.create_table(counter::Entity).await;
    let db = world
        .db_with(|config| {
            config.block_ttl = Duration::from_millis(700);
            config.tombstone_ttl = Duration::from_millis(800);
            config.cache_timeout = Duration::from_millis(500);
        })
        .await;
    let counters = counter::Repository::new(&db);
    for by_id in [true, false] {
        counters.insert(row(1)).await.unwrap();
        for value in 2..6 {
            counters
                .update_with(1, |row| row.value = Set(value))
                .await
                .unwrap();
        }
        let last = counters.find_by_id(1).await.unwrap().unwrap().into_model();
        if by_id {
            counters.delete_by_id(1).await.unwrap().unwrap();
        } else {
            counters.delete(last).await.unwrap();
        }
        assert!(counters.find_by_id(1).await.unwrap().is_none());

        let back = counters.insert(row(100)).await.unwrap();
        assert_eq!(back.version, 1);
        eventually("the row is cached again", async || {
            let found = counters.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(found, back);
            (found.source() == Source::Shared).then_some(())
        })
        .await;
        counters.delete_by_id(1).await.unwrap().unwrap();
    }
}

everywhere!(an_unversioned_row_that_comes_back_is_cacheable_at_once);
/// Goal: without versions there is no floor to wait for.
async fn an_unversioned_row_that_comes_back_is_cacheable_at_once(world: World) {
    world.create_table(setting::Entity).await;
    let settings = setting::Repository::new(&world.db().await);
    for value in ["dark", "light"] {
        let row = setting::ActiveModel {
            name: Set("theme".into()),
            value: Set(value.into()),
        };
        settings.insert(row).await.unwrap();
        settings.find_by_id("theme").await.unwrap().unwrap();
        let warm = settings.find_by_id("theme").await.unwrap().unwrap();
        assert_eq!(
            (warm.source(), warm.value.as_str()),
            (Source::Shared, value)
        );
        settings.delete_by_id("theme").await.unwrap().unwrap();
        assert!(settings.find_by_id("theme").await.unwrap().is_none());
    }
}

everywhere!(a_delete_through_one_process_is_seen_by_another);
/// Goal: a row that another process has cached is gone for it too, once the delete is acknowledged.
async fn a_delete_through_one_process_is_seen_by_another(world: World) {
    if world.tier() == Tier::Memory {
        return;
    }
    world.create_table(user::Entity).await;
    let here = user::Repository::new(&world.db().await);
    let there = user::Repository::new(&world.db().await);
    let ada = user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    };
    let id = here.insert(ada).await.unwrap().id;
    let row = there.find_by_id(id).await.unwrap().unwrap().into_model();
    assert_eq!(
        there.find_by_id(id).await.unwrap().unwrap().source(),
        Source::Shared
    );
    here.delete_by_id(id).await.unwrap().unwrap();
    assert!(there.find_by_id(id).await.unwrap().is_none());
    let error = there.save(row).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
}

/// Goal: rows with columns that are read in another type than they have are written and deleted by every
/// verb, alone and in a transaction, also if their key is spelt in several ways.
#[tokio::test]
async fn rows_whose_columns_are_cast_are_written_and_deleted() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Postgres, tier).await;
        world
            .raw("CREATE TABLE host (address inet PRIMARY KEY, gateway inet, version bigint)")
            .await;
        let db = world.db().await;
        let hosts = host::Repository::new(&db);
        let row = |address: &str| host::ActiveModel {
            address: Set(address.into()),
            gateway: Set("10.0.0.1".into()),
            ..Default::default()
        };
        for address in ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32", "10.0.0.5/32"] {
            hosts.insert(row(address)).await.unwrap();
            for _ in 0..2 {
                let found = hosts.find_by_id(address).await.unwrap().unwrap();
                assert_eq!(found.gateway, "10.0.0.1/32");
            }
        }
        hosts
            .update_with("10.0.0.2/32", |row| row.gateway = Set("10.0.0.9".into()))
            .await
            .unwrap();
        let found = hosts.find_by_id("10.0.0.2/32").await.unwrap().unwrap();
        assert_eq!(found.gateway, "10.0.0.9/32");
        // Spelt as it was not read.
        let gone = hosts.delete_by_id("10.0.0.2").await.unwrap().unwrap();
        assert_eq!(gone.address, "10.0.0.2/32");
        let row = hosts.find_by_id("10.0.0.3/32").await.unwrap().unwrap();
        hosts.delete(row.into_model()).await.unwrap();
        let tx = db.begin().await.unwrap();
        let inside = hosts.on(&tx);
        inside.delete_by_id("10.0.0.4").await.unwrap().unwrap();
        let row = inside.find_by_id("10.0.0.5/32").await.unwrap().unwrap();
        inside.delete(row.into_model()).await.unwrap();
        tx.commit().await.unwrap();
        for address in ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32", "10.0.0.5/32"] {
            assert!(
                hosts.find_by_id(address).await.unwrap().is_none(),
                "{address}"
            );
        }
        assert_eq!(host::Entity::find().all(&world.conn).await.unwrap(), []);
    }
}
