//! The integers that a version column can be, listed once.

use sea_orm::sea_query::{ArrayType, Value};

use crate::protocol::Version;

/// A type that can be a version column.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a version column",
    label = "a version is a plain integer that only grows",
    note = "use one of `i16`, `i32`, `i64`, `u32` and `u64`"
)]
pub trait VersionField: Copy {
    /// The version, `None` if it is negative or beyond what an entry can hold (19 digits); such
    /// a row is cached without a version.
    fn to_version(self) -> Option<Version>;
}

macro_rules! version_types {
    ($($ty:ty => $variant:ident,)*) => {
        $(
            impl VersionField for $ty {
                fn to_version(self) -> Option<Version> {
                    u64::try_from(self).ok().and_then(Version::new)
                }
            }
        )*

        /// The version of a new row, as whichever integer the column is.
        pub(super) fn first_version(value_type: &ArrayType) -> Option<Value> {
            match value_type {
                $(ArrayType::$variant => Some(Value::$variant(Some(1))),)*
                _ => None,
            }
        }

        /// The number in a version column.
        pub(crate) fn version_number(value: &Value) -> Option<i128> {
            match value {
                $(Value::$variant(version) => version.map(i128::from),)*
                _ => None,
            }
        }
    };
}

version_types! {
    i16 => SmallInt,
    i32 => Int,
    i64 => BigInt,
    u32 => Unsigned,
    u64 => BigUnsigned,
}
