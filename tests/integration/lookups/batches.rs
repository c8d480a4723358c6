//! `find_by_ids`: many rows by their keys.

use cached_repo::{Cached, ReadError, Source};
use cached_repo_tests::{
    World,
    entities::{
        keys::{by_three, by_two_texts},
        lookups::{label, member},
        setting,
        verbs::counter,
    },
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, EntityTrait, prelude::Uuid};

use super::{members, new_member, settled};

fn ids<M>(rows: &[Option<Cached<M>>], id: impl Fn(&M) -> i64) -> Vec<Option<i64>> {
    rows.iter()
        .map(|row| row.as_ref().map(|row| id(row)))
        .collect()
}

everywhere!(no_keys_are_no_question);
/// Goal: an empty list asks neither the cache nor the database.
async fn no_keys_are_no_question(world: World) {
    let (db, members) = members(&world).await;
    let none: [i64; 0] = [];
    assert_eq!(members.find_by_ids(none).await.unwrap(), []);
    assert_eq!(members.fresh().find_by_ids(none).await.unwrap(), []);
    let tx = db.begin().await.unwrap();
    assert_eq!(members.on(&tx).find_by_ids(none).await.unwrap(), []);
    tx.rollback().await.unwrap();
    assert_eq!(world.statements.verbs(), [""; 0]);
    assert_eq!(members.stats(), cached_repo::Stats::default());
}

everywhere!(many_keys_are_found_in_their_order);
/// Goal: 1,500 keys, more than one statement asks for, in an order of their own, some of them
/// twice, some of them absent: cold, warm, and half of them changed.
async fn many_keys_are_found_in_their_order(world: World) {
    const ROWS: i32 = 1_500;
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    let rows: Vec<_> = (0..ROWS)
        .filter(|id| id % 7 != 0)
        .map(|id| format!("({id}, {id}, 1)"))
        .collect();
    world
        .raw(&format!(
            "INSERT INTO counter (id, value, version) VALUES {}",
            rows.join(",")
        ))
        .await;
    // 7 has no divisor in common with the number of rows.
    let mut asked: Vec<i32> = (0..ROWS).map(|at| at * 7 % ROWS).collect();
    asked.extend([3, 3, -1]);
    let value = |id: i32| (id > 0 && id % 7 != 0).then_some(i64::from(id));
    let expected: Vec<_> = asked.iter().map(|&id| value(id)).collect();
    for statements in [2, 0] {
        let found = counters.find_by_ids(asked.iter().copied()).await.unwrap();
        assert_eq!(ids(&found, |row| row.value), expected);
        settled(&db).await;
        assert_eq!(world.statements.verbs().len(), statements);
    }
    for id in (0..ROWS).step_by(2) {
        counters.invalidate(id).await.unwrap();
    }
    world
        .raw("UPDATE counter SET value = -value WHERE id % 2 = 0")
        .await;
    let found = counters.find_by_ids(asked.iter().copied()).await.unwrap();
    let expected: Vec<_> = asked
        .iter()
        .map(|&id| value(id).map(|value| if value % 2 == 0 { -value } else { value }))
        .collect();
    assert_eq!(ids(&found, |row| row.value), expected);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
}

everywhere!(many_composite_keys_are_found_in_their_order);
/// Goal: the same for keys of several columns, also ones whose parts look alike; 1,500 of them.
async fn many_composite_keys_are_found_in_their_order(world: World) {
    world.create_table(label::Entity).await;
    world.create_table(by_three::Entity).await;
    let db = world.db().await;
    let labels = label::Repository::new(&db);
    let key = |at: i32| (if at % 2 == 0 { "de" } else { "en" }.to_owned(), at);
    let rows: Vec<_> = (0..1_500)
        .map(|at| format!("('{}', {at}, 'text {at}')", key(at).0))
        .collect();
    world
        .raw(&format!(
            "INSERT INTO label (language, code, text) VALUES {}",
            rows.join(",")
        ))
        .await;
    let asked: Vec<_> = (0..1_500)
        .rev()
        .map(key)
        .chain([("fr".to_owned(), 1), key(3)])
        .collect();
    for warm in [false, true] {
        let found = labels.find_by_ids(asked.clone()).await.unwrap();
        for (id, row) in asked.iter().zip(&found) {
            match row {
                Some(row) => assert_eq!((&row.language, row.code), (&id.0, id.1)),
                None => assert_eq!(id.0, "fr"),
            }
        }
        settled(&db).await;
        let verbs = world.statements.verbs();
        // Absences of texts are not known under MySQL's collations.
        let again = if world.backend() == DbBackend::MySql {
            2
        } else {
            0
        };
        assert!(verbs.len() <= if warm { again } else { 20 }, "{verbs:?}");
    }

    let threes = by_three::Repository::new(&db);
    let device = Uuid::from_u128;
    let some = [
        (1, "1".to_owned(), device(1)),
        (1, "11".to_owned(), device(1)),
        (11, "1".to_owned(), device(1)),
        (1, "1".to_owned(), device(2)),
        (-1, ",".to_owned(), device(1)),
    ];
    for id in &some {
        let row = by_three::ActiveModel {
            tenant: Set(id.0),
            part: Set(id.1.clone()),
            device: Set(id.2),
            name: Set(format!("{id:?}")),
            ..Default::default()
        };
        threes.insert(row).await.unwrap();
    }
    threes.invalidate_all().await.unwrap();
    for _ in 0..2 {
        let found = threes
            .find_by_ids(some.iter().rev().cloned())
            .await
            .unwrap();
        for (id, row) in some.iter().rev().zip(found) {
            assert_eq!(row.unwrap().name, format!("{id:?}"));
        }
    }
}

everywhere!(many_text_keys_are_found_as_they_are_spelt);
/// Goal: texts that look like separators, patterns or one another find their own rows; and two
/// spellings that the database calls equal both find its one row.
async fn many_text_keys_are_found_as_they_are_spelt(world: World) {
    world.create_table(setting::Entity).await;
    world.create_table(by_two_texts::Entity).await;
    let db = world.db().await;
    let settings = setting::Repository::new(&db);
    if world.backend() == DbBackend::MySql {
        world
            .raw("ALTER TABLE setting MODIFY name varchar(64) COLLATE utf8mb4_general_ci")
            .await;
    }
    let names = [
        "a", "a:b", "a,b", "%", "*", "{a}", "!", "#", "NULL", "'", "ü",
    ];
    for name in names {
        let row = setting::ActiveModel {
            name: Set(name.into()),
            value: Set(format!("value of {name}")),
        };
        settings.insert(row).await.unwrap();
    }
    settings.invalidate_all().await.unwrap();
    for _ in 0..3 {
        let found = settings
            .find_by_ids(names.into_iter().chain(["b"]))
            .await
            .unwrap();
        for (name, row) in names.iter().zip(&found) {
            assert_eq!(row.as_ref().unwrap().value, format!("value of {name}"));
        }
        assert_eq!(found.last().unwrap(), &None);
    }
    for _ in 0..3 {
        let found = settings.find_by_ids(["A", "a", "A "]).await.unwrap();
        let found: Vec<_> = found.iter().map(Option::is_some).collect();
        let expected = match world.backend() {
            DbBackend::MySql => [true, true, true],
            _ => [false, true, false],
        };
        assert_eq!(found, expected);
    }
    for first in ["A", "a"] {
        let row = settings.find_by_id("a").await.unwrap().unwrap();
        settings
            .save(setting::Model {
                value: format!("changed by {first}"),
                ..row.into_model()
            })
            .await
            .unwrap();
        let found = settings.find_by_ids(["a", first]).await.unwrap();
        for row in found.into_iter().flatten() {
            assert_eq!(row.value, format!("changed by {first}"));
        }
    }
}

everywhere!(keys_of_one_checksum_find_their_own_rows);
/// Goal: keys are distinguished by their texts, in any order and with duplicates: cold, warm, past
/// the cache and inside a transaction.
async fn keys_of_one_checksum_find_their_own_rows(world: World) {
    world.create_table(setting::Entity).await;
    let db = world.db().await;
    let settings = setting::Repository::new(&db);
    // Texts of one CRC-32, also behind the same prefix; a unit test of the library says so.
    let [one, other] = ["plumless", "buckeroo"];
    for name in [one, other] {
        let row = setting::ActiveModel {
            name: Set(name.into()),
            value: Set(format!("value of {name}")),
        };
        settings.insert(row).await.unwrap();
    }
    settings.invalidate_all().await.unwrap();
    let check = async |settings: &setting::Repository| {
        let asked = [one, other, other, one, other];
        let found = settings.find_by_ids(asked).await.unwrap();
        for (name, row) in asked.iter().zip(found) {
            assert_eq!(row.unwrap().value, format!("value of {name}"));
        }
    };
    check(&settings).await;
    check(&settings).await;
    check(&settings.fresh()).await;
    let tx = db.begin().await.unwrap();
    check(&settings.on(&tx)).await;
    tx.rollback().await.unwrap();
}

everywhere!(inside_a_transaction_many_keys_show_its_own_writes);
/// Goal: inside, one SELECT past the cache; outside, what is committed.
async fn inside_a_transaction_many_keys_show_its_own_writes(world: World) {
    let (db, members) = members(&world).await;
    let mut keys = Vec::new();
    for chair in 0..3 {
        let row = members
            .insert(new_member(&format!("m{chair}"), 1, chair))
            .await;
        keys.push(row.unwrap().id);
    }
    members.find_by_ids(keys.clone()).await.unwrap();
    settled(&db).await;
    let _ = world.statements.take();
    let tx = db.begin().await.unwrap();
    let inside = members.on(&tx);
    inside
        .update_with(keys[0], |row| row.chair = Set(9))
        .await
        .unwrap();
    inside.delete_by_id(keys[1]).await.unwrap();
    let _ = world.statements.take();
    let chairs = |rows: Vec<Option<Cached<member::Model>>>| -> Vec<Option<i32>> {
        rows.iter()
            .map(|row| row.as_ref().map(|row| row.chair))
            .collect()
    };
    let found = inside.find_by_ids(keys.clone()).await.unwrap();
    assert_eq!(chairs(found), [Some(9), None, Some(2)]);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
    let found = members.find_by_ids(keys.clone()).await.unwrap();
    assert_eq!(chairs(found), [Some(0), Some(1), Some(2)]);
    assert_eq!(world.statements.verbs(), [""; 0]);
    tx.commit().await.unwrap();
    for _ in 0..2 {
        let found = members.find_by_ids(keys.clone()).await.unwrap();
        assert_eq!(chairs(found), [Some(9), None, Some(2)]);
    }
}

everywhere!(a_database_that_fails_fails_the_whole_lookup);
/// Goal: cached rows are found all the same; others are an error, and the next lookup tries again:
/// no lease is left behind.
async fn a_database_that_fails_fails_the_whole_lookup(world: World) {
    world.create_table(member::Entity).await;
    // A caller that has to wait for a lease waits long enough to fail the test.
    let db = world
        .db_with(|config| {
            config.lease_ttl = std::time::Duration::from_secs(600);
            config.lease_wait = std::time::Duration::from_secs(600);
        })
        .await;
    let members = member::Repository::new(&db);
    let ada = members.insert(new_member("ada", 1, 1)).await.unwrap().id;
    let bob = members.insert(new_member("bob", 1, 2)).await.unwrap().id;
    members.find_by_id(ada).await.unwrap();
    members.find_by_emails(["ada", "bob"]).await.unwrap();
    members.find_all_by_team_id(1).await.unwrap();
    settled(&db).await;
    members.invalidate(bob).await.unwrap();
    world.raw(r#"ALTER TABLE "member" RENAME TO "away""#).await;

    let found = members.find_by_ids([ada]).await.unwrap();
    assert_eq!(ids(&found, |row| row.id), [Some(ada)]);
    let errors = [
        members.find_by_ids([ada, bob, 77]).await.unwrap_err(),
        members.find_by_emails(["ada", "bob"]).await.unwrap_err(),
        members.find_by_email("bob").await.unwrap_err(),
        members.find_all_by_team_id(1).await.unwrap_err(),
        members.find_all_by_team_id(2).await.unwrap_err(),
        members.fresh().find_by_ids([ada]).await.unwrap_err(),
        members.fresh().find_by_emails(["ada"]).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ReadError::Database { .. }), "{error}");
    }
    settled(&db).await;
    world.raw(r#"ALTER TABLE "away" RENAME TO "member""#).await;
    for _ in 0..2 {
        let found = members.find_by_ids([bob, 77, ada]).await.unwrap();
        assert_eq!(ids(&found, |row| row.id), [Some(bob), None, Some(ada)]);
        let found = members.find_by_emails(["bob", "ada"]).await.unwrap();
        assert_eq!(ids(&found, |row| row.id), [Some(bob), Some(ada)]);
        assert_eq!(members.find_all_by_team_id(1).await.unwrap().len(), 2);
        assert_eq!(members.find_all_by_team_id(2).await.unwrap(), []);
    }
    assert_eq!(members.stats().lease_waits, 0);
}

everywhere!(an_error_in_a_transaction_is_an_error);
/// Goal: inside a transaction too, also where the keys take several statements.
async fn an_error_in_a_transaction_is_an_error(world: World) {
    world.create_table(counter::Entity).await;
    let db = world.db().await;
    let counters = counter::Repository::new(&db);
    world.raw("DROP TABLE counter").await;
    let tx = db.begin().await.unwrap();
    let error = counters.on(&tx).find_by_ids(0..1_500).await.unwrap_err();
    assert!(matches!(error, ReadError::Database { .. }), "{error}");
    if world.backend() != DbBackend::Postgres {
        // These databases go on after a statement that failed; so does the transaction.
        tx.execute_unprepared("SELECT 1").await.unwrap();
    }
    tx.rollback().await.unwrap();
    assert_eq!(setting_count(&world).await, 0);
}

/// The database still works.
async fn setting_count(world: &World) -> usize {
    world.create_table(setting::Entity).await;
    setting::Entity::find()
        .all(&world.conn)
        .await
        .unwrap()
        .len()
}

/// Goal: a list of many statements' worth of keys is cached whole: although there are so many
/// operations, no lease lapses and no operation on Redis times out.
#[tokio::test]
async fn a_very_long_list_of_keys_is_cached_whole() {
    use cached_repo_tests::{Backend, Tier};
    const ROWS: i32 = 10_000;
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(counter::Entity).await;
    // Enough for one part, not for all of them.
    let db = world
        .db_with(|config| config.lease_ttl = std::time::Duration::from_secs(1))
        .await;
    let counters = counter::Repository::new(&db);
    let rows = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 10000)";
    let insert = format!("INSERT INTO counter (id, value, version) {rows} SELECT id, id, 1 FROM n");
    world.raw(&insert).await;
    for source in [Source::Database, Source::Shared] {
        let found = counters.find_by_ids(1..=ROWS).await.unwrap();
        assert_eq!(found.len(), ROWS as usize);
        let elsewhere = found.iter().flatten().filter(|row| row.source() != source);
        assert_eq!(elsewhere.count(), 0, "not from {source:?}");
        settled(&db).await;
    }
    assert_eq!(db.connection_stats().timeouts, 0);
}
