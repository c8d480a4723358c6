//! The codecs, value by value: what is stored comes back to the bit, or is not stored; what is
//! behind a seal is checked all the same.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use bytes::Bytes;
use cached_repo::internals::{
    Claims, Codec, Column, Content, Entry, Format, Key, KeySpace, Kind, RowError, SealError,
    Timestamp, Version, holds, open, seal_anything, seal_row,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const SCHEMA: u32 = 7;
const VERSION: Version = Version::ZERO;

fn key() -> Key {
    KeySpace::new("test", "row").row(1_i64)
}

const fn format(codec: Codec, compress_above: Option<usize>) -> Format {
    Format {
        schema: SCHEMA,
        codec,
        compress_above,
    }
}

const fn column<T: Serialize + DeserializeOwned>(codec: Codec, name: &'static str) -> Column<T> {
    match codec {
        Codec::MessagePack => Column::new(name),
        _ => Column::json(name),
    }
}

fn entry(payload: Bytes) -> Entry {
    Entry {
        kind: Kind::Value,
        version: VERSION,
        at: Timestamp::from_millis(0),
        span_ms: 0,
        load_cost_ms: 0,
        schema: SCHEMA,
        claims: Claims::None,
        payload,
    }
}

/// Seals a row of three columns, the value's in the middle.
fn seal<T: Serialize + DeserializeOwned>(format: Format, value: &T) -> Result<Bytes, RowError> {
    let codec = format.codec;
    seal_row(&key(), VERSION, format, |row| {
        row.field(&column(codec, "id"), &1_i64)?;
        row.field(&column(codec, "a \"value\" \\ (some)"), value)?;
        row.field(&column(codec, "last"), &None::<bool>)
    })
}

fn unseal<T: Serialize + DeserializeOwned>(codec: Codec, payload: Bytes) -> Result<T, SealError> {
    let row = open(&key(), &entry(payload), |row| {
        let _: i64 = row.field(&column(codec, "id"))?;
        let value = row.field(&column(codec, "a \"value\" \\ (some)"))?;
        let _: Option<bool> = row.field(&column(codec, "last"))?;
        Ok(value)
    })?;
    match row {
        Content::Row(value) => Ok(value),
        Content::Absent => panic!("a row was sealed"),
    }
}

/// What comes back of a value; `None` if it is not stored.
fn through<T: Serialize + DeserializeOwned>(codec: Codec, value: &T) -> Option<T> {
    let payload = seal(format(codec, None), value).ok()?;
    Some(unseal(codec, payload).unwrap())
}

/// The positions of a number in a column's value, also those that serde reads without knowing their
/// type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Places<N> {
    optional: Option<N>,
    list: Vec<Option<N>>,
    map: BTreeMap<String, N>,
    pair: (N, bool),
    named: Shape<N>,
    tagged: Tagged<N>,
    untagged: Untagged<N>,
    #[serde(flatten)]
    flat: Flat<N>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape<N> {
    Unit,
    New(N),
    Pair(N, N),
    Struct { number: Option<N> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged<N> {
    Has { number: N },
    HasNot,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<N> {
    List(Vec<N>),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat<N> {
    deep: Option<N>,
    deeper: Vec<Option<N>>,
}

/// The number in one place, and another everywhere else.
fn in_each_place<N: Copy>(number: N, other: N) -> Vec<Places<N>> {
    let nowhere = Places {
        optional: None,
        list: vec![None, Some(other)],
        map: BTreeMap::from([("a".to_owned(), other)]),
        pair: (other, true),
        named: Shape::Unit,
        tagged: Tagged::HasNot,
        untagged: Untagged::Text(String::new()),
        flat: Flat {
            deep: None,
            deeper: vec![None],
        },
    };
    let changes: [fn(&mut Places<N>, N); 11] = [
        |places, number| places.optional = Some(number),
        |places, number| places.list.push(Some(number)),
        |places, number| places.map = BTreeMap::from([("b".to_owned(), number)]),
        |places, number| places.pair.0 = number,
        |places, number| places.named = Shape::New(number),
        |places, number| places.named = Shape::Pair(number, number),
        |places, number| {
            places.named = Shape::Struct {
                number: Some(number),
            }
        },
        |places, number| places.tagged = Tagged::Has { number },
        |places, number| places.untagged = Untagged::List(vec![number]),
        |places, number| places.flat.deep = Some(number),
        |places, number| places.flat.deeper.push(Some(number)),
    ];
    changes
        .into_iter()
        .map(|change| {
            let mut places = nowhere.clone();
            change(&mut places, number);
            places
        })
        .collect()
}

/// Checks that each codec returns the value, compared by its text, or refuses it, as it should.
#[track_caller]
fn is_exact<T: Serialize + DeserializeOwned + Debug>(value: &T, json_holds_it: bool) {
    let text = format!("{value:?}");
    let back = through(Codec::MessagePack, value).map(|back| format!("{back:?}"));
    assert_eq!(back.as_ref(), Some(&text));
    let back = through(Codec::Json, value).map(|back| format!("{back:?}"));
    assert_eq!(back, json_holds_it.then_some(text));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: a float comes back to the bit wherever it stands, or its row is not stored.
    #[test]
    fn floats_come_back_to_the_bit(bits: u64, small: u32) {
        let (double, float) = (f64::from_bits(bits), f32::from_bits(small));
        for (codec, holds_all) in [(Codec::MessagePack, true), (Codec::Json, false)] {
            let back = through(codec, &double).map(f64::to_bits);
            prop_assert_eq!(back, (holds_all || double.is_finite()).then_some(bits));
            let back = through(codec, &float).map(f32::to_bits);
            prop_assert_eq!(back, (holds_all || float.is_finite()).then_some(small));
        }
        for places in in_each_place(double, 0.5) {
            prop_assert_eq!(through(Codec::Json, &places), double.is_finite().then_some(places));
        }
        for places in in_each_place(float, 0.5) {
            prop_assert_eq!(through(Codec::Json, &places), float.is_finite().then_some(places));
        }
    }

    /// Goal: any JSON value comes back as it was, in a column of its own and inside another.
    #[test]
    fn json_values_come_back_as_they_were(value in json_value()) {
        for codec in [Codec::MessagePack, Codec::Json] {
            prop_assert_eq!(through(codec, &value), Some(value.clone()));
            let maybe = Some(value.clone());
            prop_assert_eq!(through(codec, &maybe), Some(maybe));
            let flat = HashMap::from([("key", value.clone())]);
            let flat = serde_json::to_value(flat).unwrap();
            prop_assert_eq!(through(codec, &flat), Some(flat));
        }
    }

    /// Goal: what is compressed comes back, and is never longer than what is not.
    #[test]
    fn compressed_rows_come_back_as_they_were(text in ".{0,60}", times in 0..40usize, above in 0..2000usize) {
        let value = text.repeat(times);
        for codec in [Codec::MessagePack, Codec::Json] {
            let plain = seal(format(codec, None), &value).unwrap();
            let payload = seal(format(codec, Some(above)), &value).unwrap();
            let is_compressed = payload[0].is_ascii_uppercase();
            prop_assert!(payload.len() < plain.len() || payload == plain);
            prop_assert!(!is_compressed || plain.len() - 5 > above);
            prop_assert_eq!(unseal::<String>(codec, payload.clone()).unwrap(), value.clone());
            prop_assert!(holds(&key(), &entry(payload.clone()), &plain));
            prop_assert!(holds(&key(), &entry(plain), &payload));
        }
    }

    /// Goal: whatever is behind a right seal, it is decoded or an error, and no panic.
    #[test]
    fn noise_behind_a_seal_does_no_harm(noise: Vec<u8>, cut: prop::sample::Index, flip: u8) {
        let mut damaged = seal(format(Codec::Json, Some(0)), &"ab".repeat(99)).unwrap().to_vec();
        damaged.drain(..5);
        let at = cut.index(damaged.len());
        damaged[at] ^= flip;
        for bytes in [&noise[..], &damaged[..], &damaged[..at]] {
            for tag in *b"mjMJ" {
                let payload = seal_anything(&key(), VERSION, SCHEMA, tag, bytes).unwrap();
                for codec in [Codec::MessagePack, Codec::Json] {
                    let _ = unseal::<String>(codec, payload.clone());
                }
            }
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let object = prop::collection::btree_map(".{0,4}", inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Goal: JSON has no NaN and no infinities, and `serde_json` would write `null`: wherever one
/// stands, its row is not stored, and MessagePack keeps it.
#[test]
fn what_is_no_number_is_never_stored_as_null() {
    for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        is_exact(&none, false);
        is_exact(&Some(none), false);
        for places in in_each_place(none, 0.5) {
            is_exact(&places, false);
        }
        for places in in_each_place(none as f32, 0.5) {
            is_exact(&places, false);
        }
    }
    for places in in_each_place(-0.0, f64::MIN_POSITIVE) {
        is_exact(&places, true);
    }
    // The one float that is another after it was read as a double.
    for places in in_each_place(7.038_531e-26_f32, -7.038_531e-26) {
        is_exact(&places, true);
    }
}

/// Goal: integers are exact to their ends; beyond 64 bits JSON would make floats of them where
/// their type is not known, so their rows are not stored.
#[test]
fn integers_are_exact_or_not_stored() {
    for places in in_each_place(u64::MAX, 0) {
        is_exact(&places, true);
    }
    for places in in_each_place(i64::MIN, i64::MAX) {
        is_exact(&places, true);
    }
    for (number, json_holds_it) in [
        (i128::from(i64::MIN), true),
        (i128::from(u64::MAX), true),
        (i128::from(i64::MIN) - 1, false),
        (i128::from(u64::MAX) + 1, false),
        (i128::MIN, false),
    ] {
        is_exact(&number, json_holds_it);
    }
    is_exact(&u128::from(u64::MAX), true);
    is_exact(&u128::MAX, false);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Whole(u128),
        Float(f64),
    }
    assert_eq!(through(Codec::Json, &Number::Whole(u128::MAX)), None);
    is_exact(&Number::Float(1.0), true);
}

/// Goal: SQL NULL, the JSON value `null` and values that look like either stay different.
#[test]
fn some_of_a_null_is_not_none() {
    for value in [
        None,
        Some(Value::Null),
        Some(json!([null])),
        Some(json!("null")),
        Some(json!({ "a": null })),
    ] {
        is_exact(&value, true);
    }
    is_exact(&Value::Null, true);
    is_exact(&(), true);
    for value in [None, Some(None), Some(Some(1))] {
        is_exact(&value, true);
    }
}

/// Goal: map keys that are texts or numbers come back; JSON cannot represent others.
#[test]
fn maps_with_keys_that_json_does_not_have_are_not_stored() {
    is_exact(&BTreeMap::from([(i64::MIN, 1), (7, 2)]), true);
    is_exact(&BTreeMap::from([('"', 1)]), true);
    is_exact(&BTreeMap::from([(true, 1)]), true);
    is_exact(&BTreeMap::from([((1, 2), 1)]), false);
    is_exact(&BTreeMap::from([(vec![1_u8], 1)]), false);
    is_exact(&BTreeMap::from([(Some(1), 1)]), true);
}

/// Goal: a JSON row that is not, to the name, what we write is no row: nothing is skipped, taken
/// twice or guessed.
#[test]
fn json_of_any_other_form_is_an_error() {
    let read = |text: &str| {
        let payload = seal_anything(&key(), VERSION, SCHEMA, b'j', text.as_bytes()).unwrap();
        let row = open(&key(), &entry(payload), |row| {
            let id = row.field(&Column::<i64>::json("id"))?;
            Ok((id, row.field(&Column::<Option<Value>>::json("v"))?))
        });
        match row {
            Ok(Content::Row(row)) => Some(row),
            _ => None,
        }
    };
    assert_eq!(read(r#"{"id":1,"v":[2]}"#), Some((1, Some(json!([2])))));
    assert_eq!(read(r#"{"id":1,"v":null}"#), Some((1, None)));
    assert_eq!(
        read(r#"{"id":1,"v (some)":null}"#),
        Some((1, Some(Value::Null)))
    );
    for text in [
        "",
        "{",
        "{}",
        "null",
        r#"[1,[2]]"#,
        r#""id":1,"v":2}"#,
        r#"{"id":1}"#,
        r#"{"id":1,"v":2"#,
        r#"{"id":1,"v":}"#,
        r#"{"id":1,"v":2}}"#,
        r#"{"id":1,"v":2}{"id":1,"v":2}"#,
        r#"{"id":1,"v":2} "#,
        r#"{"id":1,"v":2,}"#,
        r#"{"id":1,"v":2,"w":3}"#,
        r#"{"id":1,"id":1,"v":2}"#,
        r#"{"id":1,"v":2,"v":2}"#,
        r#"{"v":2,"id":1}"#,
        r#"{"ID":1,"v":2}"#,
        r#"{"id":1 2,"v":2}"#,
        r#"{"id":"1","v":2}"#,
        r#"{"id":1.0,"v":2}"#,
        r#"{"id (some)":1,"v":2}"#,
        r#"{"id":1,"v (some)":2}"#,
        r#"{"id":1,"v":2 3}"#,
        r#"{"id":1,"v":NaN}"#,
        "{\"id\":1,\"v\":\"\u{1}\"}",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

/// Goal: a row of one codec is not read by columns of the other, nor written into it.
#[test]
fn codecs_do_not_mix() {
    for (of_row, of_column) in [
        (Codec::MessagePack, Codec::Json),
        (Codec::Json, Codec::MessagePack),
    ] {
        let payload = seal(format(of_row, None), &1_i64).unwrap();
        assert!(unseal::<i64>(of_column, payload).is_err());
        let mixed = seal_row(&key(), VERSION, format(of_row, None), |row| {
            row.field(&column(of_column, "id"), &1_i64)
        });
        assert!(mixed.is_err());
    }
}
