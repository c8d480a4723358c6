//! The encoding of a row: its columns in order, each by its own serde implementation.
//!
//! MessagePack, because it describes itself: `serde_json::Value`, untagged enums and
//! `rust_decimal` ask the input what comes next, which bincode and postcard cannot answer.
//! Structs inside a column are written with their field names, so that a nested
//! `skip_serializing_if` cannot shift one field into another. Types are asked for their
//! human-readable form, as in a JSON column: serde buffers what is behind `flatten`, `untagged` and
//! `tag`, and reads it from the buffer as human-readable whatever it was written as.
//!
//! Behind the columns: the numbers of those that are `Some` of a nil, in two bytes each, and how
//! many there are, in one.
//!
//! Does not know about headers, keys or schema fingerprints.

use rmp_serde::{
    config::{DefaultConfig, HumanReadableConfig, StructMapConfig},
    decode::ReadRefReader,
};
use serde::Deserialize;

use super::some_nil::{self, SomeNil};
use crate::entity::CachedField;

/// MessagePack's nil.
const NIL: u8 = 0xc0;
/// How many columns of a row may be `Some` of a nil; a row with more is not cached.
const MAX_SOME_NILS: usize = u8::MAX as usize;

/// A row that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A column's `Serialize` failed.
    #[error("column `{column}` could not be encoded")]
    Encode {
        /// The field's name in the model.
        column: &'static str,
        /// What serde said.
        source: rmp_serde::encode::Error,
    },
    /// A column's `Deserialize` failed, or the bytes ended early.
    #[error("column `{column}` could not be decoded")]
    Decode {
        /// The field's name in the model.
        column: &'static str,
        /// What serde said.
        source: rmp_serde::decode::Error,
    },
    /// Something else than columns follows the last column.
    #[error("the row has more columns than the model")]
    Trailing,
}

/// What a column writes into: a serde `Serializer`.
pub(super) type ColumnSerializer<'a, 'row> = &'a mut rmp_serde::Serializer<
    &'row mut Vec<u8>,
    HumanReadableConfig<StructMapConfig<DefaultConfig>>,
>;

/// What a column reads from: a serde `Deserializer`.
pub(super) type ColumnDeserializer<'a, 'row> = &'a mut Input<'row>;
type Input<'row> =
    rmp_serde::Deserializer<ReadRefReader<'row, [u8]>, HumanReadableConfig<DefaultConfig>>;

/// One column of a row: its name, and how its values become bytes and back.
///
/// The only place that asks a column's type for serde, so that a type without it is one compile
/// error and not one per direction.
pub struct Column<T> {
    name: &'static str,
    encode: fn(&T, ColumnSerializer<'_, '_>) -> Result<(), rmp_serde::encode::Error>,
    decode: fn(ColumnDeserializer<'_, '_>) -> Result<T, rmp_serde::decode::Error>,
    /// Whether a value that was written as nil is `Some`, and how it is read back.
    is_some: fn(&T) -> bool,
    some_nil: fn() -> Result<T, rmp_serde::decode::Error>,
}

impl<T> Column<T> {
    /// A column that is encoded by its type's own serde.
    #[must_use]
    pub const fn new(name: &'static str) -> Self
    where
        T: CachedField,
    {
        Self {
            name,
            encode: |value, out| value.serialize(out),
            decode: |input| T::deserialize(input),
            is_some: some_nil::is_some,
            some_nil: || T::deserialize(SomeNil),
        }
    }

    /// A column that is encoded by the two functions of `#[cached(with = "…")]`.
    #[must_use]
    pub const fn with(
        name: &'static str,
        encode: fn(&T, ColumnSerializer<'_, '_>) -> Result<(), rmp_serde::encode::Error>,
        decode: fn(ColumnDeserializer<'_, '_>) -> Result<T, rmp_serde::decode::Error>,
    ) -> Self {
        Self {
            name,
            encode,
            decode,
            is_some: |_| false,
            some_nil: || Err(serde::de::Error::custom("this column's codec knows no nil")),
        }
    }
}

impl<T> std::fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Column").field(&self.name).finish()
    }
}

/// Collects the columns of one row.
#[derive(Debug, Default)]
pub struct RowEncoder {
    bytes: Vec<u8>,
    /// How many columns there are so far.
    columns: u16,
    /// Those that are `Some` of a nil.
    some_nils: Vec<u16>,
}

impl RowEncoder {
    /// Starts with `prefix`, which the caller reads back itself.
    pub(crate) fn after(prefix: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(prefix);
        Self {
            bytes,
            columns: 0,
            some_nils: Vec::new(),
        }
    }

    /// Appends one column.
    ///
    /// # Errors
    /// When the column's `serialize` fails.
    #[inline]
    pub fn field<T>(&mut self, column: &Column<T>, value: &T) -> Result<(), RowError> {
        let start = self.bytes.len();
        let mut out = rmp_serde::Serializer::new(&mut self.bytes)
            .with_struct_map()
            .with_human_readable();
        (column.encode)(value, &mut out).map_err(|source| RowError::Encode {
            column: column.name,
            source,
        })?;
        if self.bytes[start..] == [NIL] && (column.is_some)(value) {
            if self.some_nils.len() == MAX_SOME_NILS {
                let source = serde::ser::Error::custom("too many columns are `Some` of a nil");
                let column = column.name;
                return Err(RowError::Encode { column, source });
            }
            self.some_nils.push(self.columns);
        }
        self.columns += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let count = self.some_nils.len() as u8;
        for number in self.some_nils {
            self.bytes.extend_from_slice(&number.to_be_bytes());
        }
        self.bytes.push(count);
        self.bytes
    }
}

/// Hands out the columns of one row.
pub struct RowDecoder<'a> {
    input: Input<'a>,
    columns: u16,
    /// The numbers of the columns that are `Some` of a nil.
    some_nils: &'a [[u8; 2]],
}

impl<'a> RowDecoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        // Bytes without a tail are no row: their first column fails to decode, or a value is left.
        let (row, some_nils) = split_tail(bytes).unwrap_or((&[], &[]));
        Self {
            input: rmp_serde::Deserializer::from_read_ref(row).with_human_readable(),
            columns: 0,
            some_nils,
        }
    }

    /// Reads the next column.
    ///
    /// # Errors
    /// When the bytes are not a value of this column.
    #[inline]
    pub fn field<T>(&mut self, column: &Column<T>) -> Result<T, RowError> {
        let number = self.columns.to_be_bytes();
        self.columns += 1;
        let value = if self.some_nils.contains(&number) {
            <()>::deserialize(&mut self.input).and_then(|()| (column.some_nil)())
        } else {
            (column.decode)(&mut self.input)
        };
        value.map_err(|source| RowError::Decode {
            column: column.name,
            source,
        })
    }

    /// # Errors
    /// When a value is left.
    pub(crate) fn finish(mut self) -> Result<(), RowError> {
        match serde::de::IgnoredAny::deserialize(&mut self.input) {
            Ok(_) => Err(RowError::Trailing),
            Err(_) => Ok(()),
        }
    }
}

/// Parts the columns from the numbers behind them.
fn split_tail(bytes: &[u8]) -> Option<(&[u8], &[[u8; 2]])> {
    let (count, bytes) = bytes.split_last()?;
    let len = 2 * usize::from(*count);
    let (row, numbers) = bytes.split_at_checked(bytes.len().checked_sub(len)?)?;
    Some((row, numbers.as_chunks().0))
}

impl std::fmt::Debug for RowDecoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowDecoder").finish_non_exhaustive()
    }
}
