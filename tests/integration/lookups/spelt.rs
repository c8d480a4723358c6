//! Values that are equal although they are written otherwise: a date, a time, a moment, a decimal, a
//! float. What is found by one of them is found by all of them, from the cache; and a write by any of
//! them is seen by all.

use std::sync::{Arc, atomic::Ordering};

use cached_repo_tests::{
    Backend, Tier, World,
    entities::conditions::tenant,
    entities::lookups::{folded_nick, nick, padded},
    entities::spelt::{
        Instant, by_big_decimal, by_boolean, by_bytes, by_date, by_decimal, by_double, by_float,
        by_instant, by_local, by_time, by_time_crate, by_utc, by_uuid, by_zero_double,
        by_zero_float, by_zoned,
    },
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DbBackend, EntityTrait, QueryFilter,
    prelude::{BigDecimal, Decimal, TimeDateTimeWithTimeZone, Uuid},
};

use super::settled;
use crate::transaction_limits::Warnings;

/// Takes rows through two values. `$equal` are spellings of one value, which the database must call
/// equal; `$other` is another value. All is served without SQL after the first read of a value, and
/// always what the database has.
macro_rules! is_cached_in_every_spelling {
    ($world:ident, $module:ident, $equal:expr, $other:expr) => {{
        let (equal, other) = ($equal, $other);
        $world.create_table($module::Entity).await;
        let db = $world.db().await;
        let rows = $module::Repository::new(&db);
        let ids = async |sought: &_| -> Vec<i32> {
            let found = rows.find_all_by_sought(Clone::clone(sought)).await.unwrap();
            let placed = rows
                .find_all_by_place(7, Clone::clone(sought))
                .await
                .unwrap();
            assert_eq!(found, placed, "{sought:?}");
            found.iter().map(|row| row.id).collect()
        };
        let is = async |expected: &[i32], others: &[i32], moment: &str| {
            // One of them fills the cache.
            assert_eq!(ids(&equal[0]).await, expected, "{moment}");
            assert_eq!(ids(&other).await, others, "{moment}");
            settled(&db).await;
            let _ = $world.statements.take();
            // The first read of a row stores it.
            ids(&equal[0]).await;
            ids(&other).await;
            settled(&db).await;
            let _ = $world.statements.take();
            for sought in &equal {
                assert_eq!(ids(sought).await, expected, "{moment}: {sought:?}");
            }
            assert_eq!(ids(&other).await, others, "{moment}");
            let module = stringify!($module);
            assert_eq!($world.statements.verbs(), [""; 0], "{module}, {moment}");
        };
        let row = |id, sought: &_| $module::ActiveModel {
            id: Set(id),
            sought: Set(Clone::clone(sought)),
            shelf: Set(7),
            ..Default::default()
        };
        is(&[], &[], "nothing is there").await;
        for (id, sought) in (1..).zip(&equal) {
            rows.insert(row(id, sought)).await.unwrap();
        }
        let all: Vec<i32> = (1..).take(equal.len()).collect();
        is(&all, &[], "all have it").await;
        // A save that moves the value, a save that leaves it alone, one that brings it back.
        let first = rows.find_by_id(1).await.unwrap().unwrap().into_model();
        let moved = $module::Model {
            sought: Clone::clone(&other),
            ..first
        };
        let moved = rows.save(moved).await.unwrap().into_model();
        is(&all[1..], &[1], "one has left").await;
        let moved = rows.save(moved).await.unwrap().into_model();
        is(&all[1..], &[1], "nothing has changed").await;
        let back = $module::Model {
            sought: Clone::clone(equal.last().unwrap()),
            ..moved
        };
        rows.save(back).await.unwrap();
        is(&all, &[], "it is back").await;
        for id in &all {
            rows.update_with(*id, |row| row.sought = Set(Clone::clone(&other)))
                .await
                .unwrap();
        }
        is(&[], &all, "all have left").await;
        rows.delete_by_id(1).await.unwrap();
        is(&[], &all[1..], "one is deleted").await;
        let uncached = rows.stats().lookups_uncached;
        assert_eq!(uncached, 0, "{}", stringify!($module));
    }};
}

everywhere!(dates_times_and_moments_are_cached);
/// Goal: a moment is one, whatever its offset, but for SQLite, which compares texts.
async fn dates_times_and_moments_are_cached(world: World) {
    let backend = world.backend();
    is_cached_in_every_spelling!(
        world,
        by_date,
        ["2024-02-29".parse().unwrap(), "2024-2-29".parse().unwrap()],
        "2024-03-01".parse().unwrap()
    );
    is_cached_in_every_spelling!(
        world,
        by_time,
        ["09:08:07".parse().unwrap(), "09:08:07.000".parse().unwrap()],
        "09:08:08".parse().unwrap()
    );
    is_cached_in_every_spelling!(
        world,
        by_local,
        [
            "2024-05-01T10:00:00".parse().unwrap(),
            "2024-05-01T10:00:00.0".parse().unwrap()
        ],
        "2024-05-01T10:00:01".parse().unwrap()
    );
    is_cached_in_every_spelling!(
        world,
        by_utc,
        [
            "2024-05-01T10:00:00Z".parse().unwrap(),
            "2024-05-01T12:00:00+02:00".parse().unwrap()
        ],
        "2024-05-01T10:00:00+02:00".parse().unwrap()
    );
    let zoned = |moments: &[&str]| -> Vec<sea_orm::prelude::DateTimeWithTimeZone> {
        moments
            .iter()
            .map(|moment| moment.parse().unwrap())
            .collect()
    };
    let moments = match backend {
        DbBackend::Sqlite => zoned(&["2024-05-01T12:00:00+02:00"; 2]),
        _ => zoned(&[
            "2024-05-01T12:00:00+02:00",
            "2024-05-01T10:00:00Z",
            "2024-05-01T00:30:00-09:30",
        ]),
    };
    let other = zoned(&["2024-05-01T12:00:00+01:00"])[0];
    is_cached_in_every_spelling!(world, by_zoned, moments.clone(), other);
    let instants: Vec<_> = moments.iter().copied().map(Instant).collect();
    is_cached_in_every_spelling!(world, by_instant, instants, Instant(other));
    let time = |moment: &sea_orm::prelude::DateTimeWithTimeZone| {
        let offset = sea_orm::prelude::TimeDateTimeWithTimeZone::UNIX_EPOCH.offset();
        let moment = TimeDateTimeWithTimeZone::from_unix_timestamp(moment.timestamp()).unwrap();
        moment.to_offset(offset)
    };
    is_cached_in_every_spelling!(
        world,
        by_time_crate,
        [time(&moments[0]), time(&moments[0])],
        time(&other)
    );
}

everywhere!(numbers_of_every_kind_are_cached);
/// Goal: a decimal is its number, whatever its scale, and -0 is 0; the floats that a column keeps
/// have a list each.
async fn numbers_of_every_kind_are_cached(world: World) {
    is_cached_in_every_spelling!(
        world,
        by_decimal,
        [
            Decimal::new(15, 1),
            Decimal::new(1_500, 3),
            Decimal::new(150, 2)
        ],
        Decimal::new(15_001, 4)
    );
    is_cached_in_every_spelling!(
        world,
        by_big_decimal,
        ["0.1", "0.1000", "1e-1"].map(|number| number.parse::<BigDecimal>().unwrap()),
        "-0.1".parse().unwrap()
    );
    is_cached_in_every_spelling!(world, by_double, [0.1 + 0.2, 0.300_000_000_000_000_04], 0.3);
    is_cached_in_every_spelling!(world, by_float, [0.1_f32, 0.1_f64 as f32], 0.2);
    is_cached_in_every_spelling!(world, by_zero_double, [0.0, -0.0], 1e-300);
    is_cached_in_every_spelling!(world, by_zero_float, [0.0, -0.0], 1e-30);
}

everywhere!(values_that_are_spelt_in_one_way_are_cached);
/// Goal: a UUID, bytes and a boolean, on every database.
async fn values_that_are_spelt_in_one_way_are_cached(world: World) {
    let uuid = |text: &str| text.parse::<Uuid>().unwrap();
    is_cached_in_every_spelling!(
        world,
        by_uuid,
        [
            uuid("A1A2A3A4-b1b2-c1c2-d1d2-d3d4d5d6d7d8"),
            uuid("a1a2a3a4b1b2c1c2d1d2d3d4d5d6d7d8")
        ],
        uuid("a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d9")
    );
    is_cached_in_every_spelling!(
        world,
        by_bytes,
        [b"ab".to_vec(), b"ab".to_vec()],
        b"AB".to_vec()
    );
    is_cached_in_every_spelling!(world, by_boolean, [true, true], false);
}

everywhere!(a_value_that_the_database_rounds_is_found_where_the_row_is);
/// Goal: a column that keeps fewer digits than it is given: nobody finds a row by what was given, everyone
/// by what the row shows. On every database the list of that is blocked before the commit; on the
/// first such write nothing is known of the column.
async fn a_value_that_the_database_rounds_is_found_where_the_row_is(world: World) {
    let moment = |text: &str| text.parse::<sea_orm::prelude::DateTime>().unwrap();
    let precise = match world.backend() {
        DbBackend::Postgres => "timestamp(3)",
        DbBackend::MySql => "datetime(3)",
        _ => "datetime_text",
    };
    world
        .raw(&format!(
            "CREATE TABLE by_local (id int PRIMARY KEY, sought {precise} NOT NULL, shelf int NOT NULL,
             version bigint NOT NULL)"
        ))
        .await;
    let db = world.db().await;
    let rows = by_local::Repository::new(&db);
    let (given, shown) = (
        moment("2024-05-01T10:00:00.123400"),
        moment("2024-05-01T10:00:00.123"),
    );
    let ids = async |sought| -> Vec<i32> {
        let found = rows.find_all_by_sought(sought).await.unwrap();
        found.iter().map(|row| row.id).collect()
    };
    for id in 1..=3 {
        let before: Vec<i32> = (1..id).collect();
        let now: Vec<i32> = (1..=id).collect();
        let rounds = world.backend() != DbBackend::Sqlite;
        for _ in 0..2 {
            assert_eq!(
                ids(shown).await,
                if rounds { before.clone() } else { vec![] }
            );
            assert_eq!(
                ids(given).await,
                if rounds { vec![] } else { before.clone() }
            );
        }
        let row = by_local::ActiveModel {
            id: Set(id),
            sought: Set(given),
            shelf: Set(7),
            ..Default::default()
        };
        let row = rows.insert(row).await.unwrap();
        assert_eq!(row.sought, if rounds { shown } else { given });
        for _ in 0..2 {
            assert_eq!(ids(shown).await, if rounds { now.clone() } else { vec![] });
            assert_eq!(ids(given).await, if rounds { vec![] } else { now.clone() });
            settled(&db).await;
        }
    }
}

everywhere!(a_column_that_keeps_what_it_is_given_costs_no_transaction);
/// Goal: nobody knows how many digits of a second a column keeps, until it has kept them. From then on a
/// save is one statement, as with any other value.
async fn a_column_that_keeps_what_it_is_given_costs_no_transaction(world: World) {
    let column = match world.backend() {
        DbBackend::MySql => "datetime(6)",
        DbBackend::Postgres => "timestamp",
        _ => "datetime_text",
    };
    world
        .raw(&format!(
            "CREATE TABLE by_local (id int PRIMARY KEY, sought {column} NOT NULL, shelf int NOT NULL,
             version bigint NOT NULL)"
        ))
        .await;
    let db = world.db().await;
    let rows = by_local::Repository::new(&db);
    let sought: sea_orm::prelude::DateTime = "2024-05-01T10:00:00.123456".parse().unwrap();
    let row = by_local::ActiveModel {
        id: Set(1),
        sought: Set(sought),
        shelf: Set(7),
        ..Default::default()
    };
    let mut row = rows.insert(row).await.unwrap().into_model();
    for _ in 0..2 {
        assert_eq!(row.sought, sought);
        for _ in 0..2 {
            assert_eq!(rows.find_all_by_sought(sought).await.unwrap().len(), 1);
            settled(&db).await;
        }
        let _ = world.statements.take();
        assert_eq!(rows.find_all_by_sought(sought).await.unwrap().len(), 1);
        assert_eq!(world.statements.verbs(), [""; 0]);
        row = rows.save(row).await.unwrap().into_model();
        let expected: &[&str] = match world.backend() {
            DbBackend::MySql => &["UPDATE", "SELECT"],
            _ => &["UPDATE"],
        };
        assert_eq!(world.statements.verbs(), expected);
    }
}

everywhere!(a_value_finer_than_the_database_sends_is_right_and_counted);
/// Goal: a nanosecond never reaches a server. Whatever it answers is what is found, and nothing of it is
/// cached; `Stats` says so.
async fn a_value_finer_than_the_database_sends_is_right_and_counted(world: World) {
    world.create_table(by_utc::Entity).await;
    let db = world.db().await;
    let rows = by_utc::Repository::new(&db);
    let fine = "2024-05-01T10:00:00.000000001Z".parse::<sea_orm::prelude::DateTimeUtc>();
    let fine = fine.unwrap();
    for _ in 0..2 {
        assert_eq!(rows.find_all_by_sought(fine).await.unwrap(), []);
        settled(&db).await;
    }
    let is_server = world.backend() != DbBackend::Sqlite;
    assert_eq!(rows.stats().lookups_uncached, if is_server { 2 } else { 0 });
    let row = by_utc::ActiveModel {
        id: Set(1),
        sought: Set(fine),
        shelf: Set(7),
        ..Default::default()
    };
    let shown = rows.insert(row).await.unwrap().sought;
    assert_eq!(rows.find_all_by_sought(shown).await.unwrap().len(), 1);
    // PostgreSQL's driver cuts what it sends, so it finds the row; MySQL's does not.
    let plain = by_utc::Entity::find().filter(by_utc::Column::Sought.eq(fine));
    let plain = plain.all(&world.conn).await.unwrap();
    for _ in 0..2 {
        let found = rows.find_all_by_sought(fine).await.unwrap();
        assert!(found.iter().map(|row| &**row).eq(&plain), "{plain:?}");
        settled(&db).await;
    }
}

/// Goal: a lookup that is never cached is named in a warning when its repository is opened, once; all
/// others are not.
#[tokio::test]
async fn a_lookup_that_is_never_cached_is_named_when_it_is_opened() {
    for backend in [Backend::Postgres, Backend::MariaDb, Backend::Sqlite] {
        let world = World::new(backend, Tier::Memory).await;
        let db = world.db().await;
        let counted = Arc::default();
        let warnings = Warnings(Arc::clone(&counted));
        let _counting = tracing::subscriber::set_default(warnings);
        let count = || counted.load(Ordering::SeqCst);
        let _ = by_zoned::Repository::new(&db);
        let _ = by_decimal::Repository::new(&db);
        let _ = by_float::Repository::new(&db);
        let _ = by_bytes::Repository::new(&db);
        let _ = folded_nick::Repository::new(&db);
        assert_eq!(count(), 0);
        let _ = nick::Repository::new(&db);
        let _ = nick::Repository::new(&db);
        let by_collation = usize::from(backend == Backend::MariaDb);
        assert_eq!(count(), by_collation, "texts by a collation");
        let _ = padded::Repository::new(&db);
        assert_eq!(count(), by_collation + 1, "CHAR(n)");
        let _ = tenant::Repository::new(&db);
        assert_eq!(count(), 3 * by_collation + 1, "a text in a condition");
    }
}
