//! Rows as one JSON object, for people who look into Redis: the columns by their names, in order.
//!
//! What a JSON text would give back as something else is not written: see [`Exact`]. A column
//! that is `Some` of a null has ` (some)` behind its name, which tells it from `None`.
//!
//! Read strictly: a name that is missing, unknown, doubled or in another place is an error.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::de::SliceRead;

use super::{
    exact::Exact,
    field::{BoxError, Field, RowError},
};

/// Stands behind the name of a column that is `Some` of a null.
const SOME: &str = " (some)";

/// Writes a column's value.
pub(super) type Encode<T> =
    fn(&T, Exact<&mut serde_json::Serializer<&mut Vec<u8>>>) -> Result<(), serde_json::Error>;
/// Reads a column's value.
pub(super) type Decode<T> =
    fn(&mut serde_json::Deserializer<SliceRead<'_>>) -> Result<T, serde_json::Error>;

/// Appends the members of a row.
#[derive(Debug)]
pub(super) struct Output {
    /// What stands before the next member.
    before: u8,
}

impl Output {
    pub(super) const fn new() -> Self {
        Self { before: b'{' }
    }

    // Cold, to stay out of the functions that rows in the default codec go through.
    #[cold]
    pub(super) fn field<T>(
        &mut self,
        row: &mut Vec<u8>,
        column: &Field<T>,
        encode: Encode<T>,
        value: &T,
    ) -> Result<(), BoxError> {
        let member = row.len();
        write_name(row, self.before, column.name, "")?;
        let start = row.len();
        encode(value, Exact(&mut serde_json::Serializer::new(&mut *row)))?;
        if row[start..] == *b"null" && (column.is_some)(value) {
            row.truncate(member);
            write_name(row, self.before, column.name, SOME)?;
            row.extend_from_slice(b"null");
        }
        self.before = b',';
        Ok(())
    }

    pub(super) fn finish(self, row: &mut Vec<u8>) {
        if self.before == b'{' {
            row.push(b'{');
        }
        row.push(b'}');
    }
}

/// Reads the members of a row.
pub(super) struct Input<'row> {
    rest: &'row [u8],
    /// What stands before the next member.
    before: u8,
}

impl<'row> Input<'row> {
    pub(super) fn new(row: &'row [u8]) -> Self {
        Self {
            rest: row,
            before: b'{',
        }
    }

    #[cold]
    pub(super) fn field<T>(&mut self, column: &Field<T>, decode: Decode<T>) -> Result<T, BoxError> {
        let (rest, is_some_null) = match self.after_name(column.name, "") {
            Some(rest) => (rest, false),
            None => match self.after_name(column.name, SOME) {
                Some(rest) => (rest, true),
                None => return Err("the next member has another name".into()),
            },
        };
        let mut input = serde_json::Deserializer::from_slice(rest);
        let value = if is_some_null {
            <()>::deserialize(&mut input)?;
            (column.some_nil)()?
        } else {
            decode(&mut input)?
        };
        // Where the input stands.
        let end = input.into_iter::<()>().byte_offset();
        self.rest = rest.get(end..).unwrap_or_default();
        self.before = b',';
        Ok(value)
    }

    /// What follows the next member's name, if it is this one.
    fn after_name(&self, name: &str, suffix: &str) -> Option<&'row [u8]> {
        let mut rest = Expected(self.rest);
        write_name(&mut rest, self.before, name, suffix).ok()?;
        Some(rest.0)
    }

    pub(super) fn finish(self) -> Result<(), RowError> {
        let end: &[u8] = if self.before == b'{' { b"{}" } else { b"}" };
        if self.rest == end {
            Ok(())
        } else {
            Err(RowError::Trailing)
        }
    }
}

/// Begins a member.
fn write_name(out: &mut impl Write, before: u8, name: &str, suffix: &str) -> io::Result<()> {
    out.write_all(&[before])?;
    serde_json::to_writer(&mut *out, &format_args!("{name}{suffix}"))?;
    out.write_all(b":")
}

/// Takes what is written off the front of a text, or fails.
struct Expected<'row>(&'row [u8]);

impl Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .strip_prefix(bytes)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
