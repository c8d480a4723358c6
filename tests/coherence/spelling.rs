//! The spelling of every type of value in a key. Two builds, and two releases, must spell a value
//! alike: an invalidation by one would miss the entries of the other otherwise. So a change here is
//! a change of the wire format.

use cached_repo::internals::{KeySpace, spelling_is_exact};
use sea_orm::{
    Value,
    prelude::{
        ChronoDate, ChronoDateTime, ChronoDateTimeUtc, ChronoDateTimeWithTimeZone, ChronoTime,
        Decimal, Json, TimeDate, TimeDateTime, TimeTime, Uuid,
    },
};

fn text(value: Value) -> String {
    let key = KeySpace::new("n", "e").row(value);
    key.as_str()
        .strip_prefix("n:e:")
        .expect("the space")
        .to_owned()
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug> + Into<Value>>(text: &str) -> Value {
    text.parse::<T>().expect("a value of the type").into()
}

/// Goal: the spelling of every type is the one that is written down here.
#[test]
fn every_type_has_the_spelling_that_is_written_down() {
    let date = TimeDate::from_ordinal_date(2024, 122).unwrap();
    let time = TimeTime::from_hms_nano(10, 0, 0, 120_000_000).unwrap();
    let golden: Vec<(Value, &str)> = vec![
        (true.into(), "true"),
        (false.into(), "false"),
        ((-128i8).into(), "-128"),
        (i16::MIN.into(), "-32768"),
        (7i32.into(), "7"),
        (i64::MIN.into(), "-9223372036854775808"),
        (255u8.into(), "255"),
        (65_535u16.into(), "65535"),
        (u32::MAX.into(), "4294967295"),
        (u64::MAX.into(), "18446744073709551615"),
        (1.5f32.into(), "1.5"),
        (0.1f64.into(), "0.1"),
        ((-0.0f64).into(), "0"),
        (1e21f64.into(), "1000000000000000000000"),
        (f64::NAN.into(), "NaN"),
        (f64::NEG_INFINITY.into(), "-inf"),
        ("a b:c".into(), "a%20b%3Ac"),
        ("".into(), ""),
        ('ä'.into(), "%C3%A4"),
        (vec![0u8, 255, 16].into(), "00ff10"),
        (Uuid::nil().into(), "00000000-0000-0000-0000-000000000000"),
        (
            parsed::<Uuid>("67E55044-10B1-426F-9247-BB680E5FE0C8"),
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
        ),
        (parsed::<Decimal>("1.50"), "1.5"),
        (parsed::<Decimal>("-0.000"), "0"),
        (parsed::<Decimal>("1000"), "1000"),
        (
            parsed::<Decimal>("79228162514264337593543950335"),
            "79228162514264337593543950335",
        ),
        (parsed::<ChronoDate>("2024-05-01"), "2024-05-01"),
        (parsed::<ChronoDate>("-0001-01-01"), "-0001-01-01"),
        (parsed::<ChronoDate>("+12345-12-31"), "%2B12345-12-31"),
        (parsed::<ChronoTime>("10:00:00"), "10%3A00%3A00"),
        (parsed::<ChronoTime>("10:00:00.120"), "10%3A00%3A00.12"),
        (parsed::<ChronoTime>("23:59:60"), "23%3A59%3A60"),
        (
            parsed::<ChronoDateTime>("2024-05-01T10:00:00.000000001"),
            "2024-05-01T10%3A00%3A00.000000001",
        ),
        (
            parsed::<ChronoDateTimeUtc>("2024-05-01T10:00:00Z"),
            "2024-05-01T10%3A00%3A00%2B00%3A00",
        ),
        (
            parsed::<ChronoDateTimeWithTimeZone>("2024-05-01T12:00:00.5+02:00"),
            "2024-05-01T12%3A00%3A00.5%2B02%3A00",
        ),
        (date.into(), "2024-05-01"),
        (time.into(), "10%3A00%3A00.12"),
        (
            TimeDateTime::new(date, time).into(),
            "2024-05-01T10%3A00%3A00.12",
        ),
        (
            TimeDateTime::new(date, time).assume_utc().into(),
            "2024-05-01T10%3A00%3A00.12%2B00%3A00",
        ),
        (
            serde_json::from_str::<Json>(r#"{"b": 1, "a": [true, null]}"#)
                .unwrap()
                .into(),
            "%7B%22a%22%3A%5Btrue%2Cnull%5D%2C%22b%22%3A1%7D",
        ),
        (vec![1i32, 2].into(), "ARRAY%20%5B1%2C2%5D"),
    ];
    for (value, expected) in golden {
        let shown = format!("{value:?}");
        assert_eq!(text(value), expected, "{shown}");
    }
}

/// Goal: NULL of every type is one spelling, which no value has.
#[test]
fn null_is_spelt_alike_in_every_type() {
    let nulls = [
        Value::Int(None),
        Value::Double(None),
        Value::String(None),
        Value::Char(None),
        Value::Bytes(None),
        Value::Uuid(None),
        Value::Decimal(None),
        Value::Json(None),
        Value::ChronoDate(None),
        Value::ChronoDateTimeUtc(None),
        Value::TimeDateTimeWithTimeZone(None),
    ];
    for null in nulls {
        assert_eq!(text(null.clone()), "!", "{null:?}");
    }
    assert_ne!(text("!".into()), "!");
}

/// Goal: only a type of which a database calls no two spellings equal has exact ones.
#[test]
fn only_types_with_one_spelling_are_exact() {
    let exact: [Value; 7] = [
        true.into(),
        7i64.into(),
        u64::MAX.into(),
        "text".into(),
        vec![1u8].into(),
        Uuid::nil().into(),
        parsed::<ChronoDate>("2024-05-01"),
    ];
    let others: [Value; 6] = [
        1.5f64.into(),
        'c'.into(),
        parsed::<Decimal>("1.5"),
        parsed::<ChronoTime>("10:00:00"),
        parsed::<ChronoDateTimeUtc>("2024-05-01T10:00:00Z"),
        Json::Null.into(),
    ];
    assert!(exact.iter().all(spelling_is_exact));
    assert!(!others.iter().any(spelling_is_exact));
}
