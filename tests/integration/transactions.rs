//! Transactions: all that committed is published, and nothing else.

use cached_repo::{CommitError, OnCacheFailure, Source, TransactionError, WriteError};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{setting, user},
    redis_pool,
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};

pub(crate) fn named(name: &str) -> user::ActiveModel {
    user::ActiveModel {
        email: Set(format!("{name}@example.com")),
        name: Set(name.into()),
        ..Default::default()
    }
}

pub(crate) fn setting(name: &str, value: &str) -> setting::ActiveModel {
    setting::ActiveModel {
        name: Set(name.into()),
        value: Set(value.into()),
    }
}

/// Raw SQL that renames every user, whatever the database's quotes are.
pub(crate) fn rename_all(world: &World, name: &str) -> String {
    let table = match world.conn.get_database_backend() {
        sea_orm::DbBackend::MySql => "`user`",
        _ => "\"user\"",
    };
    format!("UPDATE {table} SET name = '{name}', version = version + 1")
}

everywhere!(a_commit_is_published_as_a_whole);
/// Goal: after the commit every row is read from the cache as it was committed: updated, inserted,
/// deleted, unversioned.
async fn a_commit_is_published_as_a_whole(world: World) {
    world.create_table(user::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let settings = setting::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let bob = users.insert(named("bob")).await.unwrap().into_model();
    settings.insert(setting("theme", "dark")).await.unwrap();
    for id in [ada.id, bob.id] {
        users.find_by_id(id).await.unwrap();
    }
    settings.find_by_id("theme").await.unwrap();

    let eve = db
        .transaction(async |tx| -> Result<i64, WriteError> {
            let users = users.on(tx);
            let settings = settings.on(tx);
            users
                .update_with(ada.id, |ada| ada.name = Set("Ada L.".into()))
                .await?;
            users.delete(bob.clone()).await?;
            let theme = setting::Model {
                name: "theme".into(),
                value: "light".into(),
            };
            settings.save(theme).await?;
            Ok(users.insert(named("eve")).await?.id)
        })
        .await
        .unwrap();
    let _ = world.statements.take();

    let seen = users.find_by_id(ada.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.source(), seen.name.as_str(), seen.version),
        (Source::Shared, "Ada L.", 2)
    );
    assert_eq!(
        world.statements.verbs(),
        [""; 0],
        "a versioned row is written through"
    );
    assert_eq!(users.find_by_id(bob.id).await.unwrap(), None);
    assert_eq!(users.find_by_id(eve).await.unwrap().unwrap().name, "eve");
    assert_eq!(
        settings.find_by_id("theme").await.unwrap().unwrap().value,
        "light"
    );
}

everywhere!(a_rollback_leaves_no_trace);
/// Goal: nothing of a rolled-back transaction is visible, and the cache continues to serve without
/// a miss.
async fn a_rollback_leaves_no_trace(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    users.find_by_id(ada.id).await.unwrap();

    let failed = db
        .transaction(async |tx| -> Result<(), WriteError> {
            let users = users.on(tx);
            users
                .update_with(ada.id, |ada| ada.name = Set("Eve".into()))
                .await?;
            // A duplicate: the whole transaction is rolled back.
            users.insert(named("ada")).await?;
            Ok(())
        })
        .await;
    assert!(matches!(
        failed,
        Err(TransactionError::Work(WriteError::Database { .. }))
    ));

    let tx = db.begin().await.unwrap();
    users.on(&tx).delete_by_id(ada.id).await.unwrap();
    tx.rollback().await.unwrap();

    let tx = db.begin().await.unwrap();
    users.on(&tx).delete_by_id(ada.id).await.unwrap();
    drop(tx);

    let seen = users.find_by_id(ada.id).await.unwrap().unwrap();
    assert_eq!((seen.source(), &*seen), (Source::Shared, &ada));
    assert_eq!(
        users.fresh().find_by_id(ada.id).await.unwrap().unwrap(),
        seen
    );
}

everywhere!(reads_inside_see_own_writes_and_leave_the_cache_alone);
/// Goal: inside, a read sees what the transaction wrote; outside, nobody does; and nothing that was
/// read inside is stored.
async fn reads_inside_see_own_writes_and_leave_the_cache_alone(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let bob = users.insert(named("bob")).await.unwrap().into_model();
    users.invalidate(bob.id).await.unwrap();

    let tx = db.begin().await.unwrap();
    let inside = users.on(&tx);
    inside
        .update_with(ada.id, |ada| ada.name = Set("Ada L.".into()))
        .await
        .unwrap();
    let seen = inside.find_by_id(ada.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.source(), seen.name.as_str()),
        (Source::Database, "Ada L.")
    );
    inside.find_by_id(bob.id).await.unwrap();
    if world.conn.get_database_backend() != sea_orm::DbBackend::Sqlite {
        let outside = users.find_by_id(ada.id).await.unwrap().unwrap();
        assert_eq!((outside.name.as_str(), outside.version), ("ada", 1));
    }
    tx.commit().await.unwrap();

    assert_eq!(
        users.find_by_id(ada.id).await.unwrap().unwrap().name,
        "Ada L."
    );
    // Bob was only read inside, which stores nothing.
    assert_eq!(
        users.find_by_id(bob.id).await.unwrap().unwrap().source(),
        Source::Database
    );
}

everywhere!(a_savepoint_that_is_rolled_back_is_not_published);
/// Goal: a nested transaction that fails is rolled back with its writes; one that succeeds is
/// published with the outer one.
async fn a_savepoint_that_is_rolled_back_is_not_published(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let bob = users.insert(named("bob")).await.unwrap().into_model();
    for id in [ada.id, bob.id] {
        users.find_by_id(id).await.unwrap();
    }

    db.transaction(async |tx| -> Result<(), TransactionError<WriteError>> {
        let failed = tx
            .transaction(async |nested| -> Result<(), WriteError> {
                let users = users.on(nested);
                users
                    .update_with(ada.id, |ada| ada.name = Set("Eve".into()))
                    .await?;
                users
                    .save(user::Model {
                        version: 99,
                        ..bob.clone()
                    })
                    .await?;
                Ok(())
            })
            .await;
        assert!(matches!(
            failed,
            Err(TransactionError::Work(WriteError::VersionConflict {
                found: 1,
                ..
            }))
        ));
        tx.transaction(async |nested| -> Result<(), WriteError> {
            users
                .on(nested)
                .update_with(bob.id, |bob| bob.name = Set("Bob B.".into()))
                .await?;
            Ok(())
        })
        .await
    })
    .await
    .unwrap();

    let _ = world.statements.take();
    assert_eq!(*users.find_by_id(ada.id).await.unwrap().unwrap(), ada);
    let seen = users.find_by_id(bob.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.source(), seen.name.as_str()),
        (Source::Shared, "Bob B.")
    );
    assert_eq!(
        world.statements.verbs(),
        [""; 0],
        "both are served from the cache"
    );
}

everywhere!(raw_statements_are_invalidated_explicitly);
/// Goal: what raw SQL changes inside a transaction is invalidated with its commit, row by row or as
/// a whole.
async fn raw_statements_are_invalidated_explicitly(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let id = users.insert(named("ada")).await.unwrap().id;
    users.find_by_id(id).await.unwrap();

    let tx = db.begin().await.unwrap();
    tx.execute_unprepared(&rename_all(&world, "one"))
        .await
        .unwrap();
    assert_eq!(
        user::Entity::find_by_id(id)
            .one(&tx)
            .await
            .unwrap()
            .unwrap()
            .name,
        "one"
    );
    tx.invalidate::<user::Model>(id);
    tx.commit().await.unwrap();
    assert_eq!(users.find_by_id(id).await.unwrap().unwrap().name, "one");

    let tx = db.begin().await.unwrap();
    // The save comes first, so the row it would store is older than the raw statement's.
    users
        .on(&tx)
        .update_with(id, |ada| ada.name = Set("saved".into()))
        .await
        .unwrap();
    tx.execute_unprepared(&rename_all(&world, "two"))
        .await
        .unwrap();
    tx.invalidate_all::<user::Model>();
    tx.commit().await.unwrap();
    assert_eq!(users.find_by_id(id).await.unwrap().unwrap().name, "two");
}

everywhere!(a_saved_row_that_raw_sql_may_have_changed_since_is_not_stored);
/// Goal: nobody is served what a statement of the same transaction has overwritten, not even until the
/// invalidation of the whole entity: the saved row is not stored at all.
async fn a_saved_row_that_raw_sql_may_have_changed_since_is_not_stored(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let id = users.insert(named("ada")).await.unwrap().id;
    let puts = users.stats().puts;
    let tx = db.begin().await.unwrap();
    users
        .on(&tx)
        .update_with(id, |ada| ada.name = Set("saved".into()))
        .await
        .unwrap();
    tx.execute_unprepared(&rename_all(&world, "raw"))
        .await
        .unwrap();
    tx.invalidate_all::<user::Model>();
    tx.commit().await.unwrap();
    assert_eq!(users.stats().puts, puts);
    assert_eq!(users.find_by_id(id).await.unwrap().unwrap().name, "raw");
}

everywhere!(a_row_that_lived_twice_in_a_transaction_is_read_as_it_ended);
/// Goal: a row is deleted and inserted again, or inserted and deleted again, in one transaction.
async fn a_row_that_lived_twice_in_a_transaction_is_read_as_it_ended(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    users
        .update_with(ada.id, |ada| ada.name = Set("Ada L.".into()))
        .await
        .unwrap();

    db.transaction(async |tx| -> Result<(), WriteError> {
        let users = users.on(tx);
        users.delete_by_id(ada.id).await?;
        users
            .insert(user::ActiveModel {
                id: Set(ada.id),
                ..named("again")
            })
            .await?;
        users
            .insert(user::ActiveModel {
                id: Set(ada.id + 100),
                ..named("brief")
            })
            .await?;
        users.delete_by_id(ada.id + 100).await?;
        Ok(())
    })
    .await
    .unwrap();
    let seen = users.find_by_id(ada.id).await.unwrap().unwrap();
    assert_eq!((seen.name.as_str(), seen.version), ("again", 1));
    assert_eq!(users.find_by_id(ada.id + 100).await.unwrap(), None);
}

everywhere!(a_repository_does_not_outlive_its_transaction);
/// Goal: a repository inside a transaction that has ended writes nothing and says so, and keeps no
/// connection.
async fn a_repository_does_not_outlive_its_transaction(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let tx = db.begin().await.unwrap();
    let inside = users.on(&tx);
    tx.commit().await.unwrap();
    let error = inside.save(ada.clone()).await.unwrap_err();
    assert!(
        matches!(&error, WriteError::Database { source: DbErr::Custom(why), .. }
            if why.contains("already ended")),
        "{error}"
    );
    for _ in 0..20 {
        // More transactions than the pool has connections: an abandoned connection would be missing
        // in the end.
        let tx = db.begin().await.unwrap();
        let kept = users.on(&tx);
        drop(tx);
        drop(kept);
    }
    assert_eq!(
        users
            .fresh()
            .find_by_id(ada.id)
            .await
            .unwrap()
            .unwrap()
            .version,
        1
    );
}

/// Goal: the blocks of a commit are one command per row and unique value, and so is what publishes
/// it; the statements between them send nothing.
#[tokio::test]
async fn a_commit_sends_two_commands_per_key() {
    let redis = Redis::start().unwrap();
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    world.create_table(user::Entity).await;
    let db = world
        .builder()
        .redis(redis_pool(&redis.url()))
        .namespace("test")
        .build()
        .await
        .unwrap();
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let bob = users.insert(named("bob")).await.unwrap().into_model();
    let mut control = redis_pool(&redis.url()).get().await.unwrap();
    let _: () = deadpool_redis::redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .query_async(&mut control)
        .await
        .unwrap();

    let tx = db.begin().await.unwrap();
    let inside = users.on(&tx);
    inside.save(ada.clone()).await.unwrap();
    inside
        .save(user::Model { version: 2, ..ada })
        .await
        .unwrap();
    inside.save(bob).await.unwrap();
    tx.commit().await.unwrap();

    let stats: String = deadpool_redis::redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut control)
        .await
        .unwrap();
    assert!(stats.contains("cmdstat_evalsha:calls=8,"), "{stats}");
    assert!(
        !stats.contains("cmdstat_ping") && !stats.contains("cmdstat_eval:"),
        "{stats}"
    );
}

/// Goal: without Redis, `refuse` rolls back and says why; `proceed` commits and queues the
/// invalidations.
#[tokio::test]
async fn a_commit_without_redis_follows_the_policy() {
    let mut redis = Redis::start().unwrap();
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    world.create_table(user::Entity).await;
    let open = async |policy| {
        let builder = world.builder().redis(redis_pool(&redis.url()));
        let builder = builder.namespace("test");
        builder.on_cache_failure(policy).build().await.unwrap()
    };
    let (refusing, proceeding) = (
        open(OnCacheFailure::Refuse).await,
        open(OnCacheFailure::Proceed).await,
    );
    let users = user::Repository::new(&proceeding);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    users.find_by_id(ada.id).await.unwrap();
    redis.kill().unwrap();

    let rename = async |db: &cached_repo::CachedDb, name: &str| {
        db.transaction(async |tx| -> Result<(), WriteError> {
            let users = user::Repository::new(db).on(tx);
            users
                .update_with(ada.id, |ada| ada.name = Set(name.into()))
                .await?;
            Ok(())
        })
        .await
    };
    let refused = rename(&refusing, "refused").await;
    assert!(matches!(
        refused,
        Err(TransactionError::Commit(
            CommitError::CacheUnavailable { .. }
        ))
    ));
    assert_eq!(
        user::Entity::find_by_id(ada.id)
            .one(&world.conn)
            .await
            .unwrap()
            .unwrap(),
        ada
    );

    rename(&proceeding, "proceeded").await.unwrap();
    assert_eq!(proceeding.pending_invalidations(), 1);
    assert_eq!(
        users.find_by_id(ada.id).await.unwrap().unwrap().name,
        "proceeded"
    );
}

/// Goal: a COMMIT that the database refuses (a deferred constraint, here) leaves every row readable
/// and nothing stale.
#[tokio::test]
async fn a_refused_commit_serves_nothing_stale() {
    let world = World::new(Backend::Postgres, Tier::Redis).await;
    world.create_table(user::Entity).await;
    let deferred = "ALTER TABLE \"user\" ADD CONSTRAINT distinct_names UNIQUE (name) \
                    DEFERRABLE INITIALLY DEFERRED";
    world.conn.execute_unprepared(deferred).await.unwrap();
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let bob = users.insert(named("bob")).await.unwrap().into_model();
    for id in [ada.id, bob.id] {
        users.find_by_id(id).await.unwrap();
    }

    let failed = db
        .transaction(async |tx| -> Result<(), WriteError> {
            users
                .on(tx)
                .update_with(bob.id, |bob| bob.name = Set("ada".into()))
                .await?;
            Ok(())
        })
        .await;
    assert!(matches!(
        failed,
        Err(TransactionError::Commit(CommitError::Refused { .. }))
    ));
    assert_eq!(*users.find_by_id(bob.id).await.unwrap().unwrap(), bob);
    assert_eq!(*users.find_by_id(ada.id).await.unwrap().unwrap(), ada);
}

/// Goal: PostgreSQL answers the COMMIT of a failed transaction with "done" and rolls back. Nothing
/// of it reaches the cache, and the caller gets an error.
#[tokio::test]
async fn a_swallowed_error_does_not_publish_what_was_rolled_back() {
    let world = World::new(Backend::Postgres, Tier::Redis).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();

    let ended = db
        .transaction(async |tx| -> Result<(), WriteError> {
            let users = users.on(tx);
            users
                .update_with(ada.id, |ada| ada.name = Set("Eve".into()))
                .await?;
            users.insert(named("ada")).await.unwrap_err();
            Ok(())
        })
        .await;
    assert!(matches!(
        ended,
        Err(TransactionError::Commit(CommitError::RolledBack { .. }))
    ));
    assert_eq!(*users.find_by_id(ada.id).await.unwrap().unwrap(), ada);

    // In a savepoint the error costs the savepoint only.
    db.transaction(async |tx| -> Result<(), WriteError> {
        let failed = tx
            .transaction(async |nested| users.on(nested).insert(named("ada")).await.map(drop))
            .await;
        failed.unwrap_err();
        users
            .on(tx)
            .update_with(ada.id, |ada| ada.name = Set("Ada L.".into()))
            .await?;
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        users.find_by_id(ada.id).await.unwrap().unwrap().name,
        "Ada L."
    );
}

everywhere!(statements_go_to_the_open_savepoint_or_nowhere);
/// Goal: while a nested transaction is open the outer one takes neither statements nor a commit, so
/// that what a savepoint undoes is never noted outside it.
async fn statements_go_to_the_open_savepoint_or_nowhere(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();

    let tx = db.begin().await.unwrap();
    let nested = tx.begin().await.unwrap();
    let error = users.on(&tx).save(ada.clone()).await.unwrap_err();
    assert!(
        error.to_string().contains("a nested transaction is open"),
        "{error}"
    );
    users.on(&nested).save(ada.clone()).await.unwrap();
    drop(nested);
    // A savepoint that was dropped is undone before the outer one goes on.
    let saved = users.on(&tx).save(ada.clone()).await.unwrap();
    assert_eq!(saved.version, 2);
    tx.commit().await.unwrap();
    assert_eq!(users.find_by_id(ada.id).await.unwrap().unwrap().version, 2);

    let tx = db.begin().await.unwrap();
    users.on(&tx).save(saved.into_model()).await.unwrap();
    let nested = tx.begin().await.unwrap();
    let refused = tx.commit().await;
    assert!(
        matches!(refused, Err(CommitError::RolledBack { .. })),
        "{refused:?}"
    );
    nested.commit().await.unwrap();
    // The connections come back: none is kept by a transaction that nobody has any more.
    for _ in 0..20 {
        db.begin().await.unwrap().rollback().await.unwrap();
    }
    assert_eq!(
        users
            .fresh()
            .find_by_id(ada.id)
            .await
            .unwrap()
            .unwrap()
            .version,
        2
    );
}

/// Goal: a write that was dropped inside a transaction may have happened, so the transaction cannot
/// commit any more, and nothing stale is served.
#[tokio::test]
async fn a_write_that_was_given_up_takes_its_transaction_with_it() {
    let world = World::new(Backend::Postgres, Tier::Redis).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let lock = db.begin().await.unwrap();
    users
        .on(&lock)
        .update_with(ada.id, |ada| ada.name = Set("first".into()))
        .await
        .unwrap();

    let tx = db.begin().await.unwrap();
    let inside = users.on(&tx);
    {
        // It waits for the row lock until it is dropped.
        let save = inside.save(ada.clone());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), save).await;
        given_up.unwrap_err();
    }
    lock.commit().await.unwrap();
    assert!(matches!(
        tx.commit().await,
        Err(CommitError::RolledBack { .. })
    ));
    assert_eq!(
        users.find_by_id(ada.id).await.unwrap().unwrap().name,
        "first"
    );
}

/// Goal: transactions, nested ones too, run in spawned tasks: their futures are `Send`.
#[tokio::test]
async fn transactions_run_in_spawned_tasks() {
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let id = tokio::spawn({
        let (db, users) = (db.clone(), users.clone());
        async move {
            db.transaction(async |tx| -> Result<i64, TransactionError<WriteError>> {
                tx.transaction(async |nested| -> Result<i64, WriteError> {
                    Ok(users.on(nested).insert(named("ada")).await?.id)
                })
                .await
            })
            .await
            .unwrap()
        }
    })
    .await
    .unwrap();
    assert_eq!(users.find_by_id(id).await.unwrap().unwrap().name, "ada");
}
