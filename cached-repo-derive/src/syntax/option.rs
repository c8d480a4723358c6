//! One option of an attribute: `flag`, `key = "value"`, and how each kind of value is read.
//!
//! A value that cannot be read is reported with an example, and is `None`. This file does not know
//! which options exist.

use std::time::Duration;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::{
    Expr, ExprGroup, ExprLit, Ident, Lit, LitStr, Token,
    ext::IdentExt,
    meta::ParseNestedMeta,
    parenthesized,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::diag::{Diagnostics, guess, list};

/// The unit of the cache's clock.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// Longer than a cache entry should live. Milliseconds cannot overflow below it.
const MAX_DURATION: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// The units of sizes, in bytes.
const SIZES: &[(&str, usize)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
/// The longest row that the runtime stores (`MAX_ROW_BYTES`), so the largest that it compresses.
const MAX_COMPRESSED_BYTES: usize = 64 * 1024 * 1024;

/// An option and how it is written.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    /// Whether it may be given several times.
    pub(crate) repeats: bool,
}

pub(crate) const fn key(name: &'static str, example: &'static str) -> Key {
    Key {
        name,
        example,
        repeats: false,
    }
}

impl Key {
    pub(crate) const fn repeatable(mut self) -> Self {
        self.repeats = true;
        self
    }
}

/// An option that was given; its value is not read yet.
pub(crate) struct Given<'a> {
    pub(crate) key: &'static Key,
    pub(crate) meta: &'a ParseNestedMeta<'a>,
}

/// Whether a duration may be zero, and what to write instead.
#[derive(Clone, Copy)]
pub(crate) enum Zero {
    Allowed,
    Refused(&'static str),
}

impl Given<'_> {
    /// Where the option's name is.
    pub(crate) fn span(&self) -> Span {
        self.meta.path.span()
    }

    /// Reads an option without a value.
    pub(crate) fn flag(&self, diag: &mut Diagnostics) {
        let rest = skip_value(self.meta.input);
        if !rest.is_empty() {
            let name = self.key.name;
            diag.error(
                rest,
                format!("`{name}` takes no value: write `{name}` alone"),
            );
        }
    }

    /// Reads `key = "value"`.
    pub(crate) fn string(&self, diag: &mut Diagnostics) -> Option<LitStr> {
        let Key { name, example, .. } = self.key;
        match self.value(diag)? {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text),
            other => {
                diag.error(
                    other,
                    format!("`{name}` wants its value in quotes: write `{example}`"),
                );
                None
            }
        }
    }

    /// Reads `key = "…"`, where the text is code: `what`, as `parser` reads it.
    pub(crate) fn parsed<T>(
        &self,
        what: &str,
        parser: fn(ParseStream<'_>) -> syn::Result<T>,
        diag: &mut Diagnostics,
    ) -> Option<T> {
        let literal = self.string(diag)?;
        let parsed = literal.parse_with(parser).ok();
        if parsed.is_none() {
            let (name, example, text) = (self.key.name, self.key.example, literal.value());
            let message = format!("`{name}` wants {what}, and `{text}` is none: write `{example}`");
            diag.error(literal, message);
        }
        parsed
    }

    /// Reads `key(A, B)`, where the words name `what`.
    pub(crate) fn words(&self, what: &str, diag: &mut Diagnostics) -> Vec<Ident> {
        let words = |input: ParseStream<'_>| {
            let content;
            parenthesized!(content in input);
            Punctuated::<Ident, Token![,]>::parse_terminated(&content)
        };
        let rest = skip_value(self.meta.input);
        match words.parse2(rest.clone()) {
            Ok(words) if !words.is_empty() => words.into_iter().collect(),
            _ => {
                let (name, example, path) = (self.key.name, self.key.example, &self.meta.path);
                diag.error(
                    quote!(#path #rest),
                    format!("`{name}` takes {what} in parentheses: write `{example}`"),
                );
                Vec::new()
            }
        }
    }

    /// Reads `key = "word"`, where the word is one of `choices`.
    pub(crate) fn choice<T: Copy>(
        &self,
        choices: &[(&'static str, T)],
        diag: &mut Diagnostics,
    ) -> Option<T> {
        let literal = self.string(diag)?;
        let text = literal.value();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let words = || choices.iter().map(|(word, _)| *word);
        let (name, expected, guess) = (self.key.name, list(words()), guess(&text, words()));
        let message = format!("`{name}` cannot be `{text}`, expected one of {expected}{guess}");
        diag.error(literal, message);
        None
    }

    /// Reads `key = "10m"`; `zero` says whether zero is allowed.
    pub(crate) fn duration(&self, zero: Zero, diag: &mut Diagnostics) -> Option<Duration> {
        let Key { name, example, .. } = self.key;
        let literal = self.quantity("a duration", "s", diag)?;
        let text = literal.value();
        let problem = match humantime::parse_duration(&text) {
            Err(_) => format!(
                "`{text}` is not a duration: write a number and a unit (`ms`, `s`, `m`, `h`, `d`), \
                 as in `{example}`"
            ),
            Ok(duration) if duration.is_zero() => match zero {
                Zero::Allowed => return Some(duration),
                Zero::Refused(instead) => format!("`{name}` cannot be zero: {instead}"),
            },
            Ok(duration) if duration < MIN_DURATION => {
                format!("`{name}` is counted in milliseconds: write `1ms` or more")
            }
            Ok(duration) if duration > MAX_DURATION => {
                format!("`{name}` can be at most 100 days: write `100d` or less")
            }
            Ok(duration) => return Some(duration),
        };
        diag.error(literal, problem);
        None
    }

    /// Reads `key = "1KiB"`, as bytes, and returns the literal too.
    pub(crate) fn size(&self, diag: &mut Diagnostics) -> Option<(usize, LitStr)> {
        let Key { name, example, .. } = self.key;
        let literal = self.quantity("a size", "B", diag)?;
        let text = literal.value();
        let problem = match parse_size(&text) {
            Some(bytes) if bytes <= MAX_COMPRESSED_BYTES => return Some((bytes, literal)),
            Some(_) => format!("`{name}` can be at most 64 MiB: write `64MiB` or less"),
            None => format!(
                "`{text}` is not a size: write a whole number and a unit (`B`, `KiB`, `MiB`), as in \
                 `{example}`"
            ),
        };
        diag.error(literal, problem);
        None
    }

    /// Reads a text that holds `what`: a number and its unit. `unit` is for the example.
    fn quantity(&self, what: &str, unit: &str, diag: &mut Diagnostics) -> Option<LitStr> {
        let Key { name, example, .. } = self.key;
        let other = match self.value(diag)? {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => return Some(text),
            other => other,
        };
        let example = match &other {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) => format!("{name} = \"{}{unit}\"", number.base10_digits()),
            _ => (*example).to_owned(),
        };
        diag.error(
            other,
            format!("`{name}` wants {what} in quotes, with its unit: write `{example}`"),
        );
        None
    }

    /// Reads the expression after `=`.
    pub(crate) fn value(&self, diag: &mut Diagnostics) -> Option<Expr> {
        let Key { name, example, .. } = self.key;
        if !self.meta.input.peek(Token![=]) {
            let rest = skip_value(self.meta.input);
            let path = &self.meta.path;
            diag.error(
                quote!(#path #rest),
                format!("`{name}` wants a value: write `{example}`"),
            );
            return None;
        }
        match self.meta.value().and_then(|value| value.parse()) {
            Ok(Expr::Group(ExprGroup { expr, .. })) => Some(*expr),
            Ok(expr) => Some(expr),
            Err(error) => {
                diag.error_at(
                    error.span(),
                    format!("`{name}` wants a value after the `=`: write `{example}`"),
                );
                skip_value(self.meta.input);
                None
            }
        }
    }
}

/// A size in bytes. A number that is too large for `usize` is the largest `usize`.
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit.trim_start())?;
    let number = match number.parse::<usize>() {
        Ok(number) => number,
        Err(_) if number.is_empty() => return None,
        Err(_) => usize::MAX,
    };
    Some(number.saturating_mul(*bytes))
}

/// Consumes the rest of an option, whatever its shape, up to the comma.
pub(crate) fn skip_value(input: ParseStream<'_>) -> TokenStream {
    let mut rest = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        match input.parse::<TokenTree>() {
            Ok(token) => rest.extend([token]),
            Err(_) => break,
        }
    }
    rest
}

/// The key that `meta` begins with. Reports a word that is none of `keys`, and a second time of a key
/// that is not repeatable.
pub(crate) fn pick(
    meta: &ParseNestedMeta<'_>,
    keys: &'static [Key],
    seen: &mut Vec<&'static str>,
    unknown: impl FnOnce(&str) -> String,
    diag: &mut Diagnostics,
) -> Option<&'static Key> {
    let segments = meta.path.segments.iter();
    let words: Vec<_> = segments.map(|it| it.ident.unraw().to_string()).collect();
    let word = words.join("::");
    let problem = match keys.iter().find(|key| key.name == word) {
        Some(key) if key.repeats || !seen.contains(&key.name) => {
            seen.push(key.name);
            return Some(key);
        }
        Some(_) => format!("`{word}` is given twice: remove one of the two"),
        None => unknown(&word),
    };
    diag.error(&meta.path, problem);
    skip_value(meta.input);
    None
}

/// The error for a word that is none of an option's `settings`.
pub(crate) fn unknown_setting(word: &str, settings: &[Key]) -> String {
    let names = || settings.iter().map(|setting| setting.name);
    let (expected, guess) = (list(names()), guess(word, names()));
    format!("unknown setting `{word}`, expected one of {expected}{guess}")
}
