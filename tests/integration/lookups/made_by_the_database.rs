//! Looked-up columns whose values the database makes: defaults, generated columns, triggers. After
//! the write returns, a reader that knew the list to be empty finds the row.

use cached_repo_tests::{
    World,
    entities::lookups::{routed, ticket},
};
use sea_orm::{ActiveValue::Set, DbBackend};

async fn tickets(world: &World) -> ticket::Repository {
    let key = match world.backend() {
        DbBackend::Postgres => "bigserial PRIMARY KEY",
        DbBackend::Sqlite => "integer PRIMARY KEY AUTOINCREMENT",
        _ => "bigint AUTO_INCREMENT PRIMARY KEY",
    };
    world
        .raw(&format!(
            "CREATE TABLE ticket (id {key}, queue int NOT NULL DEFAULT 7, weight int NOT NULL,
             class int GENERATED ALWAYS AS (weight - weight % 10) STORED, version bigint NOT NULL)"
        ))
        .await;
    ticket::Repository::new(&world.db().await)
}

fn new_ticket(weight: i32) -> ticket::ActiveModel {
    ticket::ActiveModel {
        weight: Set(weight),
        ..Default::default()
    }
}

async fn queue(tickets: &ticket::Repository, queue: i32) -> Vec<i64> {
    let keys = async || -> Vec<i64> {
        let rows = tickets.find_all_by_queue(queue).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    let first = keys().await;
    assert_eq!(keys().await, first);
    assert_eq!(keys().await, first);
    first
}

async fn class(tickets: &ticket::Repository, class: i32) -> Vec<i64> {
    let keys = async || -> Vec<i64> {
        let rows = tickets.find_all_by_class(class).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    let first = keys().await;
    assert_eq!(keys().await, first);
    assert_eq!(keys().await, first);
    first
}

everywhere!(a_row_whose_column_has_a_default_is_listed);
/// Goal: the column is not set, so the INSERT runs in a transaction of its own. The index entries
/// of its row are blocked before its COMMIT.
async fn a_row_whose_column_has_a_default_is_listed(world: World) {
    let tickets = tickets(&world).await;
    assert_eq!(queue(&tickets, 7).await, [0; 0]);
    let first = tickets.insert(new_ticket(1)).await.unwrap();
    assert_eq!(first.queue, 7);
    assert_eq!(queue(&tickets, 7).await, [first.id]);
    let second = tickets.insert(new_ticket(1)).await.unwrap();
    assert_eq!(queue(&tickets, 7).await, [first.id, second.id]);
}

everywhere!(a_row_whose_column_has_a_default_is_listed_after_a_transaction);
/// Goal: the same inside a transaction, kept and rolled back.
async fn a_row_whose_column_has_a_default_is_listed_after_a_transaction(world: World) {
    let tickets = tickets(&world).await;
    let db = world.db().await;
    let tickets = match world.tier() {
        cached_repo_tests::Tier::Memory => ticket::Repository::new(&db),
        cached_repo_tests::Tier::Redis => tickets,
    };
    assert_eq!(queue(&tickets, 7).await, [0; 0]);
    let tx = db.begin().await.unwrap();
    tickets.on(&tx).insert(new_ticket(1)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(queue(&tickets, 7).await, [0; 0]);
    let tx = db.begin().await.unwrap();
    let row = tickets.on(&tx).insert(new_ticket(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(queue(&tickets, 7).await, [row.id]);
}

everywhere!(a_generated_column_is_found_by_what_it_is_after_a_write);
/// Goal: an update changes a generated column without naming it.
async fn a_generated_column_is_found_by_what_it_is_after_a_write(world: World) {
    let tickets = tickets(&world).await;
    for empty in [10, 20, 30] {
        assert_eq!(class(&tickets, empty).await, [0; 0]);
    }
    let row = tickets.insert(new_ticket(15)).await.unwrap();
    assert_eq!(row.class, Some(10));
    assert_eq!(class(&tickets, 10).await, [row.id]);
    tickets
        .update_with(row.id, |row| row.weight = Set(25))
        .await
        .unwrap();
    assert_eq!(class(&tickets, 10).await, [0; 0]);
    assert_eq!(class(&tickets, 20).await, [row.id]);
    let mut row = tickets
        .find_by_id(row.id)
        .await
        .unwrap()
        .unwrap()
        .into_model();
    row.weight = 35;
    let row = tickets.save(row).await.unwrap();
    assert_eq!(class(&tickets, 20).await, [0; 0]);
    assert_eq!(class(&tickets, 30).await, [row.id]);
}

/// A trigger that derives the route from the town.
async fn routes(world: &World) -> routed::Repository {
    let statements: &[&str] = match world.backend() {
        DbBackend::Postgres => &[
            "CREATE TABLE routed (id bigserial PRIMARY KEY, town int NOT NULL,
             route int NOT NULL, version bigint NOT NULL)",
            "CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE routed SET route = NEW.town * 100 WHERE id = NEW.id; RETURN NULL; END $$",
            "CREATE TRIGGER route AFTER INSERT OR UPDATE OF town ON routed FOR EACH ROW
             EXECUTE FUNCTION route()",
        ],
        DbBackend::Sqlite => &[
            "CREATE TABLE routed (id integer PRIMARY KEY AUTOINCREMENT, town int NOT NULL,
             route int NOT NULL, version bigint NOT NULL)",
            "CREATE TRIGGER on_insert AFTER INSERT ON routed BEGIN
             UPDATE routed SET route = NEW.town * 100 WHERE id = NEW.id; END",
            "CREATE TRIGGER on_update AFTER UPDATE OF town ON routed BEGIN
             UPDATE routed SET route = NEW.town * 100 WHERE id = NEW.id; END",
        ],
        _ => &[
            "CREATE TABLE routed (id bigint AUTO_INCREMENT PRIMARY KEY, town int NOT NULL,
             route int NOT NULL, version bigint NOT NULL)",
            "CREATE TRIGGER on_insert BEFORE INSERT ON routed FOR EACH ROW
             SET NEW.route = NEW.town * 100",
            "CREATE TRIGGER on_update BEFORE UPDATE ON routed FOR EACH ROW
             SET NEW.route = NEW.town * 100",
        ],
    };
    for statement in statements {
        world.raw(statement).await;
    }
    routed::Repository::new(&world.db().await)
}

everywhere!(a_trigger_that_changes_a_looked_up_column_is_followed);
/// Goal: with `reload_after_write`, the row is found by the value that the trigger set, and neither
/// by the written nor by the earlier value.
async fn a_trigger_that_changes_a_looked_up_column_is_followed(world: World) {
    let routes = routes(&world).await;
    let route = async |route| {
        let keys = async || -> Vec<i64> {
            let rows = routes.find_all_by_route(route).await.unwrap();
            rows.iter().map(|row| row.id).collect()
        };
        let first = keys().await;
        assert_eq!(keys().await, first);
        assert_eq!(keys().await, first);
        first
    };
    for empty in [-1, 100, 200, 300] {
        assert_eq!(route(empty).await, [0; 0]);
    }
    let row = routed::ActiveModel {
        town: Set(1),
        route: Set(-1),
        ..Default::default()
    };
    let row = routes.insert(row).await.unwrap();
    assert_eq!(row.route, 100);
    assert_eq!(route(100).await, [row.id]);
    assert_eq!(route(-1).await, [0; 0]);
    // The update does not name the column.
    routes
        .update_with(row.id, |row| row.town = Set(2))
        .await
        .unwrap();
    assert_eq!(route(100).await, [0; 0]);
    assert_eq!(route(200).await, [row.id]);
    let mut row = routes
        .find_by_id(row.id)
        .await
        .unwrap()
        .unwrap()
        .into_model();
    row.town = 3;
    row.route = -1;
    let row = routes.save(row).await.unwrap();
    assert_eq!(route(200).await, [0; 0]);
    assert_eq!(route(-1).await, [0; 0]);
    assert_eq!(route(300).await, [row.id]);
}
