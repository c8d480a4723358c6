//! What generated code may call. No semver promise: only `cached-repo-derive` of the same
//! version uses it.

pub use sea_orm::{self, Value};
pub use serde;

pub use crate::entity::{
    CachedEntity, ColumnOf, Definition, EntityOptions, Id, LookupColumn, LookupDef, LookupKind,
    VersionField, Versioned,
};
pub use crate::near::{NearCapacity, NearKey, NearOptions};
pub use crate::protocol::{CachedField, Codec, Column, RowDecoder, RowEncoder, RowError, Version};
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

/// What `compress_above` needs.
#[diagnostic::on_unimplemented(
    message = "`compress_above` needs a compressor, and this build has none",
    label = "enable the feature \"lz4\" of cached-repo",
    note = "in Cargo.toml: `cached-repo = {{ version = \"…\", features = [\"lz4\"] }}`"
)]
pub trait Compressor {}

/// The compressor, if it is built in.
#[derive(Debug)]
pub struct Lz4;

#[cfg(feature = "lz4")]
impl Compressor for Lz4 {}

/// A size above which rows are compressed; without a compressor it fails to compile, on the size.
pub const fn compress_above<C: Compressor>(bytes: usize) -> Option<usize> {
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::{Compressor, Lz4};

    trait Otherwise {
        const COMPRESSES: bool = false;
    }

    struct Type<T>(PhantomData<T>);

    impl<T> Otherwise for Type<T> {}

    // Goes before the trait's, where it applies.
    impl<T: Compressor> Type<T> {
        const COMPRESSES: bool = true;
    }

    struct Always;

    impl Compressor for Always {}

    /// Goal: `compress_above` compiles where the feature is on, and nowhere else.
    #[test]
    fn there_is_a_compressor_if_the_feature_is_on() {
        assert_eq!(Type::<Lz4>::COMPRESSES, cfg!(feature = "lz4"));
        assert_eq!(
            [Type::<Always>::COMPRESSES, Type::<()>::COMPRESSES],
            [true, false]
        );
    }
}
