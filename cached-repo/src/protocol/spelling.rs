//! The text of a value in a key: one canonical spelling per type and [`Dialect`].
//!
//! | type | text |
//! |---|---|
//! | boolean | `true`, `false` |
//! | integer | its digits |
//! | float | the shortest digits that give it back, without an exponent; `NaN`, `inf`, `-inf`; `-0.0` is `0` |
//! | decimal | its digits without zeros at the end; beyond 40 places `0.…e±n`; in SQLite the float |
//! | text, character, enum | itself |
//! | bytes | hexadecimal digits in lower case |
//! | UUID | in lower case with hyphens |
//! | date | `2024-05-01`; a year outside 0–9999 has a sign |
//! | time | `10:00:00`, then `.` and up to nine digits without zeros at the end |
//! | date and time | `2024-05-01T10:00:00` |
//! | with a time zone | the same in UTC: `2024-05-01T10:00:00+00:00`; in SQLite with the offset: `2024-05-01T12:00:00+02:00` |
//! | JSON | compact, its members in the order of the value |
//! | any other | its SQL literal without quotes |
//!
//! Invariants:
//! - Two builds spell a value alike, whichever features of SeaORM they have and whether they use
//!   chrono or time. A write in one build would miss the entries of another otherwise.
//! - Two values that a database tells apart have two texts. So in SQLite an offset is part of the
//!   text: it compares moments as texts, which end with the offset.
//! - [`spelling_is_exact`] says of which values all that the database calls equal have one text.
//!
//! Most variants of `Value` exist only if a feature of SeaORM is on, and a user turns it on without
//! telling this crate. So this file does not name them: it serializes the value. The feature
//! `serde` of sea-query, which this crate turns on, gives every variant's name, and moments with all
//! their digits. SQL literals stop at microseconds.
//!
//! Does not know what separates values in a key.

mod decimal;
mod equality;
mod moment;
mod reader;

use std::borrow::Cow;

use sea_orm::sea_query::{OptionEnum, Value};
use serde::Serialize;

pub use self::equality::{is_kept_as_given, places_behind_the_point, spelling_is_exact};
use self::{
    decimal::decimal,
    reader::{Part, Reader},
};

/// Whose idea of equality the texts follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Nobody's: every digit and every offset is part of the text.
    #[default]
    Written,
    /// A server's: PostgreSQL, MySQL and MariaDB compare moments whatever their offset.
    Server,
    /// SQLite's: it compares moments as texts and decimals as floats.
    Sqlite,
}

const DECIMAL: &str = "Decimal";
const BIG_DECIMAL: &str = "BigDecimal";

/// The text of a value; `None` for SQL NULL.
pub(crate) fn text(value: &Value, dialect: Dialect) -> Option<Cow<'_, str>> {
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
            (DECIMAL | BIG_DECIMAL, _) => {
                let digits = decimal(&other.to_string());
                match digits.parse::<f64>() {
                    Ok(number) if dialect == Dialect::Sqlite => float(Some(number), 0.0)?.into(),
                    _ => digits.into(),
                }
            }
            ("ChronoDateTimeLocal" | "ChronoDateTimeWithTimeZone", Part::Text(text))
                if dialect == Dialect::Server =>
            {
                moment::chrono_in_utc(&text, &format!("{other:?}")).into()
            }
            (name, Part::Text(text)) if name.starts_with("Chrono") => moment::chrono(&text).into(),
            (name, Part::Numbers(numbers)) => {
                let in_utc = dialect == Dialect::Server;
                moment::time(name, &numbers, in_utc)
                    .unwrap_or_else(|| literal(other))
                    .into()
            }
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
