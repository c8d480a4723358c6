//! What ends a transaction besides its owner, what goes past it, and how much one can hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cached_repo::{CommitError, WriteError};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{setting, user},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, DbErr, EntityTrait};

use crate::transactions::{named, rename_all, setting};

/// Goal: SQLite may roll a whole transaction back by itself. Nothing is then written outside it, the
/// commit says so, and the cache is as the database.
#[tokio::test]
async fn nothing_is_written_after_sqlite_has_rolled_back_by_itself() {
    for nested in [false, true] {
        let world = World::new(Backend::Sqlite, Tier::Redis).await;
        world.create_table(user::Entity).await;
        world
            .raw(
                "CREATE TRIGGER bad BEFORE INSERT ON \"user\" WHEN NEW.name = 'bad' \
                 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
            )
            .await;
        let db = world.db().await;
        let users = user::Repository::new(&db);
        let ada = users.insert(named("ada")).await.unwrap().into_model();
        let tx = db.begin().await.unwrap();
        let inner = match nested {
            true => Some(tx.begin().await.unwrap()),
            false => None,
        };
        let inside = users.on(inner.as_ref().unwrap_or(&tx));
        // An error that rolls nothing back.
        inside.insert(named("ada")).await.unwrap_err();
        inside.insert(named("bob")).await.unwrap();
        inside.insert(named("bad")).await.unwrap_err();
        let later = inside
            .update_with(ada.id, |row| row.name = Set("Eve".into()))
            .await;
        later.unwrap_err();
        if let Some(inner) = inner {
            inner.commit().await.unwrap_err();
        }
        let committed = tx.commit().await.unwrap_err();
        assert!(
            matches!(committed, CommitError::RolledBack { .. }),
            "{committed}"
        );
        assert_eq!(
            user::Entity::find().all(&world.conn).await.unwrap(),
            std::slice::from_ref(&ada)
        );
        assert_eq!(*users.find_by_id(ada.id).await.unwrap().unwrap(), ada);
        // Its connection is as good as ever.
        let tx = db.begin().await.unwrap();
        users.on(&tx).insert(named("eve")).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(
            user::Entity::find().all(&world.conn).await.unwrap().len(),
            1
        );
    }
}

everywhere!(statements_that_end_a_transaction_are_refused);
/// Goal: no statement commits, undoes or divides a transaction behind its back, also none at which
/// MariaDB commits by itself.
async fn statements_that_end_a_transaction_are_refused(world: World) {
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let ada = users.insert(named("ada")).await.unwrap().into_model();
    let tx = db.begin().await.unwrap();
    users
        .on(&tx)
        .update_with(ada.id, |row| row.name = Set("Eve".into()))
        .await
        .unwrap();
    let mut refused = vec!["COMMIT", "  rollback", "SAVEPOINT a", "/* now */ BEGIN"];
    if world.backend() == DbBackend::MySql {
        refused.push("CREATE TABLE other (id int)");
    }
    for sql in refused {
        let error = tx.execute_unprepared(sql).await.unwrap_err();
        assert!(matches!(error, DbErr::Custom(_)), "{sql}: {error}");
    }
    tx.execute_unprepared("CREATE TEMPORARY TABLE other (id int)")
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(*users.find_by_id(ada.id).await.unwrap().unwrap(), ada);
    let found = user::Entity::find_by_id(ada.id).one(&world.conn).await;
    assert_eq!(found.unwrap().unwrap(), ada);
}

everywhere!(a_transaction_over_very_many_rows_commits);
/// Goal: a transaction that names more rows than can be blocked in time commits all the same, and none
/// of them is served as it was.
async fn a_transaction_over_very_many_rows_commits(world: World) {
    const ROWS: i64 = 120_000;
    world.create_table(user::Entity).await;
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let (users, settings) = (user::Repository::new(&db), setting::Repository::new(&db));
    let ada = users.insert(named("ada")).await.unwrap().id;
    settings.insert(setting("mode", "old")).await.unwrap();
    for _ in 0..2 {
        settings.find_by_id("mode").await.unwrap();
    }
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared(&rename_all(&world, "Eve"))
        .await
        .unwrap();
    for id in 1..=ROWS {
        tx.invalidate::<user::Model>(id);
    }
    let change = setting::Model {
        name: "mode".into(),
        value: "new".into(),
    };
    settings.on(&tx).save(change).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(users.find_by_id(ada).await.unwrap().unwrap().name, "Eve");
    let mode = settings.find_by_id("mode").await.unwrap().unwrap();
    assert_eq!(mode.value, "new");
    assert_eq!(db.pending_invalidations(), 0);
}

/// Counts the warnings of the library.
pub(crate) struct Warnings(pub(crate) Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("cached_repo")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Goal: a write that was meant for a transaction and goes past it is reported; one that is made on it,
/// or after it, is not.
#[tokio::test]
async fn a_write_past_the_open_transaction_is_reported() {
    let counted = Arc::default();
    let warnings = Warnings(Arc::clone(&counted));
    let count = || counted.load(Ordering::SeqCst);
    let world = World::new(Backend::Postgres, Tier::Memory).await;
    world.create_table(user::Entity).await;
    let db = world.db().await;
    let users = user::Repository::new(&db);
    let _counting = tracing::subscriber::set_default(warnings);
    db.transaction(async |tx| -> Result<(), WriteError> {
        users.on(tx).insert(named("ada")).await?;
        assert_eq!(count(), 0);
        users.insert(named("bob")).await?;
        assert_eq!(count(), 1);
        Ok(())
    })
    .await
    .unwrap();
    users.insert(named("eve")).await.unwrap();
    assert_eq!(count(), 1);
}
