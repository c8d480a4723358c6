//! Tells `Some` of a nil from `None`, which serde writes alike: SQL NULL and the JSON value `null`
//! are two values of one optional column.
//!
//! Does not look below the column itself: what is inside a JSON column has been through JSON, which
//! does not tell them apart either.

use std::fmt::Display;

use serde::{
    Deserializer, Serialize, Serializer,
    de::{
        Visitor,
        value::{Error, UnitDeserializer},
    },
    forward_to_deserialize_any,
    ser::{Error as _, Impossible},
};

/// Whether a value that was written as nil is `Some`.
pub(super) fn is_some<T: Serialize>(value: &T) -> bool {
    value.serialize(Probe).unwrap_or(false)
}

/// Reads `Some` of a nil.
pub(super) struct SomeNil;

impl<'de> Deserializer<'de> for SomeNil {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(UnitDeserializer::new())
    }

    fn is_human_readable(&self) -> bool {
        true
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// Writes nothing and says whether it was asked to write `Some`.
struct Probe;

macro_rules! not_some {
    ($($method:ident($($ty:ty),*))*) => {$(
        fn $method(self, $(_: $ty),*) -> Result<bool, Error> {
            Ok(false)
        }
    )*};
}

macro_rules! not_nil {
    ($($method:ident($($ty:ty),*) -> $compound:ident)*) => {$(
        fn $method(self, $(_: $ty),*) -> Result<Self::$compound, Error> {
            Err(Error::custom("not a nil"))
        }
    )*};
}

impl Serializer for Probe {
    type Ok = bool;
    type Error = Error;
    type SerializeSeq = Impossible<bool, Error>;
    type SerializeTuple = Impossible<bool, Error>;
    type SerializeTupleStruct = Impossible<bool, Error>;
    type SerializeTupleVariant = Impossible<bool, Error>;
    type SerializeMap = Impossible<bool, Error>;
    type SerializeStruct = Impossible<bool, Error>;
    type SerializeStructVariant = Impossible<bool, Error>;

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<bool, Error> {
        Ok(true)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<bool, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<bool, Error> {
        Ok(false)
    }

    not_some! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_f32(f32) serialize_f64(f64) serialize_char(char)
        serialize_str(&str) serialize_bytes(&[u8])
        serialize_none() serialize_unit() serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
    }

    not_nil! {
        serialize_seq(Option<usize>) -> SerializeSeq
        serialize_tuple(usize) -> SerializeTuple
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant
        serialize_map(Option<usize>) -> SerializeMap
        serialize_struct(&'static str, usize) -> SerializeStruct
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}
