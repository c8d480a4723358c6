//! The text of a value in a key: one canonical spelling per type.
//!
//! | type | text |
//! |---|---|
//! | boolean | `true`, `false` |
//! | integer | its digits |
//! | float | the shortest digits that give it back, without an exponent; `NaN`, `inf`, `-inf`; `-0.0` is `0` |
//! | decimal | its digits without zeros at the end; beyond 40 places `0.…e±n` |
//! | text, character, enum | itself |
//! | bytes | hexadecimal digits in lower case |
//! | UUID | in lower case with hyphens |
//! | date | `2024-05-01`; a year outside 0–9999 has a sign |
//! | time | `10:00:00`, then `.` and up to nine digits without zeros at the end |
//! | date and time | `2024-05-01T10:00:00` |
//! | with a time zone | the same with the offset: `2024-05-01T12:00:00+02:00`; UTC is `+00:00` |
//! | JSON | compact, its members in the order of the value |
//! | any other | its SQL literal without quotes |
//!
//! Invariants:
//! - Two builds spell a value alike, whichever features of SeaORM they have and whether they use
//!   chrono or time. A write in one build would miss the entries of another otherwise.
//! - Two values that a database tells apart have two texts. So an offset is part of the text:
//!   SQLite keeps it. RFC 3339 has no seconds in an offset, and chrono rounds them away: two moments
//!   with one local time and such offsets (local mean times, before about 1940) share a text.
//! - [`spelling_is_exact`] says which values have one text only.
//!
//! Most variants of `Value` exist only if a feature of SeaORM is on, and a user turns it on without
//! telling this crate. So this file does not name them: it serializes the value. The feature
//! `serde` of sea-query, which this crate turns on, gives every variant's name, and moments with all
//! their digits. SQL literals stop at microseconds.
//!
//! Does not know what separates values in a key.

mod moment;
mod reader;

use std::borrow::Cow;

use sea_orm::sea_query::{OptionEnum, Value};
use serde::Serialize;

use self::reader::{Part, Reader};

/// Whether nothing that is spelt otherwise is equal to the value in SQL.
///
/// Of texts and bytes this is only true where the database compares them byte by byte, which the
/// caller has to know. Floats and decimals are not exact because SQLite compares decimals as
/// floats, times because most databases round them, and moments because one moment has many time
/// zones.
pub fn spelling_is_exact(value: &Value) -> bool {
    let is_plain = matches!(
        value,
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
            | Value::Bytes(_)
    );
    is_plain || matches!(read(value).0, "Uuid" | "ChronoDate" | "TimeDate")
}

/// The text of a value; `None` for SQL NULL.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    Some(match value {
        Value::Bool(value) => if (*value)? { "true" } else { "false" }.into(),
        Value::Float(value) => float(*value, 0.0)?.into(),
        Value::Double(value) => float(*value, 0.0)?.into(),
        Value::String(text) => text.as_deref()?.into(),
        // Its SQL literal panics unless it is ASCII.
        Value::Char(char) => String::from((*char)?).into(),
        Value::Enum(OptionEnum::Some(value)) => (&*value.value).into(),
        Value::Enum(OptionEnum::None(_)) => return None,
        Value::Bytes(bytes) => hex(bytes.as_deref()?).into(),
        other => match read(other) {
            (_, Part::Null) => return None,
            ("Json", Part::Text(json)) => json.into(),
            ("Decimal" | "BigDecimal", _) => decimal(&other.to_string()).into(),
            (name, Part::Text(text)) if name.starts_with("Chrono") => moment::chrono(&text).into(),
            (name, Part::Numbers(numbers)) => moment::time(name, &numbers)
                .unwrap_or_else(|| literal(other))
                .into(),
            _ => literal(other).into(),
        },
    })
}

/// The name of the variant and what it holds.
fn read(value: &Value) -> (&'static str, Part) {
    match value.serialize(Reader::default()) {
        Ok(Part::Variant(name, part)) => (name, *part),
        // Not reachable: the value is an enum.
        _ => ("", Part::Opaque),
    }
}

fn float<T: PartialEq + ToString>(value: Option<T>, zero: T) -> Option<String> {
    let value = value?;
    Some(if value == zero {
        // Every database calls -0 and 0 equal.
        zero.to_string()
    } else {
        value.to_string()
    })
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// The SQL literal without its quotes.
fn literal(value: &Value) -> String {
    let literal = value.to_string();
    let bare = literal
        .strip_prefix('\'')
        .and_then(|literal| literal.strip_suffix('\''));
    bare.map_or_else(|| literal.clone(), str::to_owned)
}

/// One text per number: 1.5 and 1.5000 are equal in every database.
fn decimal(number: &str) -> String {
    /// The most zeros that are written out.
    const PLACES: i64 = 40;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let Ok(exponent) = exponent.parse::<i64>() else {
        return [sign, number].concat();
    };
    let significant = digits.trim_start_matches('0');
    // The number is 0.digits × 10^point.
    let point = (whole.len() + significant.len()) as i64 - digits.len() as i64 + exponent;
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return "0".into();
    }
    let len = digits.len() as i64;
    if point < -PLACES || point > len.max(PLACES) {
        return format!("{sign}0.{digits}e{point}");
    }
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else if point >= len {
        format!("{sign}{digits}{}", zeros(point - len))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn equal_decimals_have_one_text() {
        let one_and_a_half = ["1.5", "1.50000", "15e-1", "0.0015E+3", "001.5"];
        for (number, text) in one_and_a_half
            .map(|number| (number, "1.5"))
            .into_iter()
            .chain([
                ("0", "0"),
                ("-0.000", "0"),
                ("0E-100", "0"),
                ("-1000", "-1000"),
                ("-1e3", "-1000"),
                ("1E+39", "1000000000000000000000000000000000000000"),
                ("10E+39", "0.1e41"),
                ("0.00100", "0.001"),
                ("12.30e-60", "0.123e-58"),
                (
                    "-7.9228162514264337593543950335",
                    "-7.9228162514264337593543950335",
                ),
            ])
        {
            assert_eq!(decimal(number), text, "{number}");
        }
    }
}
