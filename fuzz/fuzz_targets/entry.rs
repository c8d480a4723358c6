//! Whatever bytes Redis holds: no panic, and what decodes encodes to the same bytes again.
//!
//! `cargo fuzz run entry`
#![no_main]

use bytes::Bytes;
use cached_repo::internals::{Column, Entry, KeySpace, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(entry) = Entry::from_bytes(&bytes) else {
        return;
    };
    // Two spellings differ: the case of the schema's hex digits, which we write in lower case.
    assert!(entry.to_bytes().eq_ignore_ascii_case(&bytes));
    let key = KeySpace::new("fuzz", "row").row(1i64);
    let _ = open(&key, &entry, |row| {
        let id: i64 = row.field(&Column::new("id"))?;
        let name: Option<String> = row.field(&Column::new("name"))?;
        let tags: Vec<f64> = row.field(&Column::new("tags"))?;
        Ok((id, name, tags))
    });
});
