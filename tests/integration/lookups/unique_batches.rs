//! `find_by_emails`, `find_by_seats`: many rows by unique columns.

use cached_repo::Cached;
use cached_repo_tests::{World, entities::lookups::member};
use sea_orm::{ActiveValue::Set, DbBackend};

use super::{members, new_member, settled};

fn emails(rows: &[Option<Cached<member::Model>>]) -> Vec<Option<&str>> {
    rows.iter()
        .map(|row| row.as_ref().map(|row| row.email.as_str()))
        .collect()
}

async fn filled(world: &World) -> (cached_repo::CachedDb, member::Repository) {
    let (db, members) = members(world).await;
    for (chair, email) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut row = new_member(email, 1, i32::try_from(chair).unwrap());
        row.badge = Set(Some(i32::try_from(chair).unwrap()));
        members.insert(row).await.unwrap();
    }
    members.invalidate_all().await.unwrap();
    settled(&db).await;
    let _ = world.statements.take();
    (db, members)
}

everywhere!(many_emails_are_one_statement_and_then_none);
/// Goal: order and duplicates are kept; cold, one SELECT finds the rows by their emails, and then
/// one by their keys; warm, none.
async fn many_emails_are_one_statement_and_then_none(world: World) {
    let (db, members) = filled(&world).await;
    let asked = ["c", "a", "nobody", "c", "d"];
    let expected = [Some("c"), Some("a"), None, Some("c"), Some("d")];
    let mut statements = Vec::new();
    for _ in 0..3 {
        let found = members.find_by_emails(asked).await.unwrap();
        assert_eq!(emails(&found), expected);
        settled(&db).await;
        statements.push(world.statements.verbs().len());
    }
    // Under MySQL's collations absences are not cached, so the database is asked again.
    let expected = match world.backend() {
        DbBackend::MySql => [1, 2, 1],
        _ => [1, 1, 0],
    };
    assert_eq!(statements, expected);
    // Some warm and some cold.
    let found = members.find_by_emails(["b", "a"]).await.unwrap();
    assert_eq!(emails(&found), [Some("b"), Some("a")]);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
}

everywhere!(many_numbers_and_pairs_are_one_statement_and_then_none);
/// Goal: the same for a number, whose absences are known everywhere, and for a pair of columns.
async fn many_numbers_and_pairs_are_one_statement_and_then_none(world: World) {
    let (db, members) = filled(&world).await;
    for (round, statements) in [1, 1, 0].into_iter().enumerate() {
        let found = members.find_by_badges([3, 0, 77, 3]).await.unwrap();
        assert_eq!(emails(&found), [Some("d"), Some("a"), None, Some("d")]);
        settled(&db).await;
        assert_eq!(world.statements.verbs().len(), statements, "round {round}");
    }
    for (round, statements) in [1, 1, 0].into_iter().enumerate() {
        let seats = [(1, 2), (1, 1), (2, 1), (1, 2)];
        let found = members.find_by_seats(seats).await.unwrap();
        assert_eq!(emails(&found), [Some("c"), Some("b"), None, Some("c")]);
        settled(&db).await;
        assert_eq!(world.statements.verbs().len(), statements, "round {round}");
    }
    let none: [i32; 0] = [];
    assert_eq!(members.find_by_badges(none).await.unwrap(), []);
    assert_eq!(world.statements.verbs(), [""; 0]);
}

everywhere!(many_emails_follow_what_was_written);
/// Goal: index entries of rows that have moved, gone or come, all in one lookup.
async fn many_emails_follow_what_was_written(world: World) {
    let (_db, members) = filled(&world).await;
    for _ in 0..2 {
        members
            .find_by_emails(["a", "b", "c", "d", "e"])
            .await
            .unwrap();
    }
    let id = async |email: &str| members.find_by_email(email).await.unwrap().unwrap().id;
    let (a, b) = (id("a").await, id("b").await);
    members.delete_by_id(a).await.unwrap();
    members
        .update_with(b, |row| row.email = Set("a".into()))
        .await
        .unwrap();
    let e = members.insert(new_member("e", 2, 1)).await.unwrap().id;
    for _ in 0..3 {
        let found = members
            .find_by_emails(["a", "b", "c", "d", "e"])
            .await
            .unwrap();
        assert_eq!(
            emails(&found),
            [Some("a"), None, Some("c"), Some("d"), Some("e")]
        );
        assert_eq!(found[0].as_ref().unwrap().id, b);
        assert_eq!(found[4].as_ref().unwrap().id, e);
    }
}

everywhere!(many_emails_are_found_fresh_and_inside_a_transaction);
/// Goal: `fresh()` sees raw SQL and repairs the index entries; a transaction sees its own writes.
async fn many_emails_are_found_fresh_and_inside_a_transaction(world: World) {
    let (db, members) = filled(&world).await;
    for _ in 0..2 {
        members.find_by_emails(["a", "b", "x"]).await.unwrap();
    }
    world
        .raw(r#"UPDATE "member" SET email = 'x' WHERE email = 'a'"#)
        .await;
    let found = members
        .fresh()
        .find_by_emails(["a", "b", "x"])
        .await
        .unwrap();
    assert_eq!(emails(&found), [None, Some("b"), Some("x")]);
    for _ in 0..3 {
        let found = members.find_by_emails(["a", "b", "x"]).await.unwrap();
        assert_eq!(emails(&found), [None, Some("b"), Some("x")]);
    }
    let x = members.find_by_email("x").await.unwrap().unwrap().id;
    let tx = db.begin().await.unwrap();
    let inside = members.on(&tx);
    inside
        .update_with(x, |row| row.email = Set("y".into()))
        .await
        .unwrap();
    let found = inside.find_by_emails(["y", "x", "y"]).await.unwrap();
    assert_eq!(emails(&found), [Some("y"), None, Some("y")]);
    let found = members.find_by_emails(["y", "x"]).await.unwrap();
    assert_eq!(emails(&found), [None, Some("x")]);
    tx.commit().await.unwrap();
    let found = members.find_by_emails(["y", "x"]).await.unwrap();
    assert_eq!(emails(&found), [Some("y"), None]);
}

everywhere!(more_emails_than_one_statement_asks_for);
/// Goal: 1,500 of them, and as many pairs.
async fn more_emails_than_one_statement_asks_for(world: World) {
    const ROWS: i32 = 1_500;
    let (_db, members) = members(&world).await;
    let rows: Vec<_> = (0..ROWS)
        .map(|at| {
            format!(
                "('m{at}', {at}, {}, {at}, {}, 1)",
                at % 9,
                world_true(&world)
            )
        })
        .collect();
    world
        .raw(&format!(
            r#"INSERT INTO "member" (email, badge, team_id, chair, active, version) VALUES {}"#,
            rows.join(",")
        ))
        .await;
    let asked: Vec<_> = (0..ROWS).rev().map(|at| format!("m{at}")).collect();
    let seats: Vec<_> = (0..ROWS).rev().map(|at| (i64::from(at % 9), at)).collect();
    for _ in 0..2 {
        let found = members.find_by_emails(asked.clone()).await.unwrap();
        let expected: Vec<_> = asked.iter().map(|email| Some(email.as_str())).collect();
        assert_eq!(emails(&found), expected);
        let found = members.find_by_seats(seats.clone()).await.unwrap();
        assert_eq!(emails(&found), expected);
    }
}

fn world_true(world: &World) -> &'static str {
    match world.backend() {
        DbBackend::Postgres => "true",
        _ => "1",
    }
}
