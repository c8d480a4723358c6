//! What a database calls equal, for each type of value.
//!
//! | type | not exact |
//! |---|---|
//! | boolean, integer, float, UUID, date | |
//! | text, bytes | unless they are compared byte by byte, which the caller has to know |
//! | decimal | more than 30 places behind the point, or 35 before it; in SQLite, which makes it a float, more than 15 digits |
//! | time, date and time | finer than microseconds, to which servers round; leap seconds |
//! | network and hardware address | in SQLite |
//! | enum | unless the database lists its values, which the caller has to know |
//! | JSON, array, range, vector, character | always |
//!
//! Does not know the column: what it declares, or how it compares texts.

use sea_orm::sea_query::Value;

use super::{BIG_DECIMAL, DECIMAL, Dialect, decimal, read, text};

/// The precision of a server's times.
const MAX_TIME_DIGITS: usize = 6;
/// Decimals with so many places fit into MySQL's type.
const MAX_PLACES: usize = 30;
const MAX_WHOLE_DIGITS: usize = 35;
/// Different decimals with so many digits are different floats.
const FLOAT_DIGITS: usize = 15;

/// Whether all that the database calls equal to the value has its text, and all that has its text is
/// equal to it. Of texts and bytes this is only true where the database compares them byte by byte.
pub fn spelling_is_exact(value: &Value, dialect: Dialect) -> bool {
    let written = dialect == Dialect::Written;
    match value {
        Value::Bool(_)
        | Value::TinyInt(_)
        | Value::SmallInt(_)
        | Value::Int(_)
        | Value::BigInt(_)
        | Value::TinyUnsigned(_)
        | Value::SmallUnsigned(_)
        | Value::Unsigned(_)
        | Value::BigUnsigned(_)
        | Value::String(_)
        | Value::Bytes(_) => return true,
        Value::Float(_) | Value::Double(_) => return !written,
        _ => {}
    }
    match read(value).0 {
        "Uuid" | "ChronoDate" | "TimeDate" => true,
        _ if written => false,
        DECIMAL | BIG_DECIMAL => {
            let (whole, places) = digits(value);
            match dialect {
                Dialect::Sqlite => whole + places <= FLOAT_DIGITS,
                _ => whole <= MAX_WHOLE_DIGITS && places <= MAX_PLACES,
            }
        }
        "IpNetwork" | "MacAddress" => dialect == Dialect::Server,
        name if name.starts_with("Chrono") || name.starts_with("Time") => {
            let text = text(value, dialect).unwrap_or_default();
            let is_fine = places(&text) > MAX_TIME_DIGITS && dialect == Dialect::Server;
            !is_fine && !has_leap_second(value)
        }
        _ => false,
    }
}

/// Whether a row shows the value as a statement gives it, in a column that is known to keep so many
/// places behind the point.
pub fn is_kept_as_given(value: &Value, dialect: Dialect, kept_places: usize) -> bool {
    match value {
        // SQLite makes it NULL.
        Value::Float(Some(number)) => !number.is_nan() || dialect != Dialect::Sqlite,
        Value::Double(Some(number)) => !number.is_nan() || dialect != Dialect::Sqlite,
        Value::Bool(_) | Value::BigInt(_) | Value::Int(_) | Value::String(_) => true,
        _ => match read(value).0 {
            DECIMAL | BIG_DECIMAL if dialect == Dialect::Sqlite => {
                spelling_is_exact(value, dialect)
            }
            DECIMAL | BIG_DECIMAL => digits(value).1 <= kept_places,
            "ChronoDate" | "TimeDate" => true,
            name if name.starts_with("Chrono") || name.starts_with("Time") => {
                let text = text(value, dialect).unwrap_or_default();
                let is_rounded = places(&text) > kept_places && dialect != Dialect::Sqlite;
                !is_rounded && !has_leap_second(value)
            }
            _ => true,
        },
    }
}

/// How many places behind the point a decimal or a time has; none of any other value.
pub fn places_behind_the_point(value: &Value) -> usize {
    match read(value).0 {
        DECIMAL | BIG_DECIMAL => digits(value).1,
        name if name.starts_with("Chrono") || name.starts_with("Time") => {
            places(&text(value, Dialect::Written).unwrap_or_default())
        }
        _ => 0,
    }
}

/// How many digits a decimal has before and behind the point, without zeros at the ends.
fn digits(value: &Value) -> (usize, usize) {
    let text = decimal(&value.to_string());
    let digits = text.trim_start_matches(['-', '0']);
    if digits.contains('e') {
        return (usize::MAX / 2, usize::MAX / 2);
    }
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    (whole.len(), places.len())
}

/// How many digits a time has behind the point.
fn places(time: &str) -> usize {
    let (_, fraction) = time.split_once('.').unwrap_or((time, ""));
    fraction.bytes().take_while(u8::is_ascii_digit).count()
}

/// Databases take it for the second after it.
fn has_leap_second(value: &Value) -> bool {
    let text = text(value, Dialect::Written).unwrap_or_default();
    text.contains(":60")
}
