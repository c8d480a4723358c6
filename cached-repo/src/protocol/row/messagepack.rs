//! Rows as MessagePack: the columns one after the other, without their names.
//!
//! Structs inside a column are written with their field names, so that a nested
//! `skip_serializing_if` cannot shift one field into another. Types are asked for their
//! human-readable form, as in a JSON column: serde buffers what is behind `flatten`, `untagged` and
//! `tag`, and reads it from the buffer as human-readable whatever it was written as.
//!
//! Behind the columns: the numbers of those that are `Some` of a nil, in two bytes each, and how
//! many there are, in one.

use rmp_serde::{
    config::{DefaultConfig, HumanReadableConfig, StructMapConfig},
    decode::ReadRefReader,
};
use serde::Deserialize;

use super::field::{BoxError, Field, RowError};

/// MessagePack's nil.
const NIL: u8 = 0xc0;
/// How many columns of a row may be `Some` of a nil; a row with more is not cached.
const MAX_SOME_NILS: usize = u8::MAX as usize;

type Serializer<'row> =
    rmp_serde::Serializer<&'row mut Vec<u8>, HumanReadableConfig<StructMapConfig<DefaultConfig>>>;
type Deserializer<'row> =
    rmp_serde::Deserializer<ReadRefReader<'row, [u8]>, HumanReadableConfig<DefaultConfig>>;

/// Writes a column's value.
pub(super) type Encode<T> = fn(&T, &mut Serializer<'_>) -> Result<(), rmp_serde::encode::Error>;
/// Reads a column's value.
pub(super) type Decode<T> = fn(&mut Deserializer<'_>) -> Result<T, rmp_serde::decode::Error>;

/// Appends the columns of a row.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// How many columns there are so far.
    columns: u16,
    /// Those that are `Some` of a nil.
    some_nils: Vec<u16>,
}

impl Output {
    #[inline(always)]
    pub(super) fn field<T>(
        &mut self,
        row: &mut Vec<u8>,
        column: &Field<T>,
        encode: Encode<T>,
        value: &T,
    ) -> Result<(), BoxError> {
        let start = row.len();
        let mut out = rmp_serde::Serializer::new(&mut *row)
            .with_struct_map()
            .with_human_readable();
        encode(value, &mut out)?;
        if row[start..] == [NIL] && (column.is_some)(value) {
            if self.some_nils.len() == MAX_SOME_NILS {
                return Err("too many columns are `Some` of a nil".into());
            }
            self.some_nils.push(self.columns);
        }
        self.columns += 1;
        Ok(())
    }

    pub(super) fn finish(self, row: &mut Vec<u8>) {
        let count = self.some_nils.len() as u8;
        for number in self.some_nils {
            row.extend_from_slice(&number.to_be_bytes());
        }
        row.push(count);
    }
}

/// Reads the columns of a row.
pub(super) struct Input<'row> {
    columns: Deserializer<'row>,
    /// How many columns were read so far.
    number: u16,
    /// The numbers of the columns that are `Some` of a nil.
    some_nils: &'row [[u8; 2]],
}

impl<'row> Input<'row> {
    pub(super) fn new(row: &'row [u8]) -> Self {
        // Bytes without a tail are no row: their first column fails to decode, or a value is left.
        let (columns, some_nils) = split_tail(row).unwrap_or((&[], &[]));
        Self {
            columns: rmp_serde::Deserializer::from_read_ref(columns).with_human_readable(),
            number: 0,
            some_nils,
        }
    }

    #[inline(always)]
    pub(super) fn field<T>(&mut self, column: &Field<T>, decode: Decode<T>) -> Result<T, BoxError> {
        let number = self.number.to_be_bytes();
        self.number += 1;
        if self.some_nils.contains(&number) {
            <()>::deserialize(&mut self.columns)?;
            return Ok((column.some_nil)()?);
        }
        Ok(decode(&mut self.columns)?)
    }

    pub(super) fn finish(mut self) -> Result<(), RowError> {
        match serde::de::IgnoredAny::deserialize(&mut self.columns) {
            Ok(_) => Err(RowError::Trailing),
            Err(_) => Ok(()),
        }
    }
}

/// Parts the columns from the numbers behind them.
fn split_tail(row: &[u8]) -> Option<(&[u8], &[[u8; 2]])> {
    let (count, row) = row.split_last()?;
    let len = 2 * usize::from(*count);
    let (columns, numbers) = row.split_at_checked(row.len().checked_sub(len)?)?;
    Some((columns, numbers.as_chunks().0))
}
