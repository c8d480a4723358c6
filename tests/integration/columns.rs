//! Columns: what the cache returns is what plain SeaORM reads, to the bit.

use std::collections::BTreeMap;

use cached_repo::{CachedEntity, Codec, Source};
use cached_repo_tests::{Backend, Tier, World};
use sea_orm::{
    EntityTrait, IntoActiveModel,
    prelude::{Decimal, Json, TimeDate, Uuid},
};
use serde_json::json;

use super::models::columns::{
    Category, Color, Email, Event, OneOrMany, Profile, Tags, arrays, everything, unsigned,
};

/// Inserts a row and reads it through the cache, put by the write and filled by a load, beside
/// plain SeaORM.
macro_rules! round_trips {
    ($world:ident, $module:ident, $model:expr) => {{
        let model: $module::Model = $model;
        let id = model.id;
        let db = $world.db().await;
        let rows = $module::Repository::new(&db);
        let inserted = rows.insert(model.into_active_model()).await.unwrap();
        let plain = $module::Entity::find_by_id(id).one(&$world.conn).await;
        let plain = plain.unwrap().unwrap();
        assert_eq!(*inserted, plain);
        for how in ["put", "filled"] {
            if how == "filled" {
                rows.invalidate(id).await.unwrap();
                let loaded = rows.find_by_id(id).await.unwrap().unwrap();
                assert_eq!((loaded.source(), &*loaded), (Source::Database, &plain));
            }
            let cached = rows.find_by_id(id).await.unwrap().unwrap();
            assert_eq!(
                (cached.source(), &*cached),
                (Source::Shared, &plain),
                "{how}"
            );
            // Tells -0.0 from 0.0 and one scale of a decimal from another.
            assert_eq!(format!("{:?}", *cached), format!("{plain:?}"), "{how}");
        }
        assert_eq!(rows.stats().misses_corrupt, 0);
        // And what was read from the cache can be saved as it is.
        let saved = rows.save(plain.clone()).await.unwrap();
        let again = $module::Entity::find_by_id(id).one(&$world.conn).await;
        assert_eq!(again.unwrap().as_ref(), Some(&*saved));
    }};
}

fn profile(bio: Option<&str>) -> Profile {
    Profile {
        nick_name: "ada".into(),
        bio: bio.map(Into::into),
        tags: vec!["a".into(), String::new()],
        event: Event::LoggedIn {
            from: "10.0.0.1".parse().unwrap(),
            session: Uuid::from_u128(5),
        },
        rest: BTreeMap::from([("x".to_owned(), json!({"y": [1, 2.5, null]}))]),
    }
}

fn full(id: i32) -> everything::Model {
    everything::Model {
        id,
        flag: true,
        small: i16::MIN,
        int: i32::MIN,
        big: i64::MIN,
        float: 0.1,
        double: 0.1 + 0.2,
        price: Decimal::new(-1_234_567_890_123, 6),
        chrono_date: "1999-12-31".parse().unwrap(),
        chrono_time: "23:59:59".parse().unwrap(),
        chrono_moment: "2024-02-29T12:34:56".parse().unwrap(),
        chrono_utc: "2024-02-29T12:34:56Z".parse().unwrap(),
        chrono_zoned: "2024-02-29T12:34:56+02:00".parse().unwrap(),
        time_date: TimeDate::from_ordinal_date(2000, 60).unwrap(),
        time_time: sea_orm::prelude::TimeTime::from_hms(1, 2, 3).unwrap(),
        time_moment: TimeDate::from_ordinal_date(2000, 60)
            .unwrap()
            .with_hms(4, 5, 6)
            .unwrap(),
        time_zoned: TimeDate::from_ordinal_date(2000, 60)
            .unwrap()
            .with_hms(4, 5, 6)
            .unwrap()
            .assume_utc(),
        uuid: Uuid::from_u128(u128::MAX - 1),
        json: json!({"a": [1, -2, 2.5, 1e300, null, true, "x", u64::MAX], "": {}}),
        profile: profile(Some("likes 🦀")),
        untagged: OneOrMany::Many(vec![1, -1, i64::MAX]),
        tags: Tags(vec!["one".into(), "zwei".into()]),
        category: Category::BigOne,
        color: Color::White,
        email: Email("ada@example.com".into()),
        text: "line\nbreak \"quoted\" 'q' \\ ü 🦀".into(),
        bytes: (0..=255).collect(),
        maybe_flag: Some(false),
        maybe_int: Some(0),
        maybe_double: Some(-0.0),
        maybe_price: Some(Decimal::new(150, 2)),
        maybe_date: Some("2024-02-29".parse().unwrap()),
        maybe_utc: Some("1970-01-01T00:00:01Z".parse().unwrap()),
        maybe_time: Some(sea_orm::prelude::TimeTime::MIDNIGHT),
        maybe_uuid: Some(Uuid::nil()),
        maybe_json: Some(json!([])),
        maybe_profile: Some(profile(None)),
        maybe_category: Some(Category::SmallOne),
        maybe_color: Some(Color::Black),
        maybe_email: Some(Email(String::new())),
        maybe_text: Some(String::new()),
        maybe_bytes: Some(vec![]),
        version: 1,
    }
}

fn empty(id: i32) -> everything::Model {
    everything::Model {
        flag: false,
        double: 5e-324,
        float: f32::MIN_POSITIVE,
        price: Decimal::ZERO,
        json: json!("just a text"),
        profile: Profile {
            event: Event::LoggedOut,
            rest: BTreeMap::new(),
            tags: vec![],
            ..profile(None)
        },
        untagged: OneOrMany::Named {
            at: "::1".parse().unwrap(),
        },
        tags: Tags(vec![]),
        text: String::new(),
        bytes: vec![],
        maybe_flag: None,
        maybe_int: None,
        maybe_double: None,
        maybe_price: None,
        maybe_date: None,
        maybe_utc: None,
        maybe_time: None,
        maybe_uuid: None,
        maybe_json: None,
        maybe_profile: None,
        maybe_category: None,
        maybe_color: None,
        maybe_email: None,
        maybe_text: None,
        maybe_bytes: None,
        ..full(id)
    }
}

everywhere!(every_kind_of_column_comes_back_as_it_was);
/// Goal: a row of every kind of column, full and empty, comes out of the cache as plain SeaORM
/// reads it from the database.
async fn every_kind_of_column_comes_back_as_it_was(world: World) {
    world.create_table(everything::Entity).await;
    round_trips!(world, everything, full(1));
    round_trips!(world, everything, empty(2));
    let one = everything::Model {
        untagged: OneOrMany::One(-7),
        json: Json::Null,
        ..full(3)
    };
    round_trips!(world, everything, one);
}

everywhere!(a_json_null_is_not_an_sql_null);
/// Goal: an optional JSON column that holds the JSON value `null` is not taken for SQL NULL, and
/// the other way round.
async fn a_json_null_is_not_an_sql_null(world: World) {
    world.create_table(everything::Entity).await;
    let null = everything::Model {
        maybe_json: Some(Json::Null),
        ..empty(1)
    };
    round_trips!(world, everything, null);
}

everywhere!(fractions_of_seconds_are_as_the_database_keeps_them);
/// Goal: times finer than the database keeps are returned, cached and read alike, rounded or not.
async fn fractions_of_seconds_are_as_the_database_keeps_them(world: World) {
    world.create_table(everything::Entity).await;
    let fine = everything::Model {
        chrono_time: "23:59:58.123456789".parse().unwrap(),
        chrono_moment: "2024-02-29T12:34:56.123456789".parse().unwrap(),
        chrono_utc: "2024-02-29T12:34:56.987654321Z".parse().unwrap(),
        chrono_zoned: "2024-02-29T12:34:56.500000001+02:00".parse().unwrap(),
        maybe_utc: Some("1969-12-31T23:59:59.000000001Z".parse().unwrap()),
        price: "0.1234567".parse().unwrap(),
        ..full(1)
    };
    round_trips!(world, everything, fine);
}

#[tokio::test]
/// Goal: unsigned numbers up to their ends, where the database has them.
async fn unsigned_numbers_come_back_as_they_were() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::MariaDb, tier).await;
        world.create_table(unsigned::Entity).await;
        for (id, end) in [(1, true), (u64::MAX, false)] {
            let row = unsigned::Model {
                id,
                tiny: if end { u8::MAX } else { 0 },
                small: if end { u16::MAX } else { 0 },
                int: if end { u32::MAX } else { 0 },
                big: if end { u64::MAX } else { 0 },
                version: 1,
            };
            round_trips!(world, unsigned, row);
        }
    }
}

fn array_row() -> arrays::Model {
    arrays::Model {
        id: 1,
        ints: vec![i32::MIN, 0, i32::MAX],
        bigs: vec![i64::MIN, i64::MAX],
        doubles: vec![-0.0, 0.1, f64::MIN, f64::MAX],
        texts: vec![
            String::new(),
            "{a,\"b\"}".into(),
            "NULL".into(),
            "ü🦀".into(),
        ],
        uuids: vec![Uuid::nil(), Uuid::max()],
        flags: vec![true, false],
        decimals: vec![Decimal::new(150, 2), Decimal::new(15, 1)],
        moods: vec![arrays::Mood::SoSo, arrays::Mood::Happy],
        mood: arrays::Mood::SoSo,
        maybe_ints: Some(vec![]),
        maybe_mood: Some(arrays::Mood::Happy),
        version: 1,
    }
}

#[tokio::test]
/// Goal: PostgreSQL's arrays and native enums, also arrays of these, full, empty and NULL.
async fn arrays_and_native_enums_come_back_as_they_were() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Postgres, tier).await;
        world
            .raw("CREATE TYPE mood AS ENUM ('happy', 'so so')")
            .await;
        world.create_table(arrays::Entity).await;
        let full = array_row();
        let empty = arrays::Model {
            id: 2,
            ints: vec![],
            texts: vec![],
            moods: vec![],
            maybe_ints: None,
            maybe_mood: None,
            ..full.clone()
        };
        round_trips!(world, arrays, full);
        round_trips!(world, arrays, empty);
    }
}

/// Inserts a row with a number that is none and reads it, beside plain SeaORM.
macro_rules! keeps_what_is_no_number {
    ($world:ident, $module:ident, $model:expr) => {{
        let model: $module::Model = $model;
        let id = model.id;
        let rows = $module::Repository::new(&$world.db().await);
        let inserted = rows.insert(model.into_active_model()).await.unwrap();
        let plain = $module::Entity::find_by_id(id).one(&$world.conn).await;
        // NaN is not equal to itself.
        let plain = format!("{:?}", plain.unwrap().unwrap());
        assert_eq!(format!("{:?}", *inserted), plain);
        let is_held = $module::Model::DEFINITION.options.codec == Codec::MessagePack;
        let source = if is_held {
            Source::Shared
        } else {
            Source::Database
        };
        for _ in 0..2 {
            let found = rows.find_by_id(id).await.unwrap().unwrap();
            assert_eq!(
                (format!("{:?}", *found), found.source()),
                (plain.clone(), source)
            );
        }
        let stats = rows.stats();
        assert_eq!(
            (stats.encode_errors == 0, stats.misses_corrupt),
            (is_held, 0)
        );
    }};
}

#[tokio::test]
/// Goal: NaN and the infinities, which JSON does not know, come back as they are and never as NULL:
/// MessagePack holds them, and a row with one is not kept in JSON. Of the databases, PostgreSQL has
/// them.
async fn what_is_no_number_is_never_taken_for_null() {
    for tier in [Tier::Redis, Tier::Memory] {
        let world = World::new(Backend::Postgres, tier).await;
        world
            .raw("CREATE TYPE mood AS ENUM ('happy', 'so so')")
            .await;
        world.create_table(arrays::Entity).await;
        world.create_table(everything::Entity).await;
        for (id, none) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
            .into_iter()
            .enumerate()
        {
            let id = 3 * id as i32;
            let model = everything::Model {
                double: none,
                ..full(id)
            };
            keeps_what_is_no_number!(world, everything, model);
            let model = everything::Model {
                maybe_double: Some(none),
                ..full(id + 1)
            };
            keeps_what_is_no_number!(world, everything, model);
            let model = everything::Model {
                float: none as f32,
                ..full(id + 2)
            };
            keeps_what_is_no_number!(world, everything, model);
            let model = arrays::Model {
                id,
                doubles: vec![1.0, none],
                ..array_row()
            };
            keeps_what_is_no_number!(world, arrays, model);
        }
    }
}
