//! What generated code may call. No semver promise: only `cached-repo-derive` of the same
//! version uses it.

pub use sea_orm::{self, Value};
pub use serde;

pub use crate::entity::{
    CachedEntity, CachedField, ColumnOf, Definition, EntityOptions, Id, LookupColumn, LookupDef,
    LookupKind, VersionField, Versioned,
};
pub use crate::near::{NearCapacity, NearKey, NearOptions};
pub use crate::protocol::{Column, RowDecoder, RowEncoder, RowError, Version};
pub use crate::repository::lookups::{find_all, find_each, find_one};
pub use crate::{Cached, CachedDb, OnCacheFailure, ReadError, Repository};

/// The schema fingerprint: FNV-1a over the ordered `name:type` texts, folded to 32 bits.
pub const fn fingerprint(columns: &[&str]) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    let mut column = 0;
    while column < columns.len() {
        let bytes = columns[column].as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(PRIME);
            at += 1;
        }
        // A separator that no column text contains, so that moving a boundary changes the hash.
        hash = (hash ^ 0xff).wrapping_mul(PRIME);
        column += 1;
    }
    (hash ^ (hash >> 32)) as u32
}

/// The version of a row; a type that cannot be one fails to compile, on the field's type.
pub fn to_version<T: VersionField>(version: T) -> Option<Version> {
    version.to_version()
}
