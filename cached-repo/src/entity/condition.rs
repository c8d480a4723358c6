//! The condition of a lookup: `#[cached(unique(email, where = "deleted_at IS NULL"))]`.
//!
//! Terms joined by AND. Each is SQL for the SELECT that loads an index entry, and a test of a value
//! for rows in hand.
//!
//! Invariants:
//! - The test says yes or no only if the database says the same. Else it is unsure.
//!
//! Does not know where a row comes from.

use std::fmt::Write;

use sea_orm::{
    DbBackend,
    sea_query::{Expr, ExprTrait, Value},
};

use super::column::{Column, dialect, is_null};
use crate::protocol;

/// What a column is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `TRUE` or `FALSE`.
    Boolean(bool),
    /// `1`.
    Integer(i64),
    /// `'active'`, also of an enum.
    Text(&'static str),
}

/// What a term says of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `IS NULL`.
    Null,
    /// `IS NOT NULL`.
    NotNull,
    /// `=`.
    Is(Literal),
    /// `<>`, which NULL is not.
    IsNot(Literal),
}

/// One term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// The column, by position.
    pub(crate) at: usize,
    pub(crate) test: Test,
}

/// Whether a row meets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meets {
    No,
    /// The database may say either.
    Unsure,
    Yes,
}

impl Term {
    /// Whether a row with this value of the column meets the term; `None` if the value is not known.
    pub(crate) fn is_met(
        &self,
        column: &Column,
        value: Option<&Value>,
        backend: DbBackend,
    ) -> Meets {
        let Some(value) = value else {
            return Meets::Unsure;
        };
        let (literal, equal) = match self.test {
            Test::Null if is_null(value) => return Meets::Yes,
            Test::Null => return Meets::No,
            Test::NotNull if is_null(value) => return Meets::No,
            Test::NotNull => return Meets::Yes,
            Test::Is(_) | Test::IsNot(_) if is_null(value) => return Meets::No,
            Test::Is(literal) => (literal, true),
            Test::IsNot(literal) => (literal, false),
        };
        let Some(text) = protocol::text(value, dialect(backend)) else {
            return Meets::Unsure;
        };
        let is_same = text == literal.spelling();
        // Identical texts are equal by any rules.
        if !is_same && !column.is_exact(value, backend) {
            return Meets::Unsure;
        }
        match is_same == equal {
            true => Meets::Yes,
            false => Meets::No,
        }
    }

    /// Whether the term is never unsure of a value that is known.
    pub(crate) fn is_exact(&self, column: &Column, backend: DbBackend) -> bool {
        match self.test {
            Test::Null | Test::NotNull => true,
            Test::Is(literal) | Test::IsNot(literal) => match literal {
                Literal::Boolean(_) | Literal::Integer(_) => true,
                Literal::Text(text) => column.compares_texts_exactly(text, backend),
            },
        }
    }

    /// The term in SQL, with the literal in it: the database may have an index with this condition, and
    /// knows that it fits before it knows any parameters.
    pub(crate) fn sql(&self, column: &Column) -> Expr {
        let reference = Expr::col(column.reference.clone());
        match self.test {
            Test::Null => reference.is_null(),
            Test::NotNull => reference.is_not_null(),
            Test::Is(literal) => reference.eq(literal.sql()),
            Test::IsNot(literal) => reference.ne(literal.sql()),
        }
    }
}

impl Literal {
    fn spelling(self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }

    fn sql(self) -> Expr {
        Expr::Constant(match self {
            Self::Boolean(value) => value.into(),
            Self::Integer(number) => number.into(),
            Self::Text(text) => text.into(),
        })
    }
}

/// The condition as a text; it tells one condition from another, also in keys.
pub(crate) fn text_of(terms: &[Term], columns: &[Column]) -> Option<String> {
    if terms.is_empty() {
        return None;
    }
    let mut texts: Vec<String> = terms.iter().map(|term| term.text(columns)).collect();
    // Their order says nothing.
    texts.sort_unstable();
    Some(texts.join(" AND "))
}

impl Term {
    fn text(&self, columns: &[Column]) -> String {
        let mut text = columns[self.at].name.to_string();
        let (operator, literal) = match self.test {
            Test::Null => (" IS NULL", None),
            Test::NotNull => (" IS NOT NULL", None),
            Test::Is(literal) => ("=", Some(literal)),
            Test::IsNot(literal) => ("<>", Some(literal)),
        };
        text.push_str(operator);
        // Writing to a String cannot fail.
        let _ = match literal {
            None => Ok(()),
            Some(Literal::Text(literal)) => write!(text, "'{}'", literal.replace('\'', "''")),
            Some(literal) => text.write_str(&literal.spelling()),
        };
        text
    }
}
