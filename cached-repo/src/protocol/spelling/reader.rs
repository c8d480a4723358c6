//! What serde says of a [`Value`](sea_orm::sea_query::Value): the name of its variant, and its
//! content if that is a text or a few numbers.
//!
//! Not human-readable: the crate time then writes its types as tuples of numbers, whose order it
//! guarantees, whatever its features are.
//!
//! Does not know what the names mean, except that JSON is a text.

use std::fmt::{self, Display};

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};

/// A value or a part of one.
#[derive(Debug)]
pub(super) enum Part {
    /// A variant by its name.
    Variant(&'static str, Box<Self>),
    /// SQL NULL.
    Null,
    /// A text, also what is written as one.
    Text(String),
    /// A number, or a tuple of them.
    Numbers(Vec<i64>),
    /// Anything else.
    Opaque,
}

/// Reads a value.
#[derive(Clone, Copy, Default)]
pub(super) struct Reader {
    is_json: bool,
}

/// The value has parts that nobody asks for.
#[derive(Debug)]
pub(super) struct Unread;

impl Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a text and not numbers")
    }
}

impl std::error::Error for Unread {}

impl ser::Error for Unread {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($method:ident($ty:ty))*) => {$(
        fn $method(self, number: $ty) -> Result<Part, Unread> {
            Ok(Part::Numbers(vec![number.into()]))
        }
    )*};
}

macro_rules! unread {
    ($($method:ident($($ty:ty),*) $(-> $compound:ident)?)*) => {$(
        fn $method(self, $(_: $ty),*) -> Result<unread!(@ $($compound)?), Unread> {
            Err(Unread)
        }
    )*};
    (@) => { Part };
    (@ $compound:ident) => { Self::$compound };
}

impl Serializer for Reader {
    type Ok = Part;
    type Error = Unread;
    type SerializeSeq = Impossible<Part, Unread>;
    type SerializeTuple = Numbers;
    type SerializeTupleStruct = Impossible<Part, Unread>;
    type SerializeTupleVariant = Name;
    type SerializeMap = Impossible<Part, Unread>;
    type SerializeStruct = Impossible<Part, Unread>;
    type SerializeStructVariant = Impossible<Part, Unread>;

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Part, Unread> {
        let is_json = name == "Json";
        let part = value.serialize(Self { is_json }).unwrap_or(Part::Opaque);
        Ok(Part::Variant(name, Box::new(part)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Name, Unread> {
        Ok(Name(name, Part::Opaque))
    }

    fn serialize_none(self) -> Result<Part, Unread> {
        Ok(Part::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Part, Unread> {
        if self.is_json {
            return serde_json::to_string(value)
                .map(Part::Text)
                .map_err(|_| Unread);
        }
        value.serialize(self)
    }

    fn serialize_str(self, text: &str) -> Result<Part, Unread> {
        Ok(Part::Text(text.into()))
    }

    fn collect_str<T: Display + ?Sized>(self, text: &T) -> Result<Part, Unread> {
        Ok(Part::Text(text.to_string()))
    }

    fn serialize_tuple(self, len: usize) -> Result<Numbers, Unread> {
        Ok(Numbers(Vec::with_capacity(len)))
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32)
    }

    unread! {
        serialize_bool(bool) serialize_u64(u64) serialize_f32(f32) serialize_f64(f64)
        serialize_char(char) serialize_bytes(&[u8])
        serialize_unit() serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
        serialize_seq(Option<usize>) -> SerializeSeq
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct
        serialize_map(Option<usize>) -> SerializeMap
        serialize_struct(&'static str, usize) -> SerializeStruct
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Part, Unread> {
        value.serialize(self)
    }
}

/// Collects a tuple of numbers.
pub(super) struct Numbers(Vec<i64>);

impl ser::SerializeTuple for Numbers {
    type Ok = Part;
    type Error = Unread;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unread> {
        match value.serialize(Reader::default())? {
            Part::Numbers(numbers) => self.0.extend(numbers),
            _ => return Err(Unread),
        }
        Ok(())
    }

    fn end(self) -> Result<Part, Unread> {
        Ok(Part::Numbers(self.0))
    }
}

/// An array: its name, and whether it is NULL. The type of the elements comes before them.
pub(super) struct Name(&'static str, Part);

impl ser::SerializeTupleVariant for Name {
    type Ok = Part;
    type Error = Unread;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unread> {
        self.1 = value.serialize(Reader::default()).unwrap_or(Part::Opaque);
        Ok(())
    }

    fn end(self) -> Result<Part, Unread> {
        Ok(Part::Variant(self.0, Box::new(self.1)))
    }
}
