//! The encoding of a row: its columns in order, each by its own serde implementation.
//!
//! MessagePack, because it describes itself: `serde_json::Value`, untagged enums and
//! `rust_decimal` ask the input what comes next, which bincode and postcard cannot answer.
//! Structs inside a column are written with their field names, so that a nested
//! `skip_serializing_if` cannot shift one field into another.
//!
//! Does not know about headers, keys or schema fingerprints.

use rmp_serde::{
    config::{DefaultConfig, StructMapConfig},
    decode::ReadRefReader,
};
use serde::Deserialize;

use crate::entity::CachedField;

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
    /// A value follows the last column.
    #[error("the row has more columns than the model")]
    Trailing,
}

/// What a column writes into: a serde `Serializer`.
pub(super) type ColumnSerializer<'a, 'row> =
    &'a mut rmp_serde::Serializer<&'row mut Vec<u8>, StructMapConfig<DefaultConfig>>;

/// What a column reads from: a serde `Deserializer`.
pub(super) type ColumnDeserializer<'a, 'row> =
    &'a mut rmp_serde::Deserializer<ReadRefReader<'row, [u8]>>;

/// One column of a row: its name, and how its values become bytes and back.
///
/// The only place that asks a column's type for serde, so that a type without it is one compile
/// error and not one per direction.
pub struct Column<T> {
    name: &'static str,
    encode: fn(&T, ColumnSerializer<'_, '_>) -> Result<(), rmp_serde::encode::Error>,
    decode: fn(ColumnDeserializer<'_, '_>) -> Result<T, rmp_serde::decode::Error>,
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
}

impl RowEncoder {
    /// Starts with `prefix`, which the caller reads back itself.
    pub(crate) fn after(prefix: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(prefix);
        Self { bytes }
    }

    /// Appends one column.
    ///
    /// # Errors
    /// When the column's `serialize` fails.
    #[inline]
    pub fn field<T>(&mut self, column: &Column<T>, value: &T) -> Result<(), RowError> {
        let mut out = rmp_serde::Serializer::new(&mut self.bytes).with_struct_map();
        (column.encode)(value, &mut out).map_err(|source| RowError::Encode {
            column: column.name,
            source,
        })
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Hands out the columns of one row.
pub struct RowDecoder<'a> {
    input: rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>,
}

impl<'a> RowDecoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            input: rmp_serde::Deserializer::from_read_ref(bytes),
        }
    }

    /// Reads the next column.
    ///
    /// # Errors
    /// When the bytes are not a value of this column.
    #[inline]
    pub fn field<T>(&mut self, column: &Column<T>) -> Result<T, RowError> {
        (column.decode)(&mut self.input).map_err(|source| RowError::Decode {
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

impl std::fmt::Debug for RowDecoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowDecoder").finish_non_exhaustive()
    }
}
