//! Keys of every kind, also hostile ones, and keys that databases call equal.

use cached_repo::{Source, WriteError};
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{
        keys::{
            AccountId, Slug, by_decimal, by_i32, by_i64, by_instant, by_moment, by_newtype,
            by_text, by_text_newtype, by_three, by_two_texts, by_u32, by_uuid,
        },
        setting,
    },
};
use sea_orm::{
    ActiveValue::Set,
    DbBackend,
    prelude::{DateTime, DateTimeWithTimeZone, Decimal, Uuid},
};

/// Inserts a row per key and checks that each key finds its own row: cold, warm, saved and deleted.
macro_rules! distinguishes {
    ($world:ident, $module:ident, $ids:expr) => {{
        $world.create_table($module::Entity).await;
        let db = $world.db().await;
        let rows = $module::Repository::new(&db);
        let ids: Vec<_> = $ids.into_iter().collect();
        for (at, id) in ids.iter().enumerate() {
            assert!(rows.find_by_id(id.clone()).await.unwrap().is_none());
            let row = $module::ActiveModel {
                id: Set(id.clone()),
                name: Set(format!("row {at}")),
                ..Default::default()
            };
            let inserted = rows.insert(row).await.unwrap();
            assert_eq!((&inserted.id, inserted.version), (id, 1), "{id:?}");
        }
        for (at, id) in ids.iter().enumerate() {
            let found = rows.find_by_id(id.clone()).await.unwrap().unwrap();
            assert_eq!(
                (&found.id, &*found.name),
                (id, &*format!("row {at}")),
                "{id:?}"
            );
            assert_eq!(found.source(), Source::Shared, "{id:?}");
            rows.update_with(id.clone(), |row| row.name = Set(format!("saved {at}")))
                .await
                .unwrap();
        }
        rows.invalidate_all().await.unwrap();
        for (at, id) in ids.iter().enumerate() {
            for _ in 0..2 {
                let found = rows.find_by_id(id.clone()).await.unwrap().unwrap();
                assert_eq!(
                    (&found.id, &*found.name),
                    (id, &*format!("saved {at}")),
                    "{id:?}"
                );
            }
            let warm = rows.find_by_id(id.clone()).await.unwrap().unwrap();
            assert_eq!(warm.source(), Source::Shared, "{id:?}");
        }
        for (at, id) in ids.iter().enumerate() {
            let gone = rows.delete_by_id(id.clone()).await.unwrap().unwrap();
            assert_eq!(gone.name, format!("saved {at}"));
            assert!(rows.find_by_id(id.clone()).await.unwrap().is_none());
            for (later, other) in ids.iter().enumerate().skip(at + 1) {
                let found = rows.find_by_id(other.clone()).await.unwrap().unwrap();
                assert_eq!(found.name, format!("saved {later}"));
            }
        }
    }};
}

everywhere!(numbers_newtypes_and_uuids_are_distinguished);
/// Goal: every whole number, a newtype of one, and a UUID name their own row.
async fn numbers_newtypes_and_uuids_are_distinguished(world: World) {
    distinguishes!(world, by_i32, [i32::MIN, -1, 0, 1, 11, i32::MAX]);
    distinguishes!(world, by_i64, [i64::MIN, -1, 0, 1, 11, i64::MAX]);
    distinguishes!(world, by_newtype, [1, -1, i64::MAX].map(AccountId));
    let uuids = [0, 1, u128::MAX].map(Uuid::from_u128);
    distinguishes!(world, by_uuid, uuids);
    if world.backend() == DbBackend::MySql {
        distinguishes!(world, by_u32, [0, 1, u32::MAX]);
    }
}

/// Texts that would forge a key, a separator, a pattern or a hash slot if they were let.
fn hostile(world: &World) -> Vec<String> {
    let long = "ü".repeat(120);
    let mut texts = vec![
        String::new(),
        ":".into(),
        "a:b".into(),
        "a,b".into(),
        "{a}".into(),
        "a{b".into(),
        "a%3Ab".into(),
        "*".into(),
        "[a-z]?".into(),
        "#".into(),
        "!".into(),
        "NULL".into(),
        "'".into(),
        "a'b''c\\".into(),
        "ß東京🦀".into(),
        "new\nline\ttab".into(),
        format!("{long}1"),
        format!("{long}2"),
        "x".repeat(399),
    ];
    // MariaDB's default collation calls these equal to one above, and a primary key refuses them.
    if world.backend() != DbBackend::MySql {
        texts.extend(["A:B", " ", "a:b ", "SS東京🦀"].map(str::to_owned));
    }
    texts
}

everywhere!(many_unknown_texts_are_one_statement);
/// Goal: a batch of texts is one statement, also where the database may call texts equal that
/// differ.
async fn many_unknown_texts_are_one_statement(world: World) {
    world.create_table(by_text::Entity).await;
    let rows = by_text::Repository::new(&world.db().await);
    let row = by_text::ActiveModel {
        id: Set("known".into()),
        name: Set("row".into()),
        ..Default::default()
    };
    rows.insert(row).await.unwrap();
    rows.invalidate("known").await.unwrap();
    let _ = world.statements.take();
    let asked = (0..500).map(|number| format!("unknown {number}"));
    let asked: Vec<String> = asked.chain(["known".into()]).collect();
    let found = rows.find_by_ids(asked).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 1);
    assert_eq!(world.statements.verbs(), ["SELECT"]);
}

everywhere!(hostile_texts_are_distinguished);
/// Goal: no text forges the key of another, however it is spelt or however long it is.
async fn hostile_texts_are_distinguished(world: World) {
    distinguishes!(world, by_text, hostile(&world));
    let slugs = ["", "a", "a:b"].map(|text| Slug(text.to_owned()));
    distinguishes!(world, by_text_newtype, slugs);
}

everywhere!(composite_keys_are_distinguished);
/// Goal: the parts of a composite key cannot be shifted into one another.
async fn composite_keys_are_distinguished(world: World) {
    world.create_table(by_three::Entity).await;
    world.create_table(by_two_texts::Entity).await;
    let db = world.db().await;
    let rows = by_three::Repository::new(&db);
    let device = Uuid::from_u128;
    let ids = [
        (1, "1".to_owned(), device(1)),
        (1, "11".to_owned(), device(1)),
        (11, "1".to_owned(), device(1)),
        (1, "1".to_owned(), device(2)),
        (-1, ",".to_owned(), device(1)),
        (-1, ",,".to_owned(), device(1)),
    ];
    for id in &ids {
        assert!(rows.find_by_id(id.clone()).await.unwrap().is_none());
        let row = by_three::ActiveModel {
            tenant: Set(id.0),
            part: Set(id.1.clone()),
            device: Set(id.2),
            name: Set(format!("{id:?}")),
            ..Default::default()
        };
        rows.insert(row).await.unwrap();
    }
    for id in &ids {
        let found = rows.find_by_id(id.clone()).await.unwrap().unwrap();
        assert_eq!(
            (found.source(), &found.name),
            (Source::Shared, &format!("{id:?}"))
        );
        rows.update_with(id.clone(), |row| row.name = Set("saved".into()))
            .await
            .unwrap();
        let stale = rows.save(found.into_model()).await.unwrap_err();
        assert!(
            matches!(stale, WriteError::VersionConflict { .. }),
            "{stale}"
        );
    }

    let pairs = by_two_texts::Repository::new(&db);
    let ids = [("a,b", "c"), ("a", "b,c"), ("", "a,b,c"), ("a,b,c", "")];
    for (one, two) in ids {
        let row = by_two_texts::ActiveModel {
            one: Set(one.into()),
            two: Set(two.into()),
            name: Set(format!("{one}|{two}")),
        };
        pairs.insert(row).await.unwrap();
    }
    for (one, two) in ids {
        for _ in 0..2 {
            let id = (one.to_owned(), two.to_owned());
            let found = pairs.find_by_id(id).await.unwrap().unwrap();
            assert_eq!(found.name, format!("{one}|{two}"));
        }
    }
}

fn setting(name: &str, value: &str) -> setting::Model {
    setting::Model {
        name: name.into(),
        value: value.into(),
    }
}

/// Creates a table whose key the database compares without regard to case.
async fn create_without_case(world: &World) {
    let sql = match world.backend() {
        DbBackend::MySql => {
            "CREATE TABLE setting (name varchar(64) COLLATE utf8mb4_general_ci PRIMARY KEY, \
             value varchar(64) NOT NULL)"
        }
        _ => {
            "CREATE TABLE setting (name varchar(64) COLLATE NOCASE PRIMARY KEY, value text NOT NULL)"
        }
    };
    world.raw(sql).await;
}

#[tokio::test]
/// Goal: where the database calls 'ABC', 'abc' and 'abc ' one row, no spelling ever reads what
/// was there before an acknowledged insert, save or delete by another spelling.
async fn spellings_that_mariadb_calls_equal_are_never_stale() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::MariaDb, tier).await;
        create_without_case(&world).await;
        let settings = setting::Repository::new(&world.db().await);
        let spellings = ["ABC", "abc", "Abc", "abc "];
        let everyone_sees = async |value: Option<&str>| {
            for _ in 0..3 {
                for spelling in spellings {
                    let row = settings.find_by_id(spelling).await.unwrap();
                    assert_eq!(
                        row.as_ref().map(|row| row.value.as_str()),
                        value,
                        "{spelling}"
                    );
                    assert!(row.is_none_or(|row| row.name == "abc"));
                }
            }
        };
        everyone_sees(None).await;
        assert_eq!(settings.stats().absent_hits, 0, "no absence survives");
        let row = setting::ActiveModel {
            name: Set("abc".into()),
            value: Set("1".into()),
        };
        settings.insert(row).await.unwrap();
        everyone_sees(Some("1")).await;
        for (at, spelling) in spellings.iter().enumerate() {
            let value = format!("saved {at}");
            settings.save(setting(spelling, &value)).await.unwrap();
            everyone_sees(Some(&value)).await;
        }
        // The row's own spelling is cached all the same.
        let own = settings.find_by_id("abc").await.unwrap().unwrap();
        assert_eq!(own.source(), Source::Shared);
        settings.delete_by_id("ABC").await.unwrap().unwrap();
        everyone_sees(None).await;
        let row = setting::ActiveModel {
            name: Set("abc".into()),
            value: Set("2".into()),
        };
        settings.insert(row).await.unwrap();
        everyone_sees(Some("2")).await;
        settings.delete(setting("ABC", "2")).await.unwrap();
        everyone_sees(None).await;
    }
}

#[tokio::test]
/// Goal: the same on SQLite's NOCASE, for rows; absences are exact only where `negative_ttl` is
/// off.
async fn spellings_that_sqlite_calls_equal_are_never_stale_without_absences() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Sqlite, tier).await;
        create_without_case(&world).await;
        let db = world
            .db_with(|config| config.negative_ttl = std::time::Duration::ZERO)
            .await;
        let settings = setting::Repository::new(&db);
        for (spelling, value) in [("abc", "1"), ("ABC", "2"), ("Abc", "3")] {
            if value == "1" {
                assert!(settings.find_by_id("ABC").await.unwrap().is_none());
                let row = setting::ActiveModel {
                    name: Set(spelling.into()),
                    value: Set(value.into()),
                };
                settings.insert(row).await.unwrap();
            } else {
                settings.save(setting(spelling, value)).await.unwrap();
            }
            for other in ["ABC", "abc", "aBC", "abc"] {
                let row = settings.find_by_id(other).await.unwrap().unwrap();
                assert_eq!((row.name.as_str(), row.value.as_str()), ("abc", value));
            }
        }
        settings.delete_by_id("aBC").await.unwrap().unwrap();
        for other in ["ABC", "abc", "aBC"] {
            assert!(settings.find_by_id(other).await.unwrap().is_none());
        }
    }
}

everywhere!(one_moment_in_two_time_zones_is_one_row);
/// Goal: a key is read with one offset and written with another. No cached absence survives the
/// insert, and no cached row survives the save.
async fn one_moment_in_two_time_zones_is_one_row(world: World) {
    if world.backend() == DbBackend::Sqlite {
        return; // SQLite keeps the text, so these are two rows.
    }
    world.create_table(by_moment::Entity).await;
    let rows = by_moment::Repository::new(&world.db().await);
    let utc: DateTimeWithTimeZone = "2024-05-01T10:00:00Z".parse().unwrap();
    let berlin: DateTimeWithTimeZone = "2024-05-01T12:00:00+02:00".parse().unwrap();
    for (insert, find) in [(utc, berlin), (berlin, utc)] {
        assert!(rows.find_by_id(find).await.unwrap().is_none());
        let row = by_moment::ActiveModel {
            id: Set(insert),
            name: Set("new".into()),
            ..Default::default()
        };
        rows.insert(row).await.unwrap();
        for value in 0..3 {
            let found = rows.find_by_id(find).await.unwrap().expect("it is there");
            assert_eq!(found.version, 1 + value);
            rows.update_with(insert, |row| row.name = Set(format!("{value}")))
                .await
                .unwrap();
        }
        rows.delete_by_id(insert).await.unwrap().unwrap();
        assert!(rows.find_by_id(find).await.unwrap().is_none());
    }
}

everywhere!(one_number_in_two_spellings_is_one_row);
/// Goal: the same for a decimal key, 1.5 and 1.5000.
async fn one_number_in_two_spellings_is_one_row(world: World) {
    world.create_table(by_decimal::Entity).await;
    let rows = by_decimal::Repository::new(&world.db().await);
    let (short, long) = (Decimal::new(15, 1), Decimal::new(15_000, 4));
    assert!(rows.find_by_id(short).await.unwrap().is_none());
    assert!(rows.find_by_id(long).await.unwrap().is_none());
    let row = by_decimal::ActiveModel {
        id: Set(long),
        name: Set("new".into()),
        ..Default::default()
    };
    rows.insert(row).await.unwrap();
    for value in 0..3 {
        for id in [short, long] {
            let found = rows.find_by_id(id).await.unwrap().expect("it is there");
            assert_eq!(found.version, 1 + value);
        }
        rows.update_with(short, |row| row.name = Set(format!("{value}")))
            .await
            .unwrap();
    }
}

#[tokio::test]
/// Goal: SQLite keeps nanoseconds: two keys that differ by one are two rows, and neither is ever
/// served for the other.
async fn keys_a_nanosecond_apart_are_two_rows() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Sqlite, tier).await;
        world.create_table(by_instant::Entity).await;
        let rows = by_instant::Repository::new(&world.db().await);
        let ids: [DateTime; 3] = [
            "2024-05-01T10:00:00.123456001",
            "2024-05-01T10:00:00.123456002",
            "2024-05-01T10:00:00.123456003",
        ]
        .map(|text| text.parse().unwrap());
        assert!(rows.find_by_id(ids[2]).await.unwrap().is_none());
        for id in &ids[..2] {
            let row = by_instant::ActiveModel {
                id: Set(*id),
                name: Set(id.to_string()),
                ..Default::default()
            };
            rows.insert(row).await.unwrap();
        }
        for _ in 0..3 {
            for id in &ids[..2] {
                let found = rows.find_by_id(*id).await.unwrap().unwrap();
                assert_eq!((found.id, &found.name), (*id, &id.to_string()));
            }
            assert!(rows.find_by_id(ids[2]).await.unwrap().is_none());
        }
    }
}
