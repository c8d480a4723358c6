//! The first promise: rows are found by unique columns, by indexes and many at a time, and then
//! without SQL.

use cached_repo::Source;
use cached_repo_tests::{World, entities::lookups::member};
use sea_orm::ActiveValue::Set;

use super::new_member;

everywhere!(a_row_is_found_by_a_unique_column_without_sql);
/// Goal: the first lookup asks the database for the row, the second loads it by its key, the third
/// issues no SQL.
async fn a_row_is_found_by_a_unique_column_without_sql(world: World) {
    world.create_table(member::Entity).await;
    let db = world.db().await;
    let members = member::Repository::new(&db);
    let ada = members.insert(new_member("ada", 1, 1)).await.unwrap();
    members.invalidate(ada.id).await.unwrap();
    let _ = world.statements.take();

    let cold = members.find_by_email("ada").await.unwrap().unwrap();
    assert_eq!((cold.source(), cold.id), (Source::Database, ada.id));
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let followed = members.find_by_email("ada").await.unwrap().unwrap();
    assert_eq!(followed.source(), Source::Database);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let warm = members.find_by_email("ada").await.unwrap().unwrap();
    assert_eq!(warm.source(), Source::Shared);
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(warm, ada);
}

everywhere!(a_list_grows_and_shrinks_with_what_is_written);
/// Goal: what is inserted, moved and deleted is in the lists at once, and in no list it has left.
async fn a_list_grows_and_shrinks_with_what_is_written(world: World) {
    world.create_table(member::Entity).await;
    let db = world.db().await;
    let members = member::Repository::new(&db);
    let emails = async |team| -> Vec<String> {
        // Twice: from the database, and from the cache.
        members.find_all_by_team_id(team).await.unwrap();
        let rows = members.find_all_by_team_id(team).await.unwrap();
        rows.iter().map(|row| row.email.clone()).collect()
    };
    assert_eq!(emails(1).await, [""; 0]);
    let ada = members.insert(new_member("ada", 1, 1)).await.unwrap();
    assert_eq!(emails(1).await, ["ada"]);
    let bob = members.insert(new_member("bob", 1, 2)).await.unwrap();
    assert_eq!(emails(1).await, ["ada", "bob"]);
    assert_eq!(emails(2).await, [""; 0]);
    members
        .update_with(ada.id, |ada| ada.team_id = Set(2))
        .await
        .unwrap();
    assert_eq!(emails(1).await, ["bob"]);
    assert_eq!(emails(2).await, ["ada"]);
    members.delete_by_id(bob.id).await.unwrap();
    assert_eq!(emails(1).await, [""; 0]);
}

everywhere!(many_rows_are_one_statement_and_then_none);
/// Goal: `find_by_ids` keeps the order, allows duplicates, and asks the database once, for what the
/// cache does not know.
async fn many_rows_are_one_statement_and_then_none(world: World) {
    world.create_table(member::Entity).await;
    let db = world.db().await;
    let members = member::Repository::new(&db);
    let mut ids = Vec::new();
    for number in 0..5 {
        let row = new_member(&format!("m{number}"), 1, number);
        ids.push(members.insert(row).await.unwrap().id);
    }
    members.invalidate_all().await.unwrap();
    members.find_by_id(ids[2]).await.unwrap();
    let drained = db.shutdown(std::time::Duration::from_secs(10)).await;
    assert_eq!(drained, cached_repo::Drained::All);
    let _ = world.statements.take();

    let asked = [ids[3], ids[2], 77_777, ids[3], ids[0]];
    for expected in [&["SELECT"][..], &[]] {
        let rows = members.find_by_ids(asked).await.unwrap();
        let found: Vec<_> = rows
            .iter()
            .map(|row| row.as_ref().map(|row| row.id))
            .collect();
        assert_eq!(
            found,
            [Some(ids[3]), Some(ids[2]), None, Some(ids[3]), Some(ids[0])]
        );
        assert_eq!(world.statements.verbs(), expected);
    }
}
