//! What generated code may call. No semver promise: only `cached-repo-derive` of the same
//! version uses it.

// Under these names nothing in the scope of a model can stand for something else.
pub use std::{
    convert::Into,
    iter::IntoIterator,
    option::Option::{self, None, Some},
    result::Result::{self, Ok},
    time::Duration,
    vec::Vec,
};

pub use sea_orm::{self, Value};
pub use serde;

pub use crate::entity::{
    BooleanColumn, CachedEntity, ColumnOf, ConditionTerm, Definition, EntityOptions, Id,
    IntegerColumn, Literal, LookupColumn, LookupDef, LookupKind, NullColumn, RelationOf, Test,
    TextColumn, VersionField, Versioned,
};
pub use crate::near::{NearCapacity, NearKey, NearOptions};
pub use crate::protocol::{CachedField, Codec, Column, RowDecoder, RowEncoder, RowError, Version};
pub use crate::repository::lookups::{find_all, find_each, find_one};
pub use crate::{
    Cached, CachedDb, OnCacheFailure, ReadError, ReadOptions, Repository, Transaction,
};

/// The schema fingerprint: FNV-1a over the lines of `columns`, folded to 32 bits. A line is the name
/// and the type of a column: `id:i64`.
pub const fn fingerprint(columns: &str) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = columns.as_bytes();
    let mut hash = OFFSET;
    let mut at = 0;
    while at < bytes.len() {
        // No text has this byte: to move the end of a line changes the hash.
        let byte = if bytes[at] == b'\n' { 0xff } else { bytes[at] };
        hash = (hash ^ byte as u64).wrapping_mul(PRIME);
        at += 1;
    }
    hash = (hash ^ 0xff).wrapping_mul(PRIME);
    (hash ^ (hash >> 32)) as u32
}

/// A lookup that finds one row at most.
pub const fn unique<M: CachedEntity>(columns: &'static [LookupColumn<M>]) -> LookupDef<M> {
    LookupDef {
        columns,
        kind: LookupKind::Unique,
        condition: &[],
    }
}

/// A lookup that finds any number of rows.
pub const fn index<M: CachedEntity>(
    columns: &'static [LookupColumn<M>],
    max_rows: Option<usize>,
) -> LookupDef<M> {
    LookupDef {
        columns,
        kind: LookupKind::Index { max_rows },
        condition: &[],
    }
}

/// A lookup among the rows that meet a condition.
pub const fn only<M: CachedEntity>(
    lookup: LookupDef<M>,
    condition: &'static [ConditionTerm<M>],
) -> LookupDef<M> {
    LookupDef {
        columns: lookup.columns,
        kind: lookup.kind,
        condition,
    }
}

/// `column IS NULL`, or `IS NOT NULL`; a column that is never NULL fails to compile.
pub const fn null<M: CachedEntity, T: NullColumn>(
    column: ColumnOf<M>,
    is_null: bool,
) -> ConditionTerm<M> {
    let test = if is_null { Test::Null } else { Test::NotNull };
    ConditionTerm { column, test }
}

/// `column` or `NOT column`, of a boolean.
pub const fn boolean<M: CachedEntity, T: BooleanColumn>(
    column: ColumnOf<M>,
    value: bool,
) -> ConditionTerm<M> {
    let test = Test::Is(Literal::Boolean(value));
    ConditionTerm { column, test }
}

/// `column = 1`, or `<>`.
pub const fn integer<M: CachedEntity, T: IntegerColumn<K>, K>(
    column: ColumnOf<M>,
    is_equal: bool,
    number: i64,
) -> ConditionTerm<M> {
    compared(column, is_equal, Literal::Integer(number))
}

/// `column = 'active'`, or `<>`.
pub const fn text<M: CachedEntity, T: TextColumn<K>, K>(
    column: ColumnOf<M>,
    is_equal: bool,
    text: &'static str,
) -> ConditionTerm<M> {
    compared(column, is_equal, Literal::Text(text))
}

const fn compared<M: CachedEntity>(
    column: ColumnOf<M>,
    is_equal: bool,
    literal: Literal,
) -> ConditionTerm<M> {
    let test = if is_equal {
        Test::Is(literal)
    } else {
        Test::IsNot(literal)
    };
    ConditionTerm { column, test }
}

/// A column of a lookup.
pub const fn by<M: CachedEntity>(
    column: ColumnOf<M>,
    normalize: Option<fn(&str) -> String>,
) -> LookupColumn<M> {
    LookupColumn { column, normalize }
}

/// The value of an argument whose column is a `T`.
pub fn value<T: Into<Value>>(argument: impl Into<T>) -> Value {
    argument.into().into()
}

/// The values of all columns of a lookup.
pub fn values<const N: usize>(values: [Value; N]) -> Vec<Value> {
    Vec::from(values)
}

/// The values of each of many arguments.
pub fn each<T, const N: usize>(
    arguments: impl IntoIterator<Item = T>,
    values: fn(T) -> [Value; N],
) -> Vec<Vec<Value>> {
    let arguments = arguments.into_iter();
    arguments.map(|it| Vec::from(values(it))).collect()
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
