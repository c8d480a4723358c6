//! The verbs of a repository, one by one.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    World,
    entities::{setting, user},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend};

fn ada() -> user::ActiveModel {
    user::ActiveModel {
        email: Set("ada@example.com".into()),
        name: Set("Ada".into()),
        ..Default::default()
    }
}

everywhere!(a_warm_find_issues_no_sql);
/// Goal: the first find loads, the second issues no SQL.
async fn a_warm_find_issues_no_sql(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let id = users.insert(ada()).await.unwrap().id;
    users.invalidate(id).await.unwrap();
    let _ = world.statements.take();

    let cold = users.find_by_id(id).await.unwrap().unwrap();
    assert_eq!(cold.source(), Source::Database);
    assert_eq!(world.statements.verbs(), ["SELECT"]);

    let warm = users.find_by_id(id).await.unwrap().unwrap();
    assert_eq!(warm.source(), Source::Shared);
    assert_eq!(warm, cold);
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(a_save_is_one_update_and_is_written_through);
/// Goal: a save is one UPDATE, plus one SELECT where there is no RETURNING; the next find
/// sees it without SQL, at the next version.
async fn a_save_is_one_update_and_is_written_through(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let id = users.insert(ada()).await.unwrap().id;
    let mut row = users.find_by_id(id).await.unwrap().unwrap().into_model();
    assert_eq!(row.version, 1);
    let _ = world.statements.take();

    row.name = "Ada L.".into();
    let saved = users.save(row).await.unwrap();
    let expected: &[&str] = match world.conn.get_database_backend() {
        DbBackend::MySql => &["UPDATE", "SELECT"],
        _ => &["UPDATE"],
    };
    assert_eq!(world.statements.verbs(), expected);
    assert_eq!((saved.name.as_str(), saved.version), ("Ada L.", 2));

    let warm = users.find_by_id(id).await.unwrap().unwrap();
    assert_eq!((warm.source(), &warm), (Source::Shared, &saved));
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(a_stale_save_is_refused_and_repairs_the_cache);
/// Goal: a stale save is refused with the facts, and the retry reads what the winner wrote.
async fn a_stale_save_is_refused_and_repairs_the_cache(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let stale = users.insert(ada()).await.unwrap().into_model();
    // The cache holds version 1 while someone writes past the library.
    users.find_by_id(stale.id).await.unwrap();
    let sql = match world.conn.get_database_backend() {
        DbBackend::MySql => "UPDATE `user` SET name = 'Countess', version = 7",
        _ => r#"UPDATE "user" SET name = 'Countess', version = 7"#,
    };
    world.conn.execute_unprepared(sql).await.unwrap();

    let error = users.save(stale.clone()).await.unwrap_err();
    let WriteError::VersionConflict {
        entity,
        id,
        expected,
        found,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((entity.as_str(), id), ("user", stale.id.to_string()));
    assert_eq!((expected, found), (1, 7));
    let again = users.find_by_id(stale.id).await.unwrap().unwrap();
    assert_eq!((again.name.as_str(), again.version), ("Countess", 7));
}

everywhere!(an_unversioned_row_is_never_served_stale);
/// Goal: an unversioned row with a text key is found, saved and found again.
async fn an_unversioned_row_is_never_served_stale(world: World) {
    world.create_table(setting::Entity).await;
    let settings = setting::Repository::new(&world.db().await);
    assert!(settings.find_by_id("theme").await.unwrap().is_none());
    let row = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    settings.insert(row).await.unwrap();
    let mut row = settings
        .find_by_id("theme")
        .await
        .unwrap()
        .unwrap()
        .into_model();
    row.value = "light".into();
    settings.save(row).await.unwrap();
    assert_eq!(
        settings.find_by_id("theme").await.unwrap().unwrap().value,
        "light"
    );
    let warm = settings.find_by_id("theme").await.unwrap().unwrap();
    assert_eq!(
        (warm.source(), warm.value.as_str()),
        (Source::Shared, "light")
    );
}
