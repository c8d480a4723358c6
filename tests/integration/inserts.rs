//! Inserts: whose key it is, which version it starts at, and what a refused one leaves behind.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    World,
    entities::{
        user,
        verbs::{
            counter, minted, versioned_i16, versioned_i32, versioned_i64, versioned_u32,
            versioned_u64,
        },
    },
    eventually,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ActiveValue::Unchanged, DbBackend, EntityTrait, SqlErr,
};

fn ada() -> user::ActiveModel {
    user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    }
}

everywhere!(a_key_made_by_the_database_is_returned_and_its_row_is_readable);
/// Goal: an insert without a key returns the database's key, at version 1; the first find caches.
async fn a_key_made_by_the_database_is_returned_and_its_row_is_readable(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);

    let inserted = users.insert(ada()).await.unwrap();
    assert_eq!(inserted.source(), Source::Database);
    assert!(!inserted.is_pending());
    assert_eq!(inserted.version, 1);
    let in_database = user::Entity::find_by_id(inserted.id).one(&world.conn).await;
    assert_eq!(in_database.unwrap().as_ref(), Some(&*inserted));
    let id = inserted.id;
    assert_eq!(users.find_by_id(id).await.unwrap().unwrap(), inserted);
    let warm = users.find_by_id(id).await.unwrap().unwrap();
    assert_eq!((warm.source(), &warm), (Source::Shared, &inserted));
}

everywhere!(a_row_inserted_under_a_given_key_is_cached_at_once);
/// Goal: an insert that names its key puts the row into the cache: the first find is a hit.
async fn a_row_inserted_under_a_given_key_is_cached_at_once(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let row = counter::ActiveModel {
        id: Set(5),
        value: Set(70),
        ..Default::default()
    };
    let inserted = counters.insert(row).await.unwrap();
    assert_eq!((inserted.value, inserted.version), (70, 1));
    let _ = world.statements.take();

    let found = counters.find_by_id(5).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &inserted));
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(counters.stats().puts, 1);
}

everywhere!(a_key_made_by_before_save_is_the_one_that_is_blocked_and_cached);
/// Goal: a key from the hook counts as given: a cached absence of it ends with the insert, and the
/// row is cached at once.
async fn a_key_made_by_before_save_is_the_one_that_is_blocked_and_cached(world: World) {
    world.create_table(minted::Entity).await;
    let minted = minted::Repository::new(&world.db().await);
    let id = minted::id_of("ada");
    assert!(minted.find_by_id(id).await.unwrap().is_none());

    let row = minted::ActiveModel {
        name: Set("ada".into()),
        ..Default::default()
    };
    let inserted = minted.insert(row).await.unwrap();
    assert_eq!((inserted.id, inserted.version), (id, 1));
    let found = minted.find_by_id(id).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &inserted));
}

everywhere!(an_explicit_version_is_kept);
/// Goal: an insert that names its version keeps it, set or unchanged, and the next save starts
/// there.
async fn an_explicit_version_is_kept(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    for (id, version) in [(1, Set(41)), (2, Unchanged(41))] {
        let row = counter::ActiveModel {
            id: Set(id),
            value: Set(0),
            version,
            ..Default::default()
        };
        let inserted = counters.insert(row).await.unwrap();
        assert_eq!(inserted.version, 41);
        let saved = counters.save(inserted.into_model()).await.unwrap();
        assert_eq!(saved.version, 42);
    }
}

everywhere!(a_duplicate_is_refused_and_the_row_stays_readable);
/// Goal: a duplicate key is a database error that says so; the first row is found afterwards, and
/// cached again, and nothing counts as written.
async fn a_duplicate_is_refused_and_the_row_stays_readable(world: World) {
    world.create_table(counter::Entity).await;
    let counters = counter::Repository::new(&world.db().await);
    let row = |value| counter::ActiveModel {
        id: Set(1),
        value: Set(value),
        ..Default::default()
    };
    let first = counters.insert(row(1)).await.unwrap();

    let error = counters.insert(row(2)).await.unwrap_err();
    let WriteError::Database { entity, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(entity, "counter");
    let refused = source.sql_err();
    assert!(
        matches!(refused, Some(SqlErr::UniqueConstraintViolation(_))),
        "{source}"
    );
    assert_eq!(counters.stats().writes, 1);

    assert_eq!(counters.find_by_id(1).await.unwrap().unwrap(), first);
    let again = counters.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((again.source(), &again), (Source::Shared, &first));
}

everywhere!(a_duplicate_of_a_unique_column_harms_no_key);
/// Goal: a duplicate email under a key the database makes is refused, and both the loser's
/// repository and the winner's row go on.
async fn a_duplicate_of_a_unique_column_harms_no_key(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let first = users.insert(ada()).await.unwrap();
    let error = users.insert(ada()).await.unwrap_err();
    assert!(matches!(error, WriteError::Database { .. }), "{error}");
    assert_eq!(users.find_by_id(first.id).await.unwrap().unwrap(), first);
    let mut other = ada();
    other.email = Set("other@example.com".into());
    let other = users.insert(other).await.unwrap();
    assert_eq!(users.find_by_id(other.id).await.unwrap().unwrap(), other);
}

everywhere!(an_insert_that_breaks_a_constraint_leaves_no_row_and_no_wrong_answer);
/// Goal: after an insert that the database refuses for another reason than a duplicate, the key
/// is still known to be absent, and can be inserted and cached after all.
async fn an_insert_that_breaks_a_constraint_leaves_no_row_and_no_wrong_answer(world: World) {
    world
        .raw(
            r#"CREATE TABLE "counter" ("id" int PRIMARY KEY, "value" bigint NOT NULL CHECK ("value" >= 0),
               "note" varchar(10), "version" int NOT NULL)"#,
        )
        .await;
    // Short times: the database's refusal may count as an unknown outcome.
    let db = world
        .db_with(|config| {
            config.block_ttl = std::time::Duration::from_millis(600);
            config.cache_timeout = std::time::Duration::from_millis(500);
        })
        .await;
    let counters = counter::Repository::new(&db);
    let row = |value| counter::ActiveModel {
        id: Set(1),
        value: Set(value),
        ..Default::default()
    };
    let error = counters.insert(row(-1)).await.unwrap_err();
    assert!(matches!(error, WriteError::Database { .. }), "{error}");
    assert!(counters.find_by_id(1).await.unwrap().is_none());

    let inserted = counters.insert(row(1)).await.unwrap();
    assert_eq!(counters.find_by_id(1).await.unwrap().unwrap(), inserted);
    eventually("the row is cached", async || {
        let found = counters.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(found, inserted);
        (found.source() == Source::Shared).then_some(())
    })
    .await;
}

macro_rules! counts_versions {
    ($world:ident, $module:ident, $last:expr) => {{
        $world.create_table($module::Entity).await;
        let db = $world.db().await;
        let rows = $module::Repository::new(&db);
        let row = $module::ActiveModel {
            name: Set("a".into()),
            ..Default::default()
        };
        let first = rows.insert(row).await.unwrap();
        assert_eq!(first.version, 1);
        let second = rows.save((*first).clone()).await.unwrap();
        assert_eq!(second.version, 2);
        let third = rows
            .update_with(first.id, |row| row.name = Set("b".into()))
            .await
            .unwrap();
        assert_eq!((third.version, third.name.as_str()), (3, "b"));
        let stale = rows.save((*second).clone()).await.unwrap_err();
        let expected_and_found = match stale {
            WriteError::VersionConflict {
                expected, found, ..
            } => (expected, found),
            other => panic!("{other}"),
        };
        assert_eq!(expected_and_found, (2, 3));

        // The largest version of the type is a version like any other, until it is to be raised.
        let last = $module::ActiveModel {
            name: Set("z".into()),
            version: Set($last),
            ..Default::default()
        };
        let last = rows.insert(last).await.unwrap();
        assert_eq!(rows.find_by_id(last.id).await.unwrap().unwrap(), last);
        assert_eq!(rows.find_by_id(last.id).await.unwrap().unwrap(), last);
    }};
}

everywhere!(every_type_of_version_counts);
/// Goal: a version of any allowed type starts at 1, is raised by every write and is compared.
async fn every_type_of_version_counts(world: World) {
    counts_versions!(world, versioned_i16, i16::MAX);
    counts_versions!(world, versioned_i32, i32::MAX);
    counts_versions!(world, versioned_i64, i64::MAX);
    if world.backend() == DbBackend::MySql {
        counts_versions!(world, versioned_u32, u32::MAX);
        counts_versions!(world, versioned_u64, u64::MAX);
    }
}

everywhere!(a_version_that_cannot_be_raised_is_an_error_and_not_a_wrong_row);
/// Goal: at the end of its type the version overflows in the database: strict databases refuse,
/// and whatever they do, the cache agrees with them.
async fn a_version_that_cannot_be_raised_is_an_error_and_not_a_wrong_row(world: World) {
    world.create_table(versioned_i16::Entity).await;
    let rows = versioned_i16::Repository::new(&world.db().await);
    let last = versioned_i16::ActiveModel {
        name: Set("z".into()),
        version: Set(i16::MAX),
        ..Default::default()
    };
    let last = rows.insert(last).await.unwrap().into_model();
    let mut changed = last.clone();
    changed.name = "changed".into();
    if world.backend() == DbBackend::Sqlite {
        // SQLite's integers have no width; SeaORM then cannot read the row back.
        assert!(rows.save(changed).await.is_err());
        return;
    }
    let error = rows.save(changed).await.unwrap_err();
    assert!(matches!(error, WriteError::Database { .. }), "{error}");
    assert_eq!(*rows.find_by_id(last.id).await.unwrap().unwrap(), last);
}

everywhere!(nothing_but_seaorm_sees_an_active_model_that_is_incomplete);
/// Goal: an insert without a required column is the database's error, as with SeaORM.
async fn nothing_but_seaorm_sees_an_active_model_that_is_incomplete(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let incomplete = user::ActiveModel {
        email: Set("ada@example.com".into()),
        ..Default::default()
    };
    let plain = incomplete.clone().insert(&world.conn).await;
    assert!(plain.is_err());
    let error = users.insert(incomplete).await.unwrap_err();
    assert!(matches!(error, WriteError::Database { .. }), "{error}");
    assert!(users.insert(ada()).await.is_ok());
}
