//! Decoding what Redis gives back: whatever the bytes are, no panic and no wrong row.

use bytes::Bytes;
use cached_repo::internals::{
    Claims, Codec, Column, Content, Entry, Format, Key, KeySpace, Kind, RowDecoder, RowEncoder,
    RowError, Slot, Timestamp, Token, Version, open, seal_absent, seal_row,
};
use proptest::prelude::*;

/// A row as the derive encodes one.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: i64,
    name: String,
    tags: Option<Vec<String>>,
}

impl Row {
    fn encode(&self, row: &mut RowEncoder) -> Result<(), RowError> {
        row.field(&Column::new("id"), &self.id)?;
        row.field(&Column::new("name"), &self.name)?;
        row.field(&Column::new("tags"), &self.tags)
    }

    fn decode(row: &mut RowDecoder<'_>) -> Result<Self, RowError> {
        Ok(Self {
            id: row.field(&Column::new("id"))?,
            name: row.field(&Column::new("name"))?,
            tags: row.field(&Column::new("tags"))?,
        })
    }
}

const SCHEMA: u32 = 0x9f3a_11c2;
const FORMAT: Format = Format {
    schema: SCHEMA,
    codec: Codec::MessagePack,
    compress_above: None,
};

fn key(id: i64) -> Key {
    KeySpace::new("test", "row").row(id)
}

fn entry(row: &Row) -> Entry {
    let version = Version::new(42).unwrap();
    Entry {
        kind: Kind::Value,
        version,
        at: Timestamp::from_millis(1_763_715_123_456),
        span_ms: 600_000,
        load_cost_ms: 12,
        schema: SCHEMA,
        claims: Claims::None,
        payload: seal_row(&key(row.id), version, FORMAT, |out| row.encode(out)).unwrap(),
    }
}

fn row() -> impl Strategy<Value = Row> {
    let tags = proptest::option::of(proptest::collection::vec(".{0,8}", 0..4));
    (any::<i64>(), ".{0,40}", tags).prop_map(|(id, name, tags)| Row { id, name, tags })
}

/// Reads an entry as the pipeline does, down to the row.
fn read(key: &Key, bytes: &Bytes) -> Option<Content<Row>> {
    let entry = Entry::from_bytes(bytes).ok()?;
    open(key, &entry, Row::decode).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: what was written is read back, with its lease or blocks.
    #[test]
    fn an_entry_survives_its_bytes(row in row(), tokens in proptest::collection::vec(any::<u64>(), 0..50), leased: bool) {
        let mut entry = entry(&row);
        let slots: Vec<Slot> = tokens
            .iter()
            .map(|&bits| Slot { token: Token::from_bits(bits), until: Timestamp::from_millis(bits >> 24) })
            .collect();
        entry.claims = match slots.first() {
            None => Claims::None,
            Some(slot) if leased => Claims::Lease(*slot),
            Some(_) => Claims::Writers(slots),
        };
        let bytes = Bytes::from(entry.to_bytes());
        prop_assert_eq!(&Entry::from_bytes(&bytes).unwrap(), &entry);
        prop_assert_eq!(read(&key(row.id), &bytes), Some(Content::Row(row)));
    }

    /// Goal: arbitrary bytes are never a row.
    #[test]
    fn noise_is_a_miss(bytes: Vec<u8>, id: i64) {
        prop_assert_eq!(read(&key(id), &Bytes::from(bytes)), None);
    }

    /// Goal: a header that looks right does not make a row of arbitrary bytes.
    #[test]
    fn noise_behind_a_good_header_is_a_miss(row in row(), noise: Vec<u8>) {
        let mut entry = entry(&row);
        entry.payload = noise.into();
        prop_assert_eq!(read(&key(row.id), &Bytes::from(entry.to_bytes())), None);
    }

    /// Goal: no damage of up to three bytes turns one row into another. Times and load cost are
    /// not sealed: they move with every write and decide only how fresh a row is.
    #[test]
    fn damage_is_a_miss(row in row(), damage in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..=3)) {
        let good = entry(&row).to_bytes();
        let mut bytes = good.clone();
        for (at, flip) in damage {
            bytes[at.index(good.len())] ^= flip;
        }
        let seen = read(&key(row.id), &Bytes::from(bytes));
        prop_assert!(seen.is_none() || seen == Some(Content::Row(row)));
    }

    /// Goal: a truncated entry is a miss at every length.
    #[test]
    fn a_truncated_entry_is_a_miss(row in row(), at: prop::sample::Index) {
        let bytes = entry(&row).to_bytes();
        let cut = Bytes::from(bytes).split_to(at.index(entry(&row).to_bytes().len()));
        prop_assert_eq!(read(&key(row.id), &cut), None);
    }

    /// Goal: an entry that was copied under another key is not that key's row.
    #[test]
    fn a_row_under_another_key_is_a_miss(row in row(), other: i64) {
        prop_assume!(other != row.id);
        prop_assert_eq!(read(&key(other), &Bytes::from(entry(&row).to_bytes())), None);
    }

    /// Goal: a payload does not pass under another version or another shape of the struct.
    #[test]
    fn a_row_under_another_header_is_a_miss(row in row(), version in 0..100u64, schema: u32) {
        prop_assume!(version != 42 || schema != SCHEMA);
        let mut entry = entry(&row);
        entry.version = Version::new(version).unwrap();
        entry.schema = schema;
        prop_assert_eq!(read(&key(row.id), &Bytes::from(entry.to_bytes())), None);
    }
}

/// Goal: a row does not become an absence, nor an absence a row, by its kind alone.
#[test]
fn a_flipped_kind_is_a_miss() {
    let row = Row {
        id: 1,
        name: "Ada".into(),
        tags: None,
    };
    let mut flipped = entry(&row);
    flipped.kind = Kind::Absent;
    assert_eq!(read(&key(1), &flipped.to_bytes().into()), None);

    let absent = Entry {
        kind: Kind::Absent,
        payload: seal_absent(&key(1)),
        ..entry(&row)
    };
    assert_eq!(
        read(&key(1), &absent.to_bytes().into()),
        Some(Content::Absent)
    );
    assert_eq!(read(&key(2), &absent.to_bytes().into()), None);
    let flipped = Entry {
        kind: Kind::Value,
        ..absent
    };
    assert_eq!(read(&key(1), &flipped.to_bytes().into()), None);
}

/// Goal: another build reads what this one writes: the layout changes only with the format byte.
#[test]
fn an_entry_has_the_layout_of_format_1() {
    let slot = |bits, until| Slot {
        token: Token::from_bits(bits),
        until: Timestamp::from_millis(until),
    };
    let row = Entry {
        kind: Kind::Value,
        version: Version::new(42).unwrap(),
        at: Timestamp::from_millis(1_763_715_123_456),
        span_ms: 600_000,
        load_cost_ms: 12,
        schema: SCHEMA,
        claims: Claims::Lease(slot(0, 1_763_715_126_456)),
        payload: Bytes::from_static(b"the row"),
    };
    let absent = Entry {
        kind: Kind::Absent,
        load_cost_ms: u32::MAX,
        claims: Claims::None,
        payload: Bytes::new(),
        ..row.clone()
    };
    let tombstone = Entry {
        kind: Kind::Tombstone,
        load_cost_ms: 0,
        schema: 0,
        claims: Claims::Writers(vec![slot(1, 7), slot(64, 8)]),
        payload: Bytes::new(),
        ..row.clone()
    };
    for (entry, text) in [
        (
            row,
            "1V00000000000000000421763715123456000060000000129f3a11c2L1AAAAAAAAAAA1763715126456the row",
        ),
        (
            absent,
            "1A00000000000000000421763715123456000060000099999f3a11c200",
        ),
        (
            tombstone,
            "1T0000000000000000042176371512345600006000000000000000000\
             2BAAAAAAAAAA0000000000007ABAAAAAAAAA0000000000008",
        ),
    ] {
        assert_eq!(entry.to_bytes().escape_ascii().to_string(), text);
    }
}

/// Goal: the promise of at most 64 bytes beside the encoded row.
#[test]
fn an_entry_adds_at_most_64_bytes_to_its_row() {
    let row = Row {
        id: 1,
        name: "Ada".into(),
        tags: None,
    };
    let version = Version::new(42).unwrap();
    let no_columns = seal_row(&key(1), version, FORMAT, |_| Ok(())).unwrap();
    let overhead = Entry {
        payload: no_columns,
        ..entry(&row)
    }
    .to_bytes()
    .len();
    assert!(overhead <= 64, "{overhead} bytes");
}
