//! What the derive writes compiles wherever a model may stand, without a warning, and says what
//! the model says: `ui/pass/`, one file per situation. What it must refuse is in `ui.rs`; the
//! text of an expansion is in `cached-repo-derive/tests/expansion/`.

#![allow(
    unreachable_pub,
    reason = "a situation is written as the module of a program would be"
)]

use std::{collections::HashSet, fs};

use cached_repo::{
    __private::fingerprint,
    CachedEntity,
    internals::{Claims, Content, Entry, KeySpace, Kind, Timestamp, open, seal_row},
};

#[path = "ui/pass/bare.rs"]
mod bare;
#[path = "ui/pass/codec_and_ignored_field.rs"]
mod codec_and_ignored_field;
#[path = "ui/pass/column_types.rs"]
mod column_types;
#[path = "ui/pass/composite_key.rs"]
mod composite_key;
#[path = "ui/pass/dense.rs"]
mod dense;
#[path = "ui/pass/expanded.rs"]
mod expanded;
#[path = "ui/pass/hostile_names.rs"]
mod hostile_names;
#[path = "ui/pass/keys.rs"]
mod keys;
#[expect(
    clippy::duplicated_attributes,
    reason = "two lookups may have the same column"
)]
#[path = "ui/pass/lookups.rs"]
mod lookups;
#[path = "ui/pass/macro_made.rs"]
mod macro_made;
#[path = "ui/pass/narrow_visibility.rs"]
mod narrow_visibility;
#[path = "ui/pass/options.rs"]
mod options;
#[path = "ui/pass/raw_identifiers.rs"]
mod raw_identifiers;
#[path = "ui/pass/reexport.rs"]
mod reexport;
#[path = "ui/pass/renamed_columns.rs"]
mod renamed_columns;

/// What the cache gives back for a row it was given.
fn through_the_cache<M: CachedEntity>(row: &M) -> M {
    let key = KeySpace::new("test", "row").row(1_i64);
    let version = row.version().unwrap_or_default();
    let definition = M::DEFINITION;
    let payload = seal_row(&key, version, definition.format(), |out| row.encode(out))
        .expect("the row encodes");
    let entry = Entry {
        kind: Kind::Value,
        version,
        at: Timestamp::from_millis(0),
        span_ms: 0,
        load_cost_ms: 0,
        schema: definition.schema,
        claims: Claims::None,
        payload,
    };
    match open(&key, &entry, M::decode).expect("the entry opens") {
        Content::Row(row) => row,
        Content::Absent => panic!("the entry holds a row"),
    }
}

/// Goal: a situation that is not compiled proves nothing.
#[test]
fn every_situation_is_compiled() {
    let compiled = include_str!("expansion.rs");
    for situation in fs::read_dir("ui/pass").expect("the situations are in tests/ui/pass") {
        let path = situation.expect("tests/ui/pass can be read").path();
        let name = path
            .file_name()
            .expect("a file has a name")
            .to_string_lossy();
        assert!(
            compiled.contains(&format!("\"ui/pass/{name}\"")),
            "add `ui/pass/{name}` to the list in `expansion.rs`"
        );
    }
}

/// Goal: whatever changes the bytes of a row changes the fingerprint of its shape.
#[test]
fn the_fingerprint_depends_on_every_column_and_on_their_order() {
    let shapes = [
        "id:i64\nname:String",
        "name:String\nid:i64",
        "id:i32\nname:String",
        "id:i64\ntitle:String",
        "id:i64name:String",
        "id:i64",
    ];
    let distinct: HashSet<u32> = shapes.into_iter().map(fingerprint).collect();
    assert_eq!(distinct.len(), shapes.len());
}
