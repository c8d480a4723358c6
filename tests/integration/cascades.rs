//! Rows that the database deletes or changes with others: the cache follows.

use cached_repo::CachedDb;
use cached_repo_tests::{
    World,
    entities::family::{comment, node, note, owner, pet, post},
};
use sea_orm::{ActiveValue::Set, DbBackend};

/// Two owners with two rows each of everything, all of it cached.
struct Family {
    db: CachedDb,
    owners: owner::Repository,
    posts: post::Repository,
    comments: comment::Repository,
    pets: pet::Repository,
    notes: note::Repository,
}

async fn family(world: &World) -> Family {
    let (action, text) = match world.backend() {
        DbBackend::MySql => ("ENGINE=InnoDB", "varchar(64)"),
        _ => ("", "varchar(64)"),
    };
    for sql in [
        format!(
            "CREATE TABLE owner (id bigint PRIMARY KEY, code {text} NOT NULL UNIQUE, \
             name {text} NOT NULL, version bigint NOT NULL) {action}"
        ),
        format!(
            "CREATE TABLE post (id bigint PRIMARY KEY, owner_id bigint NOT NULL, \
             title {text} NOT NULL, version bigint NOT NULL, \
             FOREIGN KEY (owner_id) REFERENCES owner (id) ON DELETE CASCADE) {action}"
        ),
        format!(
            "CREATE TABLE \"comment\" (id bigint PRIMARY KEY, post_id bigint NOT NULL, \
             \"text\" {text} NOT NULL, \
             FOREIGN KEY (post_id) REFERENCES post (id) ON DELETE CASCADE) {action}"
        ),
        format!(
            "CREATE TABLE pet (id bigint PRIMARY KEY, owner_code {text}, \
             name {text} NOT NULL, version bigint NOT NULL, \
             FOREIGN KEY (owner_code) REFERENCES owner (code) \
             ON DELETE SET NULL ON UPDATE CASCADE) {action}"
        ),
        format!(
            "CREATE TABLE memo (id bigint PRIMARY KEY, owner_id bigint NOT NULL, \
             FOREIGN KEY (owner_id) REFERENCES owner (id) ON DELETE CASCADE) {action}"
        ),
    ] {
        world.raw(&sql).await;
    }
    let db = world.db().await;
    let family = Family {
        owners: owner::Repository::new(&db),
        posts: post::Repository::new(&db),
        comments: comment::Repository::new(&db),
        pets: pet::Repository::new(&db),
        notes: note::Repository::new(&db),
        db,
    };
    for owner in [7, 8] {
        let row = owner::ActiveModel {
            id: Set(owner),
            code: Set(format!("code {owner}")),
            name: Set("owner".into()),
            ..Default::default()
        };
        family.owners.insert(row).await.unwrap();
        for number in [1, 2] {
            let id = owner * 10 + number;
            let row = post::ActiveModel {
                id: Set(id),
                owner_id: Set(owner),
                title: Set("post".into()),
                ..Default::default()
            };
            family.posts.insert(row).await.unwrap();
            let row = comment::ActiveModel {
                id: Set(id),
                post_id: Set(id),
                text: Set("comment".into()),
            };
            family.comments.insert(row).await.unwrap();
            let row = pet::ActiveModel {
                id: Set(id),
                owner_code: Set(Some(format!("code {owner}"))),
                name: Set("pet".into()),
                ..Default::default()
            };
            family.pets.insert(row).await.unwrap();
            let row = note::ActiveModel {
                id: Set(id),
                owner_id: Set(owner),
            };
            family.notes.insert(row).await.unwrap();
        }
    }
    family.warm().await;
    family
}

impl Family {
    /// Reads everything that a test asks for twice, so that all that can be cached is.
    async fn warm(&self) {
        for _ in 0..2 {
            for owner in [7, 8] {
                self.owners.find_by_id(owner).await.unwrap();
                self.posts.find_all_by_owner_id(owner).await.unwrap();
                let code = format!("code {owner}");
                self.pets.find_all_by_owner_code(code).await.unwrap();
                for id in [owner * 10 + 1, owner * 10 + 2] {
                    self.comments.find_all_by_post_id(id).await.unwrap();
                    self.notes.find_by_id(id).await.unwrap();
                }
            }
            self.pets
                .find_all_by_owner_code(None::<String>)
                .await
                .unwrap();
        }
    }

    /// What is found of the rows of an owner: posts, comments and notes by their ids, and posts by the
    /// owner.
    async fn of_owner(&self, owner: i64) -> [usize; 4] {
        let ids = [owner * 10 + 1, owner * 10 + 2];
        let posts = self.posts.find_by_ids(ids).await.unwrap();
        let comments = self.comments.find_by_ids(ids).await.unwrap();
        let notes = self.notes.find_by_ids(ids).await.unwrap();
        let listed = self.posts.find_all_by_owner_id(owner).await.unwrap();
        [
            posts.iter().flatten().count(),
            comments.iter().flatten().count(),
            notes.iter().flatten().count(),
            listed.len(),
        ]
    }

    async fn pets_of(&self, code: Option<&str>) -> Vec<i64> {
        let code = code.map(str::to_owned);
        let pets = self.pets.find_all_by_owner_code(code).await.unwrap();
        pets.iter().map(|pet| pet.id).collect()
    }
}

everywhere!(rows_that_are_deleted_with_another_are_gone);
/// Goal: ON DELETE CASCADE over two tables, also one that only `cascades` names, by each way to delete.
async fn rows_that_are_deleted_with_another_are_gone(world: World) {
    let family = family(&world).await;
    assert_eq!(family.of_owner(7).await, [2; 4]);
    let deleted = family.owners.delete_by_id(7).await.unwrap();
    assert!(deleted.is_some());
    assert_eq!(family.of_owner(7).await, [0; 4]);
    assert_eq!(family.of_owner(8).await, [2; 4]);
    let row = family.owners.find_by_id(8).await.unwrap().unwrap();
    family.owners.delete(row.into_model()).await.unwrap();
    assert_eq!(family.of_owner(8).await, [0; 4]);
}

everywhere!(rows_whose_reference_is_unset_are_seen_so);
/// Goal: ON DELETE SET NULL moves a row to another list, and changes it without its version.
async fn rows_whose_reference_is_unset_are_seen_so(world: World) {
    let family = family(&world).await;
    assert_eq!(family.pets_of(Some("code 7")).await, [71, 72]);
    family.owners.delete_by_id(7).await.unwrap();
    assert_eq!(family.pets_of(Some("code 7")).await, [0; 0]);
    assert_eq!(family.pets_of(None).await, [71, 72]);
    let pet = family.pets.find_by_id(71).await.unwrap().unwrap();
    assert_eq!(pet.owner_code, None);
    assert_eq!(family.pets_of(Some("code 8")).await, [81, 82]);
}

everywhere!(rows_that_follow_a_changed_key_are_seen_so);
/// Goal: ON UPDATE CASCADE moves rows to another list; an update that changes nothing there costs no
/// transaction.
async fn rows_that_follow_a_changed_key_are_seen_so(world: World) {
    let family = family(&world).await;
    for _ in 0..2 {
        assert_eq!(family.pets_of(Some("new")).await, [0; 0]);
    }
    family
        .owners
        .update_with(7, |row| row.code = Set("new".into()))
        .await
        .unwrap();
    assert_eq!(family.pets_of(Some("code 7")).await, [0; 0]);
    assert_eq!(family.pets_of(Some("new")).await, [71, 72]);
    let pet = family.pets.find_by_id(71).await.unwrap().unwrap();
    assert_eq!(pet.owner_code.as_deref(), Some("new"));
    let _ = world.statements.take();
    family
        .owners
        .update_with(8, |row| row.name = Set("other".into()))
        .await
        .unwrap();
    let statements = world.statements.verbs().len();
    let expected = match world.backend() {
        DbBackend::MySql => 2,
        _ => 1,
    };
    assert_eq!(statements, expected);
}

everywhere!(a_cascade_in_a_transaction_is_published_at_its_commit);
/// Goal: inside a transaction what goes with a row is published at the commit, and not after a
/// rollback.
async fn a_cascade_in_a_transaction_is_published_at_its_commit(world: World) {
    let family = family(&world).await;
    let tx = family.db.begin().await.unwrap();
    family.owners.on(&tx).delete_by_id(7).await.unwrap();
    tx.rollback().await.unwrap();
    family.warm().await;
    assert_eq!(family.of_owner(7).await, [2; 4]);
    let tx = family.db.begin().await.unwrap();
    family.owners.on(&tx).delete_by_id(7).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(family.of_owner(7).await, [0; 4]);
    assert_eq!(family.pets_of(None).await, [71, 72]);
}

everywhere!(a_cascade_over_many_rows_invalidates_their_entity);
/// Goal: a delete that takes more rows with it than are looked up invalidates all that may be among
/// them, two tables down.
async fn a_cascade_over_many_rows_invalidates_their_entity(world: World) {
    let family = family(&world).await;
    let rows = (0..1_200).map(|number| format!("({}, 7, 'x', 1)", 1_000 + number));
    let rows = rows.collect::<Vec<_>>().join(", ");
    world.raw(&format!("INSERT INTO post VALUES {rows}")).await;
    family.posts.find_by_id(1_500).await.unwrap().unwrap();
    family.owners.delete_by_id(7).await.unwrap();
    assert_eq!(family.of_owner(7).await, [0; 4]);
    assert!(family.posts.find_by_id(1_500).await.unwrap().is_none());
    assert_eq!(family.of_owner(8).await, [2; 4]);
}

everywhere!(a_delete_that_meets_a_conflict_deletes_nothing_else);
/// Goal: a refused delete leaves everything as it was.
async fn a_delete_that_meets_a_conflict_deletes_nothing_else(world: World) {
    let family = family(&world).await;
    let stale = family.owners.find_by_id(7).await.unwrap().unwrap();
    family
        .owners
        .update_with(7, |row| row.name = Set("new".into()))
        .await
        .unwrap();
    family.owners.delete(stale.into_model()).await.unwrap_err();
    assert_eq!(family.of_owner(7).await, [2; 4]);
    assert!(family.owners.delete_by_id(99).await.unwrap().is_none());
}

everywhere!(rows_that_refer_to_themselves_and_to_each_other_are_deleted);
/// Goal: a tree whose root refers to itself is deleted with few statements.
async fn rows_that_refer_to_themselves_and_to_each_other_are_deleted(world: World) {
    world.create_table(node::Entity).await;
    let nodes = node::Repository::new(&world.db().await);
    for (id, parent_id) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
        let row = node::ActiveModel {
            id: Set(id),
            parent_id: Set(parent_id),
        };
        nodes.insert(row).await.unwrap();
        nodes.find_by_id(id).await.unwrap().unwrap();
    }
    let _ = world.statements.take();
    nodes.delete_by_id(1).await.unwrap().unwrap();
    let statements = world.statements.verbs().len();
    assert!(statements < 10, "{statements} statements");
    let found = nodes.find_by_ids([1, 2, 3, 4]).await.unwrap();
    let found: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [false, false, false, true]);
}
