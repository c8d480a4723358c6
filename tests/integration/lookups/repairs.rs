//! After statements past the library: index entries are right again, whichever call invalidates or
//! repairs them.

use cached_repo::CacheError;
use cached_repo_tests::{World, entities::lookups::member};
use sea_orm::ConnectionTrait;

use super::{id_of, members, new_member, settled, team};

/// Ada in team 1 and Bob in team 2. All lookups of their values are cached, also those of values
/// that they may get.
async fn known(world: &World) -> (cached_repo::CachedDb, member::Repository, i64, i64) {
    let (db, members) = members(world).await;
    let ada = members.insert(new_member("ada", 1, 1)).await.unwrap().id;
    let bob = members.insert(new_member("bob", 2, 2)).await.unwrap().id;
    assert_eq!(id_of(&members, "ada").await, Some(ada));
    assert_eq!(id_of(&members, "bob").await, Some(bob));
    assert_eq!(id_of(&members, "eve").await, None);
    assert_eq!(team(&members, 1).await, ["ada"]);
    assert_eq!(team(&members, 2).await, ["bob"]);
    assert_eq!(team(&members, 3).await, [""; 0]);
    settled(&db).await;
    (db, members, ada, bob)
}

const MOVE_ADA: &str = r#"UPDATE "member" SET email = 'eve', team_id = 3 WHERE email = 'ada'"#;

/// Everything is as after [`MOVE_ADA`].
async fn has_moved(members: &member::Repository, ada: i64) {
    assert_eq!(id_of(members, "eve").await, Some(ada));
    assert_eq!(id_of(members, "ada").await, None);
    assert_eq!(team(members, 1).await, [""; 0]);
    assert_eq!(team(members, 3).await, ["eve"]);
    assert_eq!(team(members, 2).await, ["bob"]);
}

everywhere!(an_invalidated_row_is_found_by_what_it_is_now);
/// Goal: `invalidate` reads the row and invalidates the index entries of its current values. The
/// entries of its earlier values hold the key of a row that no longer matches.
async fn an_invalidated_row_is_found_by_what_it_is_now(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world.raw(MOVE_ADA).await;
    members.invalidate(ada).await.unwrap();
    has_moved(&members, ada).await;
}

everywhere!(a_row_that_was_inserted_past_the_library_is_found_once_invalidated);
/// Goal: the same for a raw insert under known absences, and for a raw delete.
async fn a_row_that_was_inserted_past_the_library_is_found_once_invalidated(world: World) {
    let (_db, members, ada, bob) = known(&world).await;
    let eve = bob + 1;
    assert_eq!(members.find_by_id(eve).await.unwrap(), None);
    let active = match world.backend() {
        sea_orm::DbBackend::Postgres => "true",
        _ => "1",
    };
    world
        .raw(&format!(
            r#"INSERT INTO "member" (id, email, team_id, chair, active, version)
               VALUES ({eve}, 'eve', 3, 3, {active}, 1)"#
        ))
        .await;
    members.invalidate(eve).await.unwrap();
    assert_eq!(id_of(&members, "eve").await, Some(eve));
    assert_eq!(team(&members, 3).await, ["eve"]);
    world
        .raw(r#"DELETE FROM "member" WHERE email = 'ada'"#)
        .await;
    members.invalidate(ada).await.unwrap();
    assert_eq!(id_of(&members, "ada").await, None);
    assert_eq!(team(&members, 1).await, [""; 0]);
}

everywhere!(a_refreshed_row_is_found_by_what_it_is_now);
/// Goal: `refresh` and `fresh().find_by_id` read past the cache, and what they show is found.
async fn a_refreshed_row_is_found_by_what_it_is_now(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world.raw(MOVE_ADA).await;
    members.refresh(ada).await.unwrap().unwrap();
    has_moved(&members, ada).await;
}

everywhere!(many_fresh_rows_are_found_by_what_they_are_now);
/// Goal: the same for `fresh().find_by_ids`.
async fn many_fresh_rows_are_found_by_what_they_are_now(world: World) {
    let (_db, members, ada, bob) = known(&world).await;
    world.raw(MOVE_ADA).await;
    let rows = members.fresh().find_by_ids([bob, ada, 777]).await.unwrap();
    assert_eq!(rows[1].as_ref().unwrap().email, "eve");
    has_moved(&members, ada).await;
}

everywhere!(a_fresh_lookup_is_not_followed_by_older_rows);
/// Goal: after `fresh().find_by_email` and `fresh().find_all_by_team_id`, no later read returns an
/// older row: not by the same value, not by the key, and not by any other value.
async fn a_fresh_lookup_is_not_followed_by_older_rows(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world
        .raw(r#"UPDATE "member" SET chair = 9 WHERE email = 'ada'"#)
        .await;
    let fresh = members.fresh().find_by_email("ada").await.unwrap().unwrap();
    assert_eq!(fresh.chair, 9);
    for _ in 0..2 {
        assert_eq!(
            members.find_by_email("ada").await.unwrap().unwrap().chair,
            9
        );
        assert_eq!(members.find_by_id(ada).await.unwrap().unwrap().chair, 9);
        assert_eq!(members.find_all_by_team_id(1).await.unwrap()[0].chair, 9);
        assert_eq!(members.find_by_seat(1, 9).await.unwrap().unwrap().id, ada);
    }
    world.raw(MOVE_ADA).await;
    let fresh = members.fresh().find_all_by_team_id(3).await.unwrap();
    assert_eq!(fresh[0].email, "eve");
    has_moved(&members, ada).await;
    world
        .raw(r#"UPDATE "member" SET chair = 5 WHERE email = 'eve'"#)
        .await;
    let fresh = members
        .fresh()
        .find_by_emails(["nobody", "eve"])
        .await
        .unwrap();
    assert_eq!(fresh[1].as_ref().unwrap().chair, 5);
    assert_eq!(members.find_by_id(ada).await.unwrap().unwrap().chair, 5);
    assert_eq!(members.find_by_seat(3, 5).await.unwrap().unwrap().id, ada);
}

everywhere!(a_fresh_lookup_ends_an_absence_and_an_index_entry);
/// Goal: `fresh()` by a value that is known to be absent, and by one whose row has left.
async fn a_fresh_lookup_ends_an_absence_and_an_index_entry(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world.raw(MOVE_ADA).await;
    assert_eq!(members.fresh().find_by_email("ada").await.unwrap(), None);
    let eve = members.fresh().find_by_email("eve").await.unwrap().unwrap();
    assert_eq!(eve.id, ada);
    assert_eq!(members.fresh().find_all_by_team_id(1).await.unwrap(), []);
    has_moved(&members, ada).await;
}

everywhere!(a_fresh_lookup_without_a_change_leaves_the_rows_cached);
/// Goal: a fresh read without a change keeps the cached rows.
async fn a_fresh_lookup_without_a_change_leaves_the_rows_cached(world: World) {
    let (db, members, ada, _) = known(&world).await;
    members.fresh().find_by_email("ada").await.unwrap();
    members.fresh().find_all_by_team_id(1).await.unwrap();
    members.fresh().find_by_id(ada).await.unwrap();
    settled(&db).await;
    let _ = world.statements.take();
    members.find_by_id(ada).await.unwrap();
    members.find_by_email("ada").await.unwrap();
    members.find_all_by_team_id(1).await.unwrap();
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(a_transactions_own_statements_are_found_after_its_commit);
/// Goal: `tx.invalidate`: the row is read again before the COMMIT, also if the statement comes
/// after the call, and inside a savepoint.
async fn a_transactions_own_statements_are_found_after_its_commit(world: World) {
    let (db, members, ada, bob) = known(&world).await;
    let tx = db.begin().await.unwrap();
    tx.invalidate::<member::Model>(ada);
    let sql = |sql: &str| match world.backend() {
        sea_orm::DbBackend::MySql => sql.replace('"', "`"),
        _ => sql.to_owned(),
    };
    tx.execute_unprepared(&sql(MOVE_ADA)).await.unwrap();
    assert_eq!(id_of(&members, "eve").await, None);
    tx.commit().await.unwrap();
    has_moved(&members, ada).await;

    let tx = db.begin().await.unwrap();
    let inner = tx.begin().await.unwrap();
    inner
        .execute_unprepared(&sql(
            r#"UPDATE "member" SET email = 'zoe', team_id = 1 WHERE email = 'bob'"#,
        ))
        .await
        .unwrap();
    members.on(&inner).invalidate(bob).await.unwrap();
    inner.commit().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(id_of(&members, "zoe").await, Some(bob));
    assert_eq!(team(&members, 1).await, ["zoe"]);
    assert_eq!(team(&members, 2).await, [""; 0]);

    let tx = db.begin().await.unwrap();
    tx.execute_unprepared(&sql(r#"UPDATE "member" SET team_id = 4"#))
        .await
        .unwrap();
    tx.invalidate_all::<member::Model>();
    tx.commit().await.unwrap();
    assert_eq!(team(&members, 4).await, ["eve", "zoe"]);
    assert_eq!(team(&members, 1).await, [""; 0]);
}

everywhere!(invalidating_all_ends_every_index_entry);
/// Goal: `invalidate_all` forgets index entries, lists and absences with the rows.
async fn invalidating_all_ends_every_index_entry(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world.raw(MOVE_ADA).await;
    members.invalidate_all().await.unwrap();
    has_moved(&members, ada).await;
}

everywhere!(a_database_that_cannot_say_what_a_row_is_found_by_costs_the_entity);
/// Goal: `invalidate` cannot read the row. It returns an error, and nothing of the entity is served
/// from the cache any more, because any entry may be wrong.
async fn a_database_that_cannot_say_what_a_row_is_found_by_costs_the_entity(world: World) {
    let (_db, members, ada, _) = known(&world).await;
    world.raw(MOVE_ADA).await;
    world.raw(r#"ALTER TABLE "member" RENAME TO "away""#).await;
    let error = members.invalidate(ada).await.unwrap_err();
    assert!(matches!(error, CacheError::Database { .. }), "{error}");
    world.raw(r#"ALTER TABLE "away" RENAME TO "member""#).await;
    has_moved(&members, ada).await;
}

everywhere!(a_transaction_that_cannot_say_what_a_row_is_found_by_is_rolled_back);
/// Goal: the same before a COMMIT: it is rolled back instead of committed with wrong index entries.
async fn a_transaction_that_cannot_say_what_a_row_is_found_by_is_rolled_back(world: World) {
    let (db, members, ada, bob) = known(&world).await;
    let tx = db.begin().await.unwrap();
    tx.invalidate::<member::Model>(ada);
    members.on(&tx).delete_by_id(bob).await.unwrap();
    let gone = tx
        .execute_unprepared("DROP TABLE nothing_of_that_name")
        .await;
    gone.unwrap_err();
    // PostgreSQL refuses all that follows.
    let committed = tx.commit().await;
    if world.backend() == sea_orm::DbBackend::Postgres {
        let error = committed.unwrap_err();
        assert!(
            matches!(error, cached_repo::CommitError::RolledBack { .. }),
            "{error}"
        );
        assert_eq!(id_of(&members, "bob").await, Some(bob));
    } else {
        committed.unwrap();
        assert_eq!(id_of(&members, "bob").await, None);
    }
    assert_eq!(id_of(&members, "ada").await, Some(ada));
}
