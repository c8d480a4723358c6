//! Triggers and generated columns: what a write returns and caches is what the database has.

use cached_repo::Source;
use cached_repo_tests::{
    World,
    entities::reloads::{hasty, invoice},
};
use sea_orm::{ActiveValue::Set, DbBackend, EntityTrait};

/// A table with a generated `gross`, and a trigger that counts `changes` in the row it belongs to:
/// AFTER the write where the database allows that, so that RETURNING does not show it.
async fn create(world: &World) {
    let statements: &[&str] = match world.backend() {
        DbBackend::Postgres => &[
            "CREATE TABLE invoice (id bigserial PRIMARY KEY, net bigint NOT NULL,
             changes bigint NOT NULL DEFAULT 0,
             gross bigint GENERATED ALWAYS AS (net * 2) STORED, version bigint NOT NULL)",
            "CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE invoice SET changes = changes + 1 WHERE id = NEW.id; RETURN NULL; END $$",
            "CREATE TRIGGER count_change AFTER INSERT OR UPDATE OF net ON invoice FOR EACH ROW
             EXECUTE FUNCTION count_change()",
        ],
        DbBackend::Sqlite => &[
            "CREATE TABLE invoice (id integer PRIMARY KEY AUTOINCREMENT, net bigint NOT NULL,
             changes bigint NOT NULL DEFAULT 0,
             gross bigint GENERATED ALWAYS AS (net * 2) STORED, version bigint NOT NULL)",
            "CREATE TRIGGER on_insert AFTER INSERT ON invoice BEGIN
             UPDATE invoice SET changes = changes + 1 WHERE id = NEW.id; END",
            "CREATE TRIGGER on_update AFTER UPDATE OF net ON invoice BEGIN
             UPDATE invoice SET changes = changes + 1 WHERE id = NEW.id; END",
        ],
        // A trigger of MariaDB cannot write to the table it belongs to, but before the write it can
        // change the row.
        _ => &[
            "CREATE TABLE invoice (id bigint AUTO_INCREMENT PRIMARY KEY, net bigint NOT NULL,
             changes bigint NOT NULL DEFAULT 0,
             gross bigint GENERATED ALWAYS AS (net * 2) STORED, version bigint NOT NULL)",
            "CREATE TRIGGER on_insert BEFORE INSERT ON invoice FOR EACH ROW
             SET NEW.changes = NEW.changes + 1",
            "CREATE TRIGGER on_update BEFORE UPDATE ON invoice FOR EACH ROW
             SET NEW.changes = OLD.changes + 1",
        ],
    };
    for statement in statements {
        world.raw(statement).await;
    }
}

everywhere!(what_the_database_makes_of_a_row_is_returned_and_cached);
/// Goal: with `reload_after_write` insert, save and update_with return and cache the row as it is
/// after the triggers, with the generated column; at the cost of one SELECT.
async fn what_the_database_makes_of_a_row_is_returned_and_cached(world: World) {
    create(&world).await;
    let invoices = invoice::Repository::new(&world.db().await);
    let row = invoice::ActiveModel {
        net: Set(10),
        changes: Set(0),
        ..Default::default()
    };
    let inserted = invoices.insert(row).await.unwrap();
    assert_eq!(world.statements.verbs(), ["INSERT", "SELECT"]);
    assert_eq!(
        (
            inserted.net,
            inserted.gross,
            inserted.changes,
            inserted.version
        ),
        (10, Some(20), 1, 1)
    );
    check(&world, &invoices, &inserted).await;

    let mut change = invoices
        .find_by_id(inserted.id)
        .await
        .unwrap()
        .unwrap()
        .into_model();
    change.net = 11;
    let _ = world.statements.take();
    let saved = invoices.save(change).await.unwrap();
    assert_eq!(world.statements.verbs(), ["UPDATE", "SELECT"]);
    assert_eq!(
        (saved.net, saved.gross, saved.changes, saved.version),
        (11, Some(22), 2, 2)
    );
    check(&world, &invoices, &saved).await;

    let updated = invoices
        .update_with(saved.id, |row| row.net = Set(12))
        .await
        .unwrap();
    assert_eq!(
        (updated.net, updated.gross, updated.changes, updated.version),
        (12, Some(24), 3, 3)
    );
    check(&world, &invoices, &updated).await;
    // A conflict and a missing row are still different errors.
    let stale = invoices.save(saved.into_model()).await.unwrap_err();
    assert!(
        matches!(
            stale,
            cached_repo::WriteError::VersionConflict {
                expected: 2,
                found: 3,
                ..
            }
        ),
        "{stale}"
    );
    let gone = invoices.delete_by_id(updated.id).await.unwrap().unwrap();
    assert_eq!(gone, *updated);
    let error = invoices.save(gone).await.unwrap_err();
    assert!(
        matches!(error, cached_repo::WriteError::NotFound { .. }),
        "{error}"
    );
}

/// The row is what the database has, and what the cache has, once it is warm.
async fn check(world: &World, invoices: &invoice::Repository, row: &invoice::Model) {
    let plain = invoice::Entity::find_by_id(row.id).one(&world.conn).await;
    assert_eq!(plain.unwrap().as_ref(), Some(row));
    invoices.find_by_id(row.id).await.unwrap();
    let warm = invoices.find_by_id(row.id).await.unwrap().unwrap();
    assert_eq!((warm.source(), &*warm), (Source::Shared, row));
}

everywhere!(the_triggers_are_real);
/// Goal: without the option, RETURNING shows the row from before an AFTER trigger. So the test
/// above does not pass by itself. A generated column is right even so.
async fn the_triggers_are_real(world: World) {
    create(&world).await;
    let invoices = hasty::Repository::new(&world.db().await);
    let row = hasty::ActiveModel {
        net: Set(10),
        changes: Set(0),
        ..Default::default()
    };
    let inserted = invoices.insert(row).await.unwrap();
    let shown = i64::from(world.backend() == DbBackend::MySql);
    assert_eq!((inserted.gross, inserted.changes), (Some(20), shown));
}
