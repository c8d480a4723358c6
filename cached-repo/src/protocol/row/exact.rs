//! Refuses to write what JSON gives back as something else.
//!
//! `serde_json` writes NaN and the infinities as `null`, which would come back as `None`. A
//! number beyond 64 bits is exact in the text, but who reads it without knowing its type, as serde
//! does behind `flatten`, `untagged` and `tag`, gets the nearest `f64`.
//!
//! Passes everything else on, and itself down to whatever the value consists of.

use std::fmt::Display;

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// The one `f32`, save for its sign, whose shortest text is that of another once it has been read as
/// an `f64`, as it is where the type is not known. All others were tried.
const DOUBLY_ROUNDED: f32 = 7.038_531e-26;

/// A serializer, or a part of one, that is only given what JSON can hold.
#[derive(Debug)]
pub struct Exact<S>(pub(super) S);

/// A part of a value.
struct Part<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Exact(out))
    }
}

fn check<E: Error>(is_exact: bool) -> Result<(), E> {
    if is_exact {
        Ok(())
    } else {
        Err(E::custom("JSON cannot hold this number"))
    }
}

/// Is passed on as it is.
macro_rules! plain {
    ($($method:ident($($ty:ty),*))*) => {$(
        plain!(@one $method($($ty),*));
    )*};
    (@one $method:ident()) => {
        fn $method(self) -> Result<S::Ok, S::Error> {
            self.0.$method()
        }
    };
    (@one $method:ident($a:ty)) => {
        fn $method(self, a: $a) -> Result<S::Ok, S::Error> {
            self.0.$method(a)
        }
    };
    (@one $method:ident($a:ty, $b:ty, $c:ty)) => {
        fn $method(self, a: $a, b: $b, c: $c) -> Result<S::Ok, S::Error> {
            self.0.$method(a, b, c)
        }
    };
}

/// Begins something that has parts.
macro_rules! compound {
    ($($method:ident($($name:ident: $ty:ty),*) -> $compound:ident)*) => {$(
        fn $method(self, $($name: $ty),*) -> Result<Self::$compound, S::Error> {
            self.0.$method($($name),*).map(Exact)
        }
    )*};
}

impl<S: Serializer> Serializer for Exact<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Exact<S::SerializeSeq>;
    type SerializeTuple = Exact<S::SerializeTuple>;
    type SerializeTupleStruct = Exact<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Exact<S::SerializeTupleVariant>;
    type SerializeMap = Exact<S::SerializeMap>;
    type SerializeStruct = Exact<S::SerializeStruct>;
    type SerializeStructVariant = Exact<S::SerializeStructVariant>;

    fn serialize_f32(self, number: f32) -> Result<S::Ok, S::Error> {
        check(number.is_finite())?;
        if number.abs() == DOUBLY_ROUNDED {
            return self.0.serialize_f64(number.into());
        }
        self.0.serialize_f32(number)
    }

    fn serialize_f64(self, number: f64) -> Result<S::Ok, S::Error> {
        check(number.is_finite())?;
        self.0.serialize_f64(number)
    }

    fn serialize_i128(self, number: i128) -> Result<S::Ok, S::Error> {
        check((i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number))?;
        self.0.serialize_i128(number)
    }

    fn serialize_u128(self, number: u128) -> Result<S::Ok, S::Error> {
        check(number <= u128::from(u64::MAX))?;
        self.0.serialize_u128(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Part(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Part(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0
            .serialize_newtype_variant(name, index, variant, &Part(value))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    plain! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_none() serialize_unit() serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
    }

    compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq
        serialize_tuple(len: usize) -> SerializeTuple
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeTupleVariant
        serialize_map(len: Option<usize>) -> SerializeMap
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeStructVariant
    }
}

/// What takes the parts: the methods, each with its name for the part if it has one.
macro_rules! parts {
    ($($compound:ident { $($method:ident $(($name:ident))?)* })*) => {$(
        impl<S: $compound> $compound for Exact<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                part: &T,
            ) -> Result<(), S::Error> {
                self.0.$method($($name,)? &Part(part))
            })*

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeMap { serialize_key serialize_value }
    SerializeStruct { serialize_field(name) }
    SerializeStructVariant { serialize_field(name) }
}
