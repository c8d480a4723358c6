//! `ActiveModelBehavior`: the hooks run as users of SeaORM expect, in the same order.

use cached_repo::{Source, WriteError};
use cached_repo_harness::unique;
use cached_repo_tests::{World, entities::verbs::hooked};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel, ModelTrait};

fn row(test: &str, name: &str) -> hooked::ActiveModel {
    hooked::ActiveModel {
        test: Set(test.into()),
        name: Set(name.into()),
        ..Default::default()
    }
}

everywhere!(the_hooks_run_in_the_order_of_plain_seaorm);
/// Goal: insert, update and delete through the repository write the same journal as through
/// SeaORM alone; `delete_by_id` and an `update_with` that sets nothing write none.
async fn the_hooks_run_in_the_order_of_plain_seaorm(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);

    let test = unique("plain");
    let mut plain = row(&test, "ada");
    plain.version = Set(1);
    let plain = plain.insert(&world.conn).await.unwrap();
    let mut change = plain.into_active_model();
    change.name = Set("bob".into());
    let plain = change.update(&world.conn).await.unwrap();
    plain.delete(&world.conn).await.unwrap();
    let expected = hooked::journal(&test);
    assert_eq!(expected.len(), 6);

    let test = unique("cached");
    let cached = hooked.insert(row(&test, "ada")).await.unwrap();
    let cached = hooked
        .update_with(cached.id, |row| row.name = Set("bob".into()))
        .await
        .unwrap();
    hooked.update_with(cached.id, |_| {}).await.unwrap();
    hooked.delete(cached.into_model()).await.unwrap();
    assert_eq!(hooked::journal(&test), expected);

    let cached = hooked.insert(row(&test, "ada")).await.unwrap();
    let _ = hooked::journal(&test);
    hooked.delete_by_id(cached.id).await.unwrap().unwrap();
    assert_eq!(hooked::journal(&test), [""; 0]);
}

everywhere!(what_before_save_changes_is_what_is_written_and_cached);
/// Goal: `before_save` trims the name: the row that is returned, stored and cached is trimmed.
async fn what_before_save_changes_is_what_is_written_and_cached(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("trim");
    let inserted = hooked.insert(row(&test, "  ada ")).await.unwrap();
    assert_eq!(inserted.name, "ada");
    let mut change = inserted.into_model();
    change.name = " bob  ".into();
    let saved = hooked.save(change).await.unwrap();
    assert_eq!(saved.name, "bob");
    let found = hooked.find_by_id(saved.id).await.unwrap().unwrap();
    assert_eq!((found.source(), &found), (Source::Shared, &saved));
    let in_database = hooked::Entity::find_by_id(saved.id).one(&world.conn).await;
    assert_eq!(in_database.unwrap().as_ref(), Some(&*saved));
}

everywhere!(a_refusing_before_hook_writes_nothing);
/// Goal: an error from `before_save` or `before_delete` comes back as it is, nothing is sent to
/// the database, and the cached row is still served.
async fn a_refusing_before_hook_writes_nothing(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("before");
    let error = hooked
        .insert(row(&test, "refuse before_save"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("before_save refused"), "{error}");

    let inserted = hooked.insert(row(&test, "ada")).await.unwrap().into_model();
    hooked.find_by_id(inserted.id).await.unwrap();
    let _ = world.statements.take();
    let mut change = inserted.clone();
    change.name = "refuse before_save".into();
    let error = hooked.save(change).await.unwrap_err();
    assert!(matches!(error, WriteError::Database { .. }), "{error}");
    let mut doomed = inserted.clone();
    doomed.name = "refuse before_delete".into();
    let error = hooked.delete(doomed).await.unwrap_err();
    assert!(
        error.to_string().contains("before_delete refused"),
        "{error}"
    );
    let found = hooked.find_by_id(inserted.id).await.unwrap().unwrap();
    assert_eq!((found.source(), &*found), (Source::Shared, &inserted));
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(a_failing_after_hook_says_that_the_row_was_written);
/// Goal: an error from `after_save` or `after_delete` is `AfterHook`, and the cache has what was
/// committed.
async fn a_failing_after_hook_says_that_the_row_was_written(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("after");
    let inserted = hooked.insert(row(&test, "ada")).await.unwrap().into_model();
    let mut change = inserted.clone();
    change.name = "refuse after_save".into();
    let error = hooked.save(change).await.unwrap_err();
    let WriteError::AfterHook { entity, source } = error else {
        panic!("{error}");
    };
    assert_eq!(entity, "hooked");
    assert!(
        source.to_string().contains("after_save refused"),
        "{source}"
    );
    let found = hooked.find_by_id(inserted.id).await.unwrap().unwrap();
    assert_eq!(
        (found.source(), found.name.as_str(), found.version),
        (Source::Shared, "refuse after_save", 2)
    );

    let mut doomed = found.into_model();
    doomed.name = "refuse after_delete".into();
    let error = hooked.delete(doomed).await.unwrap_err();
    assert!(matches!(error, WriteError::AfterHook { .. }), "{error}");
    assert!(hooked.find_by_id(inserted.id).await.unwrap().is_none());

    let error = hooked
        .insert(row(&test, "refuse after_save"))
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::AfterHook { .. }), "{error}");
    let rows = hooked::Entity::find().all(&world.conn).await.unwrap();
    assert_eq!(rows.len(), 1);
    let found = hooked.find_by_id(rows[0].id).await.unwrap().unwrap();
    assert_eq!(*found, rows[0]);
}

everywhere!(what_after_save_returns_goes_to_the_caller_and_not_to_the_cache);
/// Goal: a row that `after_save` decorates is returned decorated; the cache and the database have
/// the row as it was committed.
async fn what_after_save_returns_goes_to_the_caller_and_not_to_the_cache(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("decorate");
    let inserted = hooked.insert(row(&test, "ada")).await.unwrap().into_model();
    let mut change = inserted;
    change.name = "decorate".into();
    let saved = hooked.save(change).await.unwrap();
    assert_eq!(saved.name, "decorated, for the caller only");
    for _ in 0..2 {
        let found = hooked.find_by_id(saved.id).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.version), ("decorate", 2));
    }
}

everywhere!(a_panicking_hook_is_an_aborted_write);
/// Goal: a panic in a hook is an error of that write alone; afterwards the row can be read and
/// written.
async fn a_panicking_hook_is_an_aborted_write(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("panic");
    let inserted = hooked.insert(row(&test, "ada")).await.unwrap().into_model();
    for (hook, committed) in [("panic before_save", false), ("panic after_save", true)] {
        let mut change = hooked
            .find_by_id(inserted.id)
            .await
            .unwrap()
            .unwrap()
            .into_model();
        change.name = hook.into();
        let error = hooked.save(change).await.unwrap_err();
        assert!(matches!(error, WriteError::Aborted { .. }), "{error}");
        let found = hooked.find_by_id(inserted.id).await.unwrap().unwrap();
        assert_eq!(found.name == hook, committed);
    }
    let saved = hooked
        .update_with(inserted.id, |row| row.name = Set("bob".into()))
        .await
        .unwrap();
    assert_eq!((saved.name.as_str(), saved.version), ("bob", 3));
}

everywhere!(hooks_see_what_is_local_to_the_callers_task);
/// Goal: hooks run with their caller, so that a task-local value, which is how a request's user
/// reaches them, is there.
async fn hooks_see_what_is_local_to_the_callers_task(world: World) {
    world.create_table(hooked::Entity).await;
    let hooked = hooked::Repository::new(&world.db().await);
    let test = unique("local");
    let write = async {
        let row = hooked.insert(row(&test, "x")).await?.into_model();
        hooked.delete(row).await
    };
    hooked::AUTHOR.scope("ada", write).await.unwrap();
    let journal = hooked::journal(&test);
    assert_eq!(journal.len(), 4, "{journal:?}");
    assert!(
        journal.iter().all(|line| line.ends_with(" by ada")),
        "{journal:?}"
    );
}
