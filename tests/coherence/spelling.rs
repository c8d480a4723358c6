//! The text of every type of value in a key. Two builds must agree on it: a write in one
//! invalidates the keys that the other reads. If a line here has to change, every deployed cache
//! needs a new namespace.

use cached_repo::internals::{Dialect, KeySpace, is_kept_as_given, spelling_is_exact};
use sea_orm::sea_query::{
    ArrayType, Enum, OptionEnum, Value,
    value::prelude::{
        BigDecimal, DateTime, Decimal, FixedOffset, IpNetwork, Local, MacAddress, NaiveDate,
        NaiveDateTime, NaiveTime, Utc, Uuid,
        chrono::Days,
        serde_json::json,
        time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset},
    },
};

/// What a value is in a key, without the percent-encoding.
fn text(value: impl Into<Value>) -> String {
    text_in(Dialect::Written, value)
}

fn text_in(dialect: Dialect, value: impl Into<Value>) -> String {
    let space = KeySpace::new("shop", "user").in_dialect(dialect);
    let key = space.row(value.into());
    let text = key.as_str().strip_prefix("shop:user:").unwrap();
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn spells(exact: bool, cases: Vec<(Value, &str)>) {
    for (value, expected) in cases {
        assert_eq!(text(value.clone()), expected, "{value:?}");
        assert_eq!(
            spelling_is_exact(&value, Dialect::Written),
            exact,
            "{value:?}"
        );
    }
}

const EXACT: bool = true;
const INEXACT: bool = false;

#[test]
fn booleans_numbers_and_texts() {
    spells(
        EXACT,
        vec![
            (true.into(), "true"),
            (false.into(), "false"),
            (i8::MIN.into(), "-128"),
            (i16::MIN.into(), "-32768"),
            (i32::MIN.into(), "-2147483648"),
            (i64::MIN.into(), "-9223372036854775808"),
            (0_i64.into(), "0"),
            (u8::MAX.into(), "255"),
            (u16::MAX.into(), "65535"),
            (u32::MAX.into(), "4294967295"),
            (u64::MAX.into(), "18446744073709551615"),
            ("".into(), ""),
            ("it's 'ä' \\ 5%\n".into(), "it's 'ä' \\ 5%\n"),
            ("NULL".into(), "NULL"),
            (vec![0_u8, 0x9f, 0xff].into(), "009fff"),
            (Vec::<u8>::new().into(), ""),
        ],
    );
    let hue = Enum {
        type_name: "hue".into(),
        value: "it's red".into(),
    };
    spells(
        INEXACT,
        vec![
            ('a'.into(), "a"),
            ('ä'.into(), "ä"),
            ('\''.into(), "'"),
            (Value::Enum(OptionEnum::Some(hue.into())), "it's red"),
        ],
    );
}

#[test]
fn floats_and_decimals() {
    spells(
        INEXACT,
        vec![
            (0.0_f64.into(), "0"),
            ((-0.0_f64).into(), "0"),
            ((-0.0_f32).into(), "0"),
            (0.1_f32.into(), "0.1"),
            (0.1_f64.into(), "0.1"),
            ((0.1_f64 + 0.2).into(), "0.30000000000000004"),
            ((-1.5e-7_f64).into(), "-0.00000015"),
            (1e21_f64.into(), "1000000000000000000000"),
            (f64::NAN.into(), "NaN"),
            (f32::NAN.into(), "NaN"),
            (f64::INFINITY.into(), "inf"),
            (f64::NEG_INFINITY.into(), "-inf"),
            (Decimal::new(0, 0).into(), "0"),
            (Decimal::new(0, 28).into(), "0"),
            ((-Decimal::new(0, 3)).into(), "0"),
            (Decimal::new(15, 1).into(), "1.5"),
            (Decimal::new(15_000, 4).into(), "1.5"),
            (Decimal::new(-100, 0).into(), "-100"),
            (Decimal::new(1, 28).into(), "0.0000000000000000000000000001"),
            (Decimal::MAX.into(), "79228162514264337593543950335"),
            (big("1.5000"), "1.5"),
            (big("100"), "100"),
            (big("1e2"), "100"),
            (big("-1e2000000000"), "-0.1e2000000001"),
            (big("12e-100"), "0.12e-98"),
        ],
    );
}

fn big(number: &str) -> Value {
    number.parse::<BigDecimal>().unwrap().into()
}

#[test]
fn uuids_and_dates() {
    let date = |text: &str| text.parse::<NaiveDate>().unwrap().into();
    let by_ordinal = |year, day| Date::from_ordinal_date(year, day).unwrap().into();
    spells(
        EXACT,
        vec![
            (Uuid::nil().into(), "00000000-0000-0000-0000-000000000000"),
            (
                Uuid::from_u128(0xA1A2_A3A4_B1B2_C1C2_D1D2_D3D4_D5D6_D7D8).into(),
                "a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8",
            ),
            (date("2024-02-29"), "2024-02-29"),
            (date("0000-01-01"), "0000-01-01"),
            (date("-0001-12-31"), "-0001-12-31"),
            (date("+12345-01-31"), "+12345-01-31"),
            (NaiveDate::MAX.into(), "+262142-12-31"),
            (by_ordinal(2024, 60), "2024-02-29"),
            (by_ordinal(2023, 60), "2023-03-01"),
            (by_ordinal(0, 1), "0000-01-01"),
            (by_ordinal(-1, 365), "-0001-12-31"),
            (by_ordinal(9999, 365), "9999-12-31"),
        ],
    );
}

#[test]
fn times() {
    let chrono = |text: &str| text.parse::<NaiveTime>().unwrap().into();
    let time = |hour, minute, second, nano| {
        let time = Time::from_hms_nano(hour, minute, second, nano);
        time.unwrap().into()
    };
    spells(
        INEXACT,
        vec![
            (chrono("00:00:00"), "00:00:00"),
            (chrono("09:08:07.1"), "09:08:07.1"),
            (chrono("09:08:07.123400"), "09:08:07.1234"),
            (chrono("23:59:59.999999999"), "23:59:59.999999999"),
            // A leap second.
            (chrono("23:59:60"), "23:59:60"),
            (chrono("23:59:60.25"), "23:59:60.25"),
            (time(0, 0, 0, 0), "00:00:00"),
            (time(9, 8, 7, 100_000_000), "09:08:07.1"),
            (time(9, 8, 7, 1), "09:08:07.000000001"),
            (time(23, 59, 59, 999_999_999), "23:59:59.999999999"),
        ],
    );
}

#[test]
fn moments_without_a_time_zone() {
    let chrono = |text: &str| text.parse::<NaiveDateTime>().unwrap().into();
    let time = |year, day, nano| {
        let date = Date::from_ordinal_date(year, day).unwrap();
        let time = Time::from_hms_nano(1, 2, 3, nano).unwrap();
        PrimitiveDateTime::new(date, time).into()
    };
    spells(
        INEXACT,
        vec![
            (chrono("2024-05-01T01:02:03"), "2024-05-01T01:02:03"),
            (
                chrono("2024-05-01T01:02:03.123456001"),
                "2024-05-01T01:02:03.123456001",
            ),
            (chrono("-0044-03-15T01:02:03.5"), "-0044-03-15T01:02:03.5"),
            (chrono("2016-12-31T23:59:60"), "2016-12-31T23:59:60"),
            (time(2024, 122, 0), "2024-05-01T01:02:03"),
            (
                time(2024, 122, 123_456_001),
                "2024-05-01T01:02:03.123456001",
            ),
            (time(-44, 75, 500_000_000), "-0044-03-15T01:02:03.5"),
        ],
    );
}

#[test]
fn moments_with_a_time_zone() {
    let fixed = |text: &str| text.parse::<DateTime<FixedOffset>>().unwrap().into();
    let utc = |text: &str| text.parse::<DateTime<Utc>>().unwrap().into();
    let time = |nano, hours, minutes, seconds| {
        let date = Date::from_ordinal_date(2024, 122).unwrap();
        let time = Time::from_hms_nano(1, 2, 3, nano).unwrap();
        let offset = UtcOffset::from_hms(hours, minutes, seconds).unwrap();
        OffsetDateTime::new_in_offset(date, time, offset).into()
    };
    spells(
        INEXACT,
        vec![
            (utc("2024-05-01T01:02:03Z"), "2024-05-01T01:02:03+00:00"),
            (
                utc("2024-05-01T03:02:03+02:00"),
                "2024-05-01T01:02:03+00:00",
            ),
            (
                utc("2024-05-01T01:02:03.000000001Z"),
                "2024-05-01T01:02:03.000000001+00:00",
            ),
            (fixed("2024-05-01T01:02:03Z"), "2024-05-01T01:02:03+00:00"),
            (
                fixed("2024-05-01T01:02:03.120+02:00"),
                "2024-05-01T01:02:03.12+02:00",
            ),
            (
                fixed("2024-05-01T01:02:03.5-09:30"),
                "2024-05-01T01:02:03.5-09:30",
            ),
            (fixed("-0044-03-15T01:02:03Z"), "-0044-03-15T01:02:03+00:00"),
            (
                fixed("+12345-03-15T01:02:03-00:30"),
                "+12345-03-15T01:02:03-00:30",
            ),
            (time(0, 0, 0, 0), "2024-05-01T01:02:03+00:00"),
            (time(120_000_000, 2, 0, 0), "2024-05-01T01:02:03.12+02:00"),
            (time(500_000_000, -9, -30, 0), "2024-05-01T01:02:03.5-09:30"),
            (time(0, 0, -30, 0), "2024-05-01T01:02:03-00:30"),
            (time(0, 0, 19, 32), "2024-05-01T01:02:03+00:19:32"),
        ],
    );
    // A local moment depends on the machine: it is what the same moment is with that offset.
    let local: DateTime<Local> = "2024-05-01T01:02:03.5Z".parse().unwrap();
    assert_eq!(text(local), text(local.fixed_offset()));
    assert!(!spelling_is_exact(&local.into(), Dialect::Written));
}

/// Goal: an offset that is no whole number of minutes is rounded by chrono, and neither hides which
/// day or second it is.
#[test]
fn offsets_of_chrono_are_whole_minutes() {
    let mean_time = FixedOffset::east_opt(19 * 60 + 32).unwrap();
    let moment = "1937-06-30T23:00:00.25Z".parse::<DateTime<Utc>>().unwrap();
    let moment = moment.with_timezone(&mean_time);
    assert_eq!(text(moment), "1937-06-30T23:19:32.25+00:20");
    let tomorrow = moment + Days::new(1);
    assert_eq!(text(tomorrow), "1937-07-01T23:19:32.25+00:20");
}

#[test]
fn other_types() {
    let network = |text: &str| text.parse::<IpNetwork>().unwrap().into();
    let array = |of, values: Vec<Value>| Value::Array(of, Some(Box::new(values)));
    spells(
        INEXACT,
        vec![
            (
                json!({"a": [1, null, "it's"]}).into(),
                r#"{"a":[1,null,"it's"]}"#,
            ),
            (json!(null).into(), "null"),
            (json!("NULL").into(), "\"NULL\""),
            (network("10.0.0.1/8"), "10.0.0.1/8"),
            (network("2001:DB8::1"), "2001:db8::1/128"),
            (
                MacAddress::new([0xAB, 1, 2, 3, 4, 5]).into(),
                "AB:01:02:03:04:05",
            ),
            (array(ArrayType::Int, vec![]), "{}"),
            (
                array(ArrayType::Int, vec![1_i32.into(), Value::Int(None)]),
                "ARRAY [1,NULL]",
            ),
            (
                array(ArrayType::String, vec!["a'b".into(), "c".into()]),
                r"ARRAY ['a\'b','c']",
            ),
        ],
    );
}

/// Goal: NULL is one text, whatever its type, and no value has it.
#[test]
fn null_is_an_exclamation_mark() {
    let hue = OptionEnum::None("hue".into());
    for null in [
        Value::Bool(None),
        Value::Int(None),
        Value::Double(None),
        Value::String(None),
        Value::Char(None),
        Value::Bytes(None),
        Value::Enum(hue),
        Value::Json(None),
        Value::Uuid(None),
        Value::Decimal(None),
        Value::BigDecimal(None),
        Value::ChronoDate(None),
        Value::ChronoDateTimeLocal(None),
        Value::TimeTime(None),
        Value::TimeDateTimeWithTimeZone(None),
        Value::IpNetwork(None),
        Value::MacAddress(None),
        Value::Array(ArrayType::Int, None),
    ] {
        let key = KeySpace::new("shop", "user").row(null.clone());
        assert_eq!(key.as_str(), "shop:user:!", "{null:?}");
    }
    let text = KeySpace::new("shop", "user").row("!");
    assert_eq!(text.as_str(), "shop:user:%21");
}

const DATABASES: [Dialect; 2] = [Dialect::Server, Dialect::Sqlite];

/// Goal: a moment is one key on a server, whatever its offset and the crate; SQLite, which compares
/// texts, has a key for each offset.
#[test]
fn a_moment_has_a_key_per_offset_only_where_the_database_has() {
    let fixed = |text: &str| -> Value { text.parse::<DateTime<FixedOffset>>().unwrap().into() };
    let utc = "2024-05-01T10:00:00.5Z".parse::<DateTime<Utc>>().unwrap();
    let date = Date::from_ordinal_date(2024, 122).unwrap();
    let clock = Time::from_hms_milli(12, 0, 0, 500).unwrap();
    let offset = UtcOffset::from_hms(2, 0, 0).unwrap();
    let mean_time = FixedOffset::east_opt(19 * 60 + 32).unwrap();
    for moment in [
        utc.into(),
        utc.with_timezone(&Local).into(),
        utc.with_timezone(&mean_time).into(),
        fixed("2024-05-01T12:00:00.5+02:00"),
        fixed("2024-05-01T00:30:00.5-09:30"),
        OffsetDateTime::new_in_offset(date, clock, offset).into(),
    ] {
        let text = text_in(Dialect::Server, moment.clone());
        assert_eq!(text, "2024-05-01T10:00:00.5+00:00", "{moment:?}");
        assert!(spelling_is_exact(&moment, Dialect::Server), "{moment:?}");
        assert!(spelling_is_exact(&moment, Dialect::Sqlite), "{moment:?}");
    }
    let eastern = fixed("2024-05-01T12:00:00.5+02:00");
    let sqlite = text_in(Dialect::Sqlite, eastern);
    assert_eq!(sqlite, "2024-05-01T12:00:00.5+02:00");
}

/// Goal: servers round to microseconds: a finer value is not exact. SQLite keeps the text.
#[test]
fn times_finer_than_a_server_keeps_are_not_exact() {
    let time = |text: &str| -> Value { text.parse::<NaiveTime>().unwrap().into() };
    let moment = |text: &str| -> Value { text.parse::<NaiveDateTime>().unwrap().into() };
    let nano = Time::from_hms_nano(1, 2, 3, 1).unwrap().into();
    let micro = Time::from_hms_nano(1, 2, 3, 1_000).unwrap().into();
    for (value, on_a_server, kept_places) in [
        (time("01:02:03"), true, 0),
        (time("01:02:03.123456"), true, 6),
        (time("01:02:03.1234567"), false, 7),
        (moment("2024-05-01T01:02:03.100000"), true, 1),
        (moment("2024-05-01T01:02:03.000000001"), false, 9),
        (micro, true, 6),
        (nano, false, 9),
    ] {
        assert_eq!(
            spelling_is_exact(&value, Dialect::Server),
            on_a_server,
            "{value:?}"
        );
        assert!(spelling_is_exact(&value, Dialect::Sqlite), "{value:?}");
        for places in 0..=9 {
            let kept = is_kept_as_given(&value, Dialect::Server, places);
            assert_eq!(kept, places >= kept_places, "{value:?}");
            assert!(is_kept_as_given(&value, Dialect::Sqlite, places));
        }
    }
    for leap_second in [time("23:59:60"), moment("2016-12-31T23:59:60.5")] {
        for database in DATABASES {
            assert!(!spelling_is_exact(&leap_second, database));
            assert!(!is_kept_as_given(&leap_second, database, 9));
        }
    }
}

/// Goal: equal decimals have one key. Where SQLite makes floats of them, so have those that are one
/// float, and only those that a float tells apart are exact.
#[test]
fn decimals_are_what_the_database_compares() {
    for database in DATABASES {
        for number in ["1.5", "1.50", "15e-1"] {
            assert_eq!(text_in(database, big(number)), "1.5");
            assert!(spelling_is_exact(&big(number), database));
        }
        assert_eq!(text_in(database, -Decimal::new(0, 3)), "0");
    }
    let (point_one, as_read) = (big("0.1"), BigDecimal::try_from(0.1).unwrap());
    assert_eq!(text_in(Dialect::Sqlite, as_read.clone()), "0.1");
    assert_ne!(text_in(Dialect::Server, as_read), "0.1");
    assert!(spelling_is_exact(&point_one, Dialect::Sqlite));
    for (number, on_a_server, in_sqlite) in [
        ("123456789012.345", true, true),
        ("1234567890123.456", true, false),
        ("-100000000000000", true, true),
        ("1000000000000000", true, false),
        ("0.000000000000001", true, true),
        ("0.0000000000000001", true, false),
        ("1e34", true, false),
        ("1e35", false, false),
        ("1e-30", true, false),
        ("1e-31", false, false),
        ("1e-100", false, false),
    ] {
        let number = big(number);
        assert_eq!(spelling_is_exact(&number, Dialect::Server), on_a_server);
        assert_eq!(spelling_is_exact(&number, Dialect::Sqlite), in_sqlite);
        assert_eq!(is_kept_as_given(&number, Dialect::Sqlite, 0), in_sqlite);
    }
    let price = Decimal::new(12_340, 3).into();
    assert!(!is_kept_as_given(&price, Dialect::Server, 1));
    assert!(is_kept_as_given(&price, Dialect::Server, 2));
}

/// Goal: what else has one key for all that a database calls equal, and what has not.
#[test]
fn what_is_exact_in_a_database() {
    let network: IpNetwork = "10.0.0.1/8".parse().unwrap();
    let array = Value::Array(ArrayType::Int, Some(Box::new(vec![1_i32.into()])));
    for (value, on_a_server, in_sqlite) in [
        (0.1_f32.into(), true, true),
        ((-0.0_f64).into(), true, true),
        (f64::NAN.into(), true, true),
        (network.into(), true, false),
        (MacAddress::new([1; 6]).into(), true, false),
        (json!(1).into(), false, false),
        (array, false, false),
        ('a'.into(), false, false),
    ] {
        assert_eq!(
            spelling_is_exact(&value, Dialect::Server),
            on_a_server,
            "{value:?}"
        );
        assert_eq!(
            spelling_is_exact(&value, Dialect::Sqlite),
            in_sqlite,
            "{value:?}"
        );
    }
    let nan = f64::NAN.into();
    assert!(!is_kept_as_given(&nan, Dialect::Sqlite, 0), "it is NULL");
}
