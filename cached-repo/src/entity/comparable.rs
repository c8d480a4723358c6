//! Which columns a term of a condition may be about: traits that only give errors their texts.
//!
//! Does not compare anything.

use sea_orm::ActiveEnum;

/// A column that can be NULL.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is never NULL, so `IS NULL` and `IS NOT NULL` say nothing about the column",
    label = "remove the term, or make the field an `Option`"
)]
pub trait NullColumn {}

impl<T> NullColumn for Option<T> {}

/// A column of booleans.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a boolean",
    label = "a term that is a column alone, or compares it with TRUE or FALSE, is about a `bool`",
    note = "compare a number with `= 1`, and a text or an enum with `= 'active'`"
)]
pub trait BooleanColumn {}

impl BooleanColumn for bool {}
impl BooleanColumn for Option<bool> {}

/// A column of integers, or of an enum that is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be compared with an integer in a condition",
    label = "a number without quotes is for an integer column, or an enum that is stored as one",
    note = "write a text, or an enum that is stored as one, in quotes: `= 'active'`; of other types a \
            condition can only say `IS NULL` or `IS NOT NULL`"
)]
pub trait IntegerColumn<Kind> {}

/// A column of texts, or of an enum that is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be compared with a text in a condition",
    label = "a text in quotes is for a `String` column, or an enum that is stored as one",
    note = "write numbers without quotes: `= 1`; of other types a condition can only say `IS NULL` or \
            `IS NOT NULL`"
)]
pub trait TextColumn<Kind> {}

/// How a type comes to be one of these: as what it is.
#[derive(Debug)]
pub enum Itself {}
/// As an enum.
#[derive(Debug)]
pub enum Listed {}
/// As an enum that can be NULL.
#[derive(Debug)]
pub enum ListedOrNull {}

/// What an enum that is an integer is stored as.
pub trait Integer {}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Integer for $ty {}
        impl IntegerColumn<Itself> for $ty {}
        impl IntegerColumn<Itself> for Option<$ty> {}
    )*};
}
integers!(i8 i16 i32 i64 u8 u16 u32 u64);

impl<E: ActiveEnum<Value: Integer>> IntegerColumn<Listed> for E {}
impl<E: ActiveEnum<Value: Integer>> IntegerColumn<ListedOrNull> for Option<E> {}

impl TextColumn<Itself> for String {}
impl TextColumn<Itself> for Option<String> {}
impl<E: ActiveEnum<Value = String>> TextColumn<Listed> for E {}
impl<E: ActiveEnum<Value = String>> TextColumn<ListedOrNull> for Option<E> {}
