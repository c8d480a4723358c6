//! What errors tell their caller.

use cached_repo::{CommitError, Error, TransactionError, WriteError};
use cached_repo_harness::{Proxy, Redis, postgres_url, unique};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{keys::by_text, user},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, Database, DbBackend, TransactionTrait};

fn named(name: &str) -> user::ActiveModel {
    user::ActiveModel {
        email: Set(format!("{name}@example.com")),
        name: Set(name.into()),
        ..Default::default()
    }
}

everywhere!(errors_say_what_they_mean);
/// Goal: a conflict, a missing row and a refused one are told apart, and none of them may have been
/// written or is worth another try as it is.
async fn errors_say_what_they_mean(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    users.save(ada.clone()).await.unwrap();
    let conflict = Error::from(users.save(ada.clone()).await.unwrap_err());
    let missing = user::Model { id: 99, ..ada };
    let missing = Error::from(users.save(missing).await.unwrap_err());
    let refused = Error::from(users.insert(named("ada")).await.unwrap_err());
    let told = |error: &Error| {
        assert!(
            !error.may_have_committed() && !error.is_retryable(),
            "{error}"
        );
        [error.is_conflict(), error.is_not_found()]
    };
    assert_eq!(told(&conflict), [true, false]);
    assert_eq!(told(&missing), [false, true]);
    assert_eq!(told(&refused), [false, false]);
}

everywhere!(a_key_in_an_error_is_the_key_as_it_is_written);
/// Goal: the key in an error is the caller's, not the cache's spelling of it.
async fn a_key_in_an_error_is_the_key_as_it_is_written(world: World) {
    world.create_table(by_text::Entity).await;
    let rows = by_text::Repository::new(&world.db().await);
    let id = "a:b, c/ü 100%";
    let missing = rows.update_with(id, |row| row.name = Set("x".into()));
    let error = missing.await.unwrap_err();
    assert!(error.to_string().contains(id), "{error}");
    let WriteError::NotFound { id: named, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(named, id);
}

/// Goal: of two transactions that wait for each other the database ends one, and its error says that
/// it may be tried again.
#[tokio::test]
async fn a_deadlock_is_worth_another_try() {
    for backend in [Backend::Postgres, Backend::MariaDb] {
        let world = World::new(backend, Tier::Memory).await;
        world.create_table(user::Entity).await;
        let db = world.db().await;
        let users = user::Repository::new(&db);
        for name in ["ada", "bob"] {
            users.insert(named(name)).await.unwrap();
        }
        let rename = async |tx: &cached_repo::Transaction, id: i64| {
            let users = users.on(tx);
            let renamed = users.update_with(id, |row| row.name = Set("x".into()));
            renamed.await.map(drop)
        };
        let (one, two) = (db.begin().await.unwrap(), db.begin().await.unwrap());
        rename(&one, 1).await.unwrap();
        rename(&two, 2).await.unwrap();
        let (first, second) = tokio::join!(rename(&one, 2), async {
            let ended = rename(&two, 1).await;
            if ended.is_err() {
                two.rollback().await.unwrap();
            }
            ended
        });
        let errors: Vec<_> = [first, second]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = errors.into_iter().next().unwrap();
        assert!(
            error.is_retryable() && !error.may_have_committed(),
            "{error}"
        );
        let error = TransactionError::Work(error);
        assert!(error.is_retryable(WriteError::is_retryable) && !error.may_have_committed());
    }
}

/// Goal: a statement and a COMMIT whose answer is lost may have happened, and say so.
#[tokio::test]
async fn a_lost_answer_may_have_been_a_yes() {
    let world = World::new(Backend::Postgres, Tier::Memory).await;
    assert_eq!(world.backend(), DbBackend::Postgres);
    world.create_table(user::Entity).await;
    let url = postgres_url();
    let port = url.rsplit(':').next().unwrap().split('/').next().unwrap();
    let proxy = Proxy::start(port.parse().unwrap()).unwrap();
    let database = world.conn.query_one_raw(sea_orm::Statement::from_string(
        world.backend(),
        "SELECT current_database() AS name",
    ));
    let database: String = database
        .await
        .unwrap()
        .unwrap()
        .try_get("", "name")
        .unwrap();
    let url = url.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
    let (server, _) = url.rsplit_once('/').unwrap();
    let conn = Database::connect(format!("{server}/{database}"))
        .await
        .unwrap();
    let db = cached_repo::CachedDb::builder(conn).build().await.unwrap();
    let users = user::Repository::new(&db);
    users.insert(named("ada")).await.unwrap();
    let lock = world.conn.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE \"user\" IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let inserting = tokio::spawn({
        let users = users.clone();
        async move { users.insert(named("bob")).await }
    });
    world.lock_waiters(1).await;
    proxy.cut();
    let error = inserting.await.unwrap().unwrap_err();
    assert!(matches!(error, WriteError::Unknown { .. }), "{error}");
    assert!(error.may_have_committed() && !error.is_retryable());
    lock.rollback().await.unwrap();
    assert!(CommitError::Aborted.may_have_committed());
}

/// Goal: a commit that the cache did not acknowledge says so.
#[tokio::test]
async fn a_commit_says_whether_the_cache_knows() {
    let mut redis = Redis::start().unwrap();
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(user::Entity).await;
    let db = world
        .db_with(|config| config.cache_timeout = std::time::Duration::from_millis(200))
        .await;
    let users = user::Repository::new(&db);
    for is_pending in [false, true] {
        if is_pending {
            redis.kill().unwrap();
        }
        let tx = db.begin().await.unwrap();
        users.on(&tx).insert(named(&unique("user"))).await.unwrap();
        assert_eq!(tx.commit().await.unwrap().is_pending, is_pending);
        assert_eq!(db.health().is_good(), !is_pending);
    }
}
