//! Whatever bytes are behind a right seal, compressed or not: no panic, and a row that decodes is
//! the same row after it has been encoded and decoded again.
//!
//! `cargo fuzz run row`
#![no_main]

use cached_repo::{
    Codec,
    internals::{
        Claims, Column, Content, Entry, Format, Key, KeySpace, Kind, RowDecoder, RowError,
        Timestamp, Version, open, seal_anything, seal_row,
    },
};
use libfuzzer_sys::fuzz_target;

type Row = (i64, Option<String>, Vec<f64>, Option<serde_json::Value>);
type Columns = (
    Column<i64>,
    Column<Option<String>>,
    Column<Vec<f64>>,
    Column<Option<serde_json::Value>>,
);

fn columns(codec: Codec) -> Columns {
    match codec {
        Codec::Json => (
            Column::json("id"),
            Column::json("name"),
            Column::json("tags"),
            Column::json("extra"),
        ),
        _ => (
            Column::new("id"),
            Column::new("name"),
            Column::new("tags"),
            Column::new("extra"),
        ),
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let key = KeySpace::new("fuzz", "row").row(1i64);
    for codec in [Codec::MessagePack, Codec::Json] {
        let tag = b"mjMJ"[usize::from(choice % 4)];
        let Some(payload) = seal_anything(&key, Version::ZERO, 0, tag, bytes) else {
            unreachable!("a tag that is known");
        };
        let Some(row) = read(&key, codec, payload) else {
            continue;
        };
        let format = Format {
            schema: 0,
            codec,
            compress_above: Some(16),
        };
        let (id, name, tags, extra) = columns(codec);
        let again = seal_row(&key, Version::ZERO, format, |out| {
            out.field(&id, &row.0)?;
            out.field(&name, &row.1)?;
            out.field(&tags, &row.2)?;
            out.field(&extra, &row.3)
        });
        let again = again.expect("what was decoded can be encoded");
        let again = read(&key, codec, again).expect("what was encoded can be decoded");
        // By its text: NaN is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{row:?}"));
    }
});

fn read(key: &Key, codec: Codec, payload: bytes::Bytes) -> Option<Row> {
    let entry = Entry {
        kind: Kind::Value,
        version: Version::ZERO,
        at: Timestamp::from_millis(0),
        span_ms: 0,
        load_cost_ms: 0,
        schema: 0,
        claims: Claims::None,
        payload,
    };
    let (id, name, tags, extra) = columns(codec);
    let decode = |row: &mut RowDecoder<'_>| -> Result<Row, RowError> {
        Ok((
            row.field(&id)?,
            row.field(&name)?,
            row.field(&tags)?,
            row.field(&extra)?,
        ))
    };
    match open(key, &entry, decode) {
        Ok(Content::Row(row)) => Some(row),
        Ok(Content::Absent) | Err(_) => None,
    }
}
