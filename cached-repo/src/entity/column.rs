//! A column of an entity's table, and what the database makes of a value in it.
//!
//! Does not know the values of other columns.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sea_orm::{
    ColumnType, DbBackend,
    sea_query::{ArrayType, DynIden, Value},
};

use crate::protocol::{
    self, Dialect, is_kept_as_given, places_behind_the_point, spelling_is_exact,
};

/// A column of an entity's table.
pub(crate) struct Column {
    pub(crate) name: DynIden,
    /// With the table's name.
    pub(crate) reference: (DynIden, DynIden),
    /// Only the database writes it: `#[cached(generated)]`.
    pub(crate) is_generated: bool,
    /// What the model holds.
    pub(crate) value_type: ArrayType,
    pub(super) comparison: Comparison,
    /// The column is known to keep so many places behind the point of a number or a time. No model
    /// knows a time's precision: it is learnt.
    pub(super) kept_places: AtomicUsize,
}

/// How the database compares the values of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// By what they are: no texts.
    Values,
    /// By rules for which there is no canonical text.
    Unspelt,
    /// Texts: byte by byte, unless a collation says otherwise.
    Texts,
    /// By rules of the column's type, like PostgreSQL's `citext`, or padded.
    OfItsType,
    /// The database has a list of the values, and returns them as they are spelt there.
    Listed(Arc<[String]>),
}

impl Comparison {
    pub(super) fn of(column: &ColumnType) -> Self {
        match column {
            ColumnType::Char(_) | ColumnType::Custom(_) => Self::OfItsType,
            ColumnType::String(_) | ColumnType::Text => Self::Texts,
            ColumnType::Enum { variants, .. } => {
                let variants = variants.iter().map(|variant| variant.inner().into_owned());
                Self::Listed(variants.collect())
            }
            ColumnType::Json
            | ColumnType::JsonBinary
            | ColumnType::Array(_)
            | ColumnType::Vector(_)
            | ColumnType::Interval(..) => Self::Unspelt,
            _ => Self::Values,
        }
    }
}

impl Column {
    /// Whether all that the database calls equal to the value has one spelling in a key. MySQL and
    /// MariaDB compare texts by collations that ignore case and trailing spaces by default.
    pub(super) fn is_exact(&self, value: &Value, backend: DbBackend) -> bool {
        match (&self.comparison, value) {
            (Comparison::OfItsType | Comparison::Unspelt, _) => false,
            (Comparison::Listed(_), Value::Enum(_)) => true,
            (Comparison::Listed(variants), Value::String(Some(text))) => variants.contains(text),
            (Comparison::Texts, _) if backend == DbBackend::MySql => false,
            // A text in a column of another type: `inet`, say.
            (Comparison::Values, Value::String(_)) => false,
            _ => spelling_is_exact(value, dialect(backend)),
        }
    }

    /// Whether the database calls no other text equal to this one.
    pub(super) fn compares_texts_exactly(&self, text: &str, backend: DbBackend) -> bool {
        match &self.comparison {
            // It knows no other.
            Comparison::Listed(_) => true,
            _ => self.is_exact(&text.into(), backend),
        }
    }

    /// Whether a row shows the value as a statement gives it.
    pub(crate) fn keeps(&self, value: &Value, backend: DbBackend) -> bool {
        let kept_places = self.kept_places.load(Ordering::Relaxed);
        is_kept_as_given(value, dialect(backend), kept_places)
    }

    /// Learns of the column's precision from a value that a statement gave, and what the row shows.
    pub(crate) fn learn(&self, given: &Value, shown: &Value, backend: DbBackend) {
        let dialect = dialect(backend);
        if protocol::text(given, dialect) == protocol::text(shown, dialect) {
            let places = places_behind_the_point(given);
            self.kept_places.fetch_max(places, Ordering::Relaxed);
        }
    }

    /// Whether a value of this column is one of that column of another model of the table, spelt
    /// alike.
    pub(crate) fn spells_like(&self, other: &Self) -> bool {
        let (own, other) = (&self.value_type, &other.value_type);
        own == other || (is_integer(own) && is_integer(other)) || (is_text(own) && is_text(other))
    }

    /// Why lists and absences by this column are never cached, and what to do about it; `None` if
    /// they are.
    pub(super) fn problem(&self, backend: DbBackend) -> Option<&'static str> {
        match (&self.comparison, &self.value_type) {
            (Comparison::OfItsType, _) => Some(
                "the column's type has rules of equality that the model does not show: give it \
                 `normalize`, or a `column_type` that compares values as they are",
            ),
            (Comparison::Unspelt, _) => Some(
                "its values have no canonical text: find rows by another column, which the program or \
                 the database computes of it",
            ),
            (Comparison::Texts, _) if backend == DbBackend::MySql => Some(
                "MySQL and MariaDB compare texts by a collation: give the column `normalize`, or \
                 make it an enum or a number",
            ),
            (Comparison::Values, ArrayType::String) => Some(
                "the model holds a text, and the column's type has rules of its own: give it \
                 `normalize`, or the type's own values",
            ),
            (_, ArrayType::Char) => Some("databases pad characters: make the column a text"),
            _ => None,
        }
    }
}

pub(crate) fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}

/// How many places of a decimal the column's type declares.
pub(super) fn scale(column: &ColumnType) -> usize {
    match column {
        ColumnType::Decimal(Some((_, scale))) | ColumnType::Money(Some((_, scale))) => {
            *scale as usize
        }
        _ => 0,
    }
}

/// How the database compares values.
pub(crate) fn dialect(backend: DbBackend) -> Dialect {
    match backend {
        DbBackend::Sqlite => Dialect::Sqlite,
        _ => Dialect::Server,
    }
}

fn is_integer(value_type: &ArrayType) -> bool {
    matches!(
        value_type,
        ArrayType::TinyInt
            | ArrayType::SmallInt
            | ArrayType::Int
            | ArrayType::BigInt
            | ArrayType::TinyUnsigned
            | ArrayType::SmallUnsigned
            | ArrayType::Unsigned
            | ArrayType::BigUnsigned
    )
}

fn is_text(value_type: &ArrayType) -> bool {
    // The variant `Enum` exists with some features only.
    *value_type == ArrayType::String || format!("{value_type:?}").starts_with("Enum")
}
