//! `save` and `update`: what they write, what they refuse, and what the cache holds afterwards.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    World,
    entities::{
        setting, user,
        verbs::{counter, link},
    },
};
use sea_orm::{
    ActiveValue::{NotSet, Set, Unchanged},
    DbBackend, EntityTrait,
};

async fn insert_counter(counters: &counter::Repository) -> counter::Model {
    let row = counter::ActiveModel {
        id: Set(1),
        value: Set(10),
        note: Set(Some("first".into())),
        ..Default::default()
    };
    counters.insert(row).await.unwrap().into_model()
}

everywhere!(a_save_writes_every_column);
/// Goal: `save` writes all columns of the model, also those that someone changed since in the
/// database without raising the version, and also a NULL.
async fn a_save_writes_every_column(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let mut row = insert_counter(&counters).await;
    world.raw("UPDATE counter SET value = 99").await;
    row.note = None;
    let saved = counters.save(row.clone()).await.unwrap();
    let expected = counter::Model { version: 2, ..row };
    assert_eq!(*saved, expected);
    let in_database = counter::Entity::find_by_id(1).one(&world.conn).await;
    assert_eq!(in_database.unwrap().unwrap(), expected);
}

everywhere!(an_update_writes_only_what_is_set);
/// Goal: `update` leaves columns alone that are unchanged or not set, and returns and caches the
/// row as the database has it.
async fn an_update_writes_only_what_is_set(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    insert_counter(&counters).await;
    world
        .raw("UPDATE counter SET value = 99, note = 'theirs'")
        .await;
    let change = counter::ActiveModel {
        id: Unchanged(1),
        value: Unchanged(10),
        note: NotSet,
        version: Unchanged(1),
    };
    let mut named = change.clone();
    named.value = Set(11);
    let updated = counters.update(named).await.unwrap();
    let expected = counter::Model {
        id: 1,
        value: 11,
        note: Some("theirs".into()),
        version: 2,
    };
    assert_eq!(*updated, expected);
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.source(), &*found), (Source::Shared, &expected));
    // The key may be set as well as unchanged.
    let by_set_key = counter::ActiveModel {
        id: Set(1),
        value: Set(12),
        note: NotSet,
        version: Set(2),
    };
    let updated = counters.update(by_set_key).await.unwrap();
    assert_eq!((updated.value, updated.version), (12, 3));
}

everywhere!(an_update_without_a_version_or_a_key_is_refused_before_any_sql);
/// Goal: a versioned row cannot be written without its version, nor any row without its key, and
/// neither is sent to the database.
async fn an_update_without_a_version_or_a_key_is_refused_before_any_sql(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let no_version = user::ActiveModel {
        id: Set(1),
        name: Set("Ada".into()),
        ..Default::default()
    };
    let error = users.update(no_version).await.unwrap_err();
    assert!(
        matches!(&error, WriteError::VersionNotSet { entity } if entity == "user"),
        "{error}"
    );
    let no_key = user::ActiveModel {
        name: Set("Ada".into()),
        version: Set(1),
        ..Default::default()
    };
    let error = users.update(no_key).await.unwrap_err();
    assert!(
        matches!(&error, WriteError::KeyNotSet { entity } if entity == "user"),
        "{error}"
    );
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(users.stats().writes, 0);
}

everywhere!(a_write_of_a_missing_row_is_not_found_and_no_conflict);
/// Goal: a write of a row that is gone is `NotFound`, versioned or not, and the cache forgets it.
async fn a_write_of_a_missing_row_is_not_found_and_no_conflict(world: World) {
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let row = insert_counter(&counters).await;
    counters.find_by_id(1).await.unwrap().unwrap();
    world.raw("DELETE FROM counter").await;

    let error = counters.save(row.clone()).await.unwrap_err();
    let WriteError::NotFound { entity, id } = error else {
        panic!("{error}");
    };
    assert_eq!((entity.as_str(), id.as_str()), ("counter", "1"));
    assert!(counters.find_by_id(1).await.unwrap().is_none());
    let error = counters.delete(row).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
    assert_eq!(
        (counters.stats().conflicts, counters.stats().writes),
        (0, 1)
    );

    let settings = setting::Repository::new(&db);
    let never = setting::Model {
        name: "never".into(),
        value: "was".into(),
    };
    let error = settings.save(never.clone()).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
    let error = settings.delete(never).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
}

everywhere!(saving_what_is_there_already_succeeds);
/// Goal: a save that changes nothing is a write like any other, also where the database counts
/// only rows that changed.
async fn saving_what_is_there_already_succeeds(world: World) {
    world.create_table(setting::Entity).await;
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    let settings = setting::Repository::new(&db);
    let row = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    let row = settings.insert(row).await.unwrap().into_model();
    for _ in 0..2 {
        assert_eq!(*settings.save(row.clone()).await.unwrap(), row);
    }
    let counters = counter::Repository::new(&db);
    let row = insert_counter(&counters).await;
    assert_eq!(counters.save(row).await.unwrap().version, 2);
}

everywhere!(an_update_that_sets_nothing_still_checks_the_version);
/// Goal: where SeaORM would silently turn an empty update into a SELECT, the version check stands:
/// a stale one conflicts, a current one succeeds, and a missing row is not found.
async fn an_update_that_sets_nothing_still_checks_the_version(world: World) {
    world.create_table(counter::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    insert_counter(&counters).await;
    let nothing = |id, version| counter::ActiveModel {
        id: Unchanged(id),
        version: Unchanged(version),
        ..Default::default()
    };
    let current = counters.update(nothing(1, 1)).await.unwrap();
    assert_eq!(
        (current.value, current.note.as_deref()),
        (10, Some("first"))
    );
    let in_database = counter::Entity::find_by_id(1).one(&world.conn).await;
    assert_eq!(in_database.unwrap().as_ref(), Some(&*current));
    let error = counters.update(nothing(1, 77)).await.unwrap_err();
    assert!(
        matches!(error, WriteError::VersionConflict { expected: 77, .. }),
        "{error}"
    );
    let error = counters.update(nothing(2, 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");

    let settings = setting::Repository::new(&db);
    let nothing = setting::ActiveModel {
        name: Unchanged("theme".into()),
        value: NotSet,
    };
    let error = settings.update(nothing).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
}

everywhere!(a_row_that_is_all_key_can_be_inserted_saved_and_deleted);
/// Goal: an entity without any column besides its key, as of a many-to-many relation, works.
async fn a_row_that_is_all_key_can_be_inserted_saved_and_deleted(world: World) {
    world.create_table(link::Entity).await;
    let links = link::Repository::new(&world.db().await);
    assert!(links.find_by_id((1, 2)).await.unwrap().is_none());
    let row = link::ActiveModel {
        left: Set(1),
        right: Set(2),
    };
    let row = links.insert(row).await.unwrap().into_model();
    assert_eq!(*links.find_by_id((1, 2)).await.unwrap().unwrap(), row);
    assert!(links.find_by_id((2, 1)).await.unwrap().is_none());
    assert_eq!(*links.save(row.clone()).await.unwrap(), row);
    let other = link::Model { left: 9, right: 9 };
    let error = links.save(other).await.unwrap_err();
    assert!(matches!(error, WriteError::NotFound { .. }), "{error}");
    links.delete(row).await.unwrap();
    assert!(links.find_by_id((1, 2)).await.unwrap().is_none());
}

everywhere!(a_save_through_one_handle_is_seen_through_every_other);
/// Goal: clones of a handle, other repositories of it and, over Redis, other processes see an
/// acknowledged save at once.
async fn a_save_through_one_handle_is_seen_through_every_other(world: World) {
    world.create_table(counter::Entity).await;
    let one = world.db().await;
    let other = match world.tier() {
        cached_repo_tests::Tier::Redis => world.db().await,
        cached_repo_tests::Tier::Memory => one.clone(),
    };
    let (here, there) = (
        counter::Repository::new(&one),
        counter::Repository::new(&other),
    );
    insert_counter(&here).await;
    for value in 0..20 {
        let (writer, reader) = if value % 2 == 0 {
            (&here, &there)
        } else {
            (&there, &here)
        };
        let mut row = reader.find_by_id(1).await.unwrap().unwrap().into_model();
        row.value = value;
        let saved = writer.save(row).await.unwrap();
        let seen = reader.find_by_id(1).await.unwrap().unwrap();
        assert_eq!((seen.source(), &seen), (Source::Shared, &saved));
    }
}

everywhere!(a_row_with_a_negative_version_is_never_served_stale);
/// Goal: versions that the cache cannot order are cached without one, and saves still work.
async fn a_row_with_a_negative_version_is_never_served_stale(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let row = counter::ActiveModel {
        id: Set(1),
        value: Set(0),
        version: Set(-2),
        ..Default::default()
    };
    counters.insert(row).await.unwrap();
    for (value, version) in [(1, -1), (2, 0), (3, 1), (4, 2)] {
        let mut row = counters.find_by_id(1).await.unwrap().unwrap().into_model();
        row.value = value;
        let saved = counters.save(row).await.unwrap();
        assert_eq!(saved.version, version);
        for _ in 0..2 {
            assert_eq!(counters.find_by_id(1).await.unwrap().unwrap(), saved);
        }
    }
}

everywhere!(a_caller_that_goes_away_leaves_a_finished_write_behind);
/// Goal: dropping the future of a save at any of its first steps leaves the cache agreeing with
/// the database, whichever side of the commit it was dropped on.
async fn a_caller_that_goes_away_leaves_a_finished_write_behind(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    insert_counter(&counters).await;
    for polls in 0..12 {
        let row = counters.find_by_id(1).await.unwrap().unwrap().into_model();
        let mut save = Box::pin(counters.save(row));
        for _ in 0..polls {
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(save.as_mut().poll(context).is_ready())
            });
            if once.await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(save);
        let _ = db.shutdown(std::time::Duration::from_secs(10)).await;
        let in_database = counter::Entity::find_by_id(1).one(&world.conn).await;
        let found = counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(in_database.unwrap().unwrap(), *found, "after {polls} polls");
    }
}

/// Goal: any number of writes may be in flight on one row: one wins, the others conflict, and none
/// is refused because of their number. Afterwards the row is cached again.
#[tokio::test]
async fn a_crowd_of_writers_is_let_in() {
    use cached_repo::Source;
    use cached_repo_tests::{Backend, Tier, World};
    use sea_orm::TransactionTrait;

    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Postgres, tier).await;
        assert_eq!(world.backend(), DbBackend::Postgres);
        world.create_table(counter::Entity).await;
        let db = world
            .db_with(|config| config.block_ttl = std::time::Duration::from_secs(3))
            .await;
        let counters = counter::Repository::new(&db);
        let row = insert_counter(&counters).await;
        // Holds the row's lock, so that every save stays in flight.
        let holder = world.conn.begin().await.unwrap();
        sea_orm::ConnectionTrait::execute_unprepared(&holder, "SELECT * FROM counter FOR UPDATE")
            .await
            .unwrap();
        let saves: Vec<_> = (0..70)
            .map(|_| {
                let (counters, row) = (counters.clone(), row.clone());
                tokio::spawn(async move { counters.save(row).await })
            })
            .collect();
        // On this runtime every save is polled before this goes on; in the process its block is then
        // placed.
        tokio::task::yield_now().await;
        if tier == Tier::Redis {
            cached_repo_tests::eventually("every slot is taken", async || {
                let entry = world.entry(&world.key("counter", 1)).await?;
                (entry.claims.writers().len() == 50).then_some(())
            })
            .await;
        }
        assert!(saves.iter().all(|save| !save.is_finished()));
        holder.rollback().await.unwrap();
        let mut won = 0;
        for save in saves {
            match save.await.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert!(
                    matches!(error, WriteError::VersionConflict { .. }),
                    "{error}"
                ),
            }
        }
        assert_eq!(won, 1);
        assert_eq!(counters.find_by_id(1).await.unwrap().unwrap().version, 2);
        cached_repo_tests::eventually("the row is cached again", async || {
            let row = counters.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(row.version, 2);
            (row.source() == Source::Shared).then_some(())
        })
        .await;
    }
}

everywhere!(writes_that_the_database_refuses_do_not_keep_others_out);
/// Goal: any number of saves that break a constraint leaves the row writable, readable and soon
/// cached: a refusal is an outcome, not a write in flight.
async fn writes_that_the_database_refuses_do_not_keep_others_out(world: World) {
    world
        .raw(
            r#"CREATE TABLE "counter" ("id" int PRIMARY KEY, "value" bigint NOT NULL CHECK ("value" >= 0),
               "note" varchar(10), "version" int NOT NULL)"#,
        )
        .await;
    let db = world
        .db_with(|config| {
            config.block_ttl = std::time::Duration::from_secs(600);
            config.tombstone_ttl = std::time::Duration::from_secs(1200);
        })
        .await;
    let counters = counter::Repository::new(&db);
    let row = insert_counter(&counters).await;
    for _ in 0..60 {
        let mut bad = row.clone();
        bad.value = -1;
        let error = counters.save(bad).await.unwrap_err();
        assert!(matches!(error, WriteError::Database { .. }), "{error}");
    }
    let saved = counters.save(row).await.unwrap();
    let found = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &saved));
}
