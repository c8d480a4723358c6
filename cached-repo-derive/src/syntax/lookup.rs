//! `unique` and `index` as they are written: `index`, `index(max_rows = 100)`, `index(a, b)`.
//!
//! Does not know whether the columns exist.

use std::num::NonZeroUsize;

use proc_macro2::{Span, TokenStream};
use syn::{
    Ident, LitInt, LitStr, Token, ext::IdentExt, parenthesized, parse::ParseStream, token::Paren,
};

use super::{
    attribute::Level,
    condition::{self, ConditionAttr},
    option::{Given, Key, key, skip_value, unknown_setting},
};
use crate::diag::Diagnostics;

/// What may stand beside the columns.
const SETTINGS: &[Key] = &[
    key("max_rows", "max_rows = 100"),
    key("name", "name = \"handle\""),
    key("where", "where = \"deleted_at IS NULL\""),
];

/// A request to find rows by columns.
pub(crate) struct LookupAttr {
    pub(crate) span: Span,
    /// Empty on a field.
    pub(crate) columns: Vec<Ident>,
    pub(crate) name: Option<Ident>,
    pub(crate) kind: LookupKind,
    pub(crate) condition: Option<ConditionAttr>,
}

/// How many rows a lookup can find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupKind {
    /// At most one.
    Unique,
    /// Any number; the cache keeps at most `max_rows`.
    Index { max_rows: Option<usize> },
}

impl LookupKind {
    /// `index` without settings.
    pub(crate) const INDEX: Self = Self::Index { max_rows: None };
}

/// Reads the arguments of `unique` or `index`.
///
/// After a mistake the lookup stays if its columns are known: the callers of its methods get no error
/// of their own.
pub(crate) fn read(
    given: &Given<'_>,
    level: Level,
    kind: LookupKind,
    diag: &mut Diagnostics,
) -> Option<LookupAttr> {
    let mut lookup = LookupAttr {
        span: given.span(),
        columns: Vec::new(),
        name: None,
        kind,
        condition: None,
    };
    let (name, example) = (given.key.name, given.key.example);
    let on_a_field = level == Level::Field;
    let input = given.meta.input;
    if !input.peek(Paren) {
        let rest = skip_value(input);
        if rest.is_empty() {
            return Some(lookup);
        }
        let instead = match level {
            Level::Model => format!("takes its columns in parentheses: write `{example}`"),
            Level::Field => format!("takes no value: write `{name}` alone"),
        };
        diag.error(rest, format!("`{name}` {instead}"));
        return on_a_field.then_some(lookup);
    }
    if let Err(error) = lookup.in_parentheses(input, diag) {
        let (what, example) = match (level, kind) {
            (Level::Model, _) => ("columns and settings", example),
            (Level::Field, LookupKind::Unique) => ("settings", "unique(name = \"handle\")"),
            (Level::Field, LookupKind::Index { .. }) => ("settings", "index(max_rows = 100)"),
        };
        diag.error_at(
            error.span(),
            format!("`{name}` takes {what} with commas between them: write `{example}`"),
        );
        return on_a_field.then_some(lookup);
    }
    Some(lookup)
}

impl LookupAttr {
    fn in_parentheses(
        &mut self,
        input: ParseStream<'_>,
        diag: &mut Diagnostics,
    ) -> syn::Result<()> {
        let content;
        parenthesized!(content in input);
        let read = self.arguments(&content, diag);
        // syn reports what is left in the parentheses as another error.
        content.parse::<TokenStream>()?;
        read
    }

    /// Reads columns and settings.
    fn arguments(&mut self, content: ParseStream<'_>, diag: &mut Diagnostics) -> syn::Result<()> {
        while !content.is_empty() {
            let word = content.call(Ident::parse_any)?;
            // A keyword is no column's name.
            if content.parse::<Option<Token![=]>>()?.is_some() || word == "where" {
                self.setting(&word, content, diag);
            } else {
                self.columns.push(word);
            }
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// Reads the value of `max_rows = 100`, `name = "…"` or `where = "…"`.
    fn setting(&mut self, word: &Ident, content: ParseStream<'_>, diag: &mut Diagnostics) {
        let value = skip_value(content);
        // On the value, or on the setting if there is no value.
        let wrong = |message: &str| match value.is_empty() {
            true => syn::Error::new(word.span(), message),
            false => syn::Error::new_spanned(&value, message),
        };
        match (word.to_string().as_str(), self.kind) {
            ("name", _) => {
                let name = syn::parse2::<LitStr>(value.clone());
                match name.and_then(|name| name.parse::<Ident>()) {
                    Ok(ident) => self.name = Some(ident),
                    Err(_) => diag.push(wrong(
                        "`name` is what follows `find_by_` in the method's name: write \
                         `name = \"handle\"`",
                    )),
                }
            }
            ("where", _) => match syn::parse2::<LitStr>(value.clone()) {
                Ok(literal) => match condition::read(literal) {
                    Ok(condition) => self.condition = Some(condition),
                    Err(error) => diag.push(error),
                },
                Err(_) => diag.push(wrong(
                    "`where` is what the rows must meet, in quotes: write \
                     `where = \"deleted_at IS NULL\"`",
                )),
            },
            ("max_rows", LookupKind::Index { .. }) => {
                let rows = syn::parse2::<LitInt>(value.clone());
                match rows.and_then(|rows| rows.base10_parse::<NonZeroUsize>()) {
                    Ok(rows) => {
                        self.kind = LookupKind::Index {
                            max_rows: Some(rows.get()),
                        }
                    }
                    Err(_) => diag.push(wrong(
                        "`max_rows` is how many rows of one search are kept: write \
                         `max_rows = 100`",
                    )),
                }
            }
            ("max_rows", LookupKind::Unique) => {
                diag.error(word, "a unique lookup finds one row: remove `max_rows`");
            }
            (other, _) => diag.error(word, unknown_setting(other, SETTINGS)),
        }
    }
}
