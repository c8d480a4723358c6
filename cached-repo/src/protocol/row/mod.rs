//! The encoding of a row: its columns in order, each by its own serde implementation, as the
//! entity's [`Codec`] says.
//!
//! Both codecs describe themselves: `serde_json::Value`, untagged enums and `rust_decimal` ask the
//! input what comes next, which bincode and postcard cannot answer.
//!
//! Does not know about headers, keys or schema fingerprints.

mod exact;
mod field;
mod json;
mod messagepack;

use serde::{Serialize, de::DeserializeOwned};

pub use self::field::RowError;
use self::field::{BoxError, Field};
use super::some_nil::{self, SomeNil};

/// How the rows of an entity become bytes: `#[cached(codec = "…")]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Compact and fast.
    #[default]
    MessagePack,
    /// Larger and slower; people who look into Redis can read it.
    Json,
}

/// A type that can be a column of a cached row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in the cache",
    label = "this column's type does not implement serde's `Serialize` and `Deserialize`",
    note = "derive both on the type, or name a module with `serialize` and `deserialize` \
            functions: `#[cached(with = \"module\")]`"
)]
pub trait CachedField: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> CachedField for T {}

/// One column of a row: its name, and how its values become bytes and back.
///
/// The only place that asks a column's type for serde, so that a type without it is one compile
/// error and not one per direction. It knows one codec, so that the type is compiled for one.
pub struct Column<T> {
    field: Field<T>,
    functions: Functions<T>,
}

enum Functions<T> {
    MessagePack(messagepack::Encode<T>, messagepack::Decode<T>),
    Json(json::Encode<T>, json::Decode<T>),
}

impl<T> Column<T> {
    /// A column that is encoded by its type's own serde.
    #[must_use]
    pub const fn new(name: &'static str) -> Self
    where
        T: CachedField,
    {
        Self::of_serde(
            name,
            Functions::MessagePack(
                |value, out| value.serialize(out),
                |input| T::deserialize(input),
            ),
        )
    }

    /// The same for rows in JSON.
    #[must_use]
    pub const fn json(name: &'static str) -> Self
    where
        T: CachedField,
    {
        Self::of_serde(
            name,
            Functions::Json(
                |value, out| value.serialize(out).map(drop),
                |input| T::deserialize(input),
            ),
        )
    }

    /// A column that is encoded by the two functions of `#[cached(with = "…")]`.
    #[must_use]
    pub const fn with(
        name: &'static str,
        encode: messagepack::Encode<T>,
        decode: messagepack::Decode<T>,
    ) -> Self {
        Self::of_module(name, Functions::MessagePack(encode, decode))
    }

    /// The same for rows in JSON.
    #[must_use]
    pub const fn json_with(
        name: &'static str,
        encode: json::Encode<T>,
        decode: json::Decode<T>,
    ) -> Self {
        Self::of_module(name, Functions::Json(encode, decode))
    }

    const fn of_serde(name: &'static str, functions: Functions<T>) -> Self
    where
        T: CachedField,
    {
        Self {
            field: Field {
                name,
                is_some: some_nil::is_some,
                some_nil: || T::deserialize(SomeNil),
            },
            functions,
        }
    }

    const fn of_module(name: &'static str, functions: Functions<T>) -> Self {
        Self {
            field: Field {
                name,
                is_some: |_| false,
                some_nil: || Err(serde::de::Error::custom("this column's codec knows no nil")),
            },
            functions,
        }
    }
}

impl<T> std::fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Column").field(&self.field.name).finish()
    }
}

/// The derive never brings such two together.
#[cold]
fn other_codec() -> BoxError {
    "the row has another codec than the column".into()
}

/// Collects the columns of one row.
#[derive(Debug)]
pub struct RowEncoder {
    bytes: Vec<u8>,
    output: Output,
}

#[derive(Debug)]
enum Output {
    MessagePack(messagepack::Output),
    Json(json::Output),
}

impl RowEncoder {
    /// Starts with `prefix`, which the caller reads back itself.
    pub(crate) fn after(prefix: &[u8], codec: Codec) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(prefix);
        let output = match codec {
            Codec::MessagePack => Output::MessagePack(messagepack::Output::default()),
            Codec::Json => Output::Json(json::Output::new()),
        };
        Self { bytes, output }
    }

    /// Appends one column.
    ///
    /// # Errors
    /// When the column's `serialize` fails, or the codec cannot hold the value.
    // Always, so that the compiler knows the column, which is a constant, and its functions.
    #[inline(always)]
    pub fn field<T>(&mut self, column: &Column<T>, value: &T) -> Result<(), RowError> {
        let row = &mut self.bytes;
        let written = match (&mut self.output, &column.functions) {
            (Output::MessagePack(out), Functions::MessagePack(encode, _)) => {
                out.field(row, &column.field, *encode, value)
            }
            (Output::Json(out), Functions::Json(encode, _)) => {
                out.field(row, &column.field, *encode, value)
            }
            _ => Err(other_codec()),
        };
        written.map_err(|source| RowError::Encode {
            column: column.field.name,
            source,
        })
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        match self.output {
            Output::MessagePack(out) => out.finish(&mut self.bytes),
            Output::Json(out) => out.finish(&mut self.bytes),
        }
        self.bytes
    }
}

/// Hands out the columns of one row.
///
/// Holds an input for each codec, one of them empty: a column knows which is its own, so that
/// nobody has to look.
pub struct RowDecoder<'a> {
    messagepack: messagepack::Input<'a>,
    json: json::Input<'a>,
}

impl<'a> RowDecoder<'a> {
    /// Reads a whole row.
    ///
    /// # Errors
    /// When the bytes are not a row, or more than one.
    #[inline]
    pub(crate) fn read<T>(
        row: &'a [u8],
        codec: Codec,
        decode: impl FnOnce(&mut RowDecoder<'_>) -> Result<T, RowError>,
    ) -> Result<T, RowError> {
        let (messagepack, json): (&[u8], &[u8]) = match codec {
            Codec::MessagePack => (row, &[]),
            Codec::Json => (&[], row),
        };
        let mut decoder = Self {
            messagepack: messagepack::Input::new(messagepack),
            json: json::Input::new(json),
        };
        let value = decode(&mut decoder)?;
        match codec {
            Codec::MessagePack => decoder.messagepack.finish()?,
            Codec::Json => decoder.json.finish()?,
        }
        Ok(value)
    }

    /// Reads the next column.
    ///
    /// # Errors
    /// When the bytes are not a value of this column.
    // As `RowEncoder::field`.
    #[inline(always)]
    pub fn field<T>(&mut self, column: &Column<T>) -> Result<T, RowError> {
        let value = match &column.functions {
            Functions::MessagePack(_, decode) => self.messagepack.field(&column.field, *decode),
            Functions::Json(_, decode) => self.json.field(&column.field, *decode),
        };
        value.map_err(|source| RowError::Decode {
            column: column.field.name,
            source,
        })
    }
}

impl std::fmt::Debug for RowDecoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowDecoder").finish_non_exhaustive()
    }
}
