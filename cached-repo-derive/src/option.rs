//! The syntax of options: `flag`, `key = "value"`, where each may stand, and what is said about
//! anything else.
//!
//! Knows the names of the options and how to read a value; what a value means is `attr.rs`'s.

use std::time::Duration;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprGroup, ExprLit, Ident, Lit, LitStr, Meta, Path, Token,
    meta::ParseNestedMeta, parse::ParseStream,
};

use crate::diag::{Diagnostics, did_you_mean, list};

/// Longer than any cache entry should live; keeps milliseconds far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// The units of sizes, in bytes.
const SIZES: &[(&str, usize)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
/// No larger row is compressed: `MAX_ROW_BYTES` in the runtime.
const MAX_COMPRESSED_BYTES: usize = 64 * 1024 * 1024;
/// The cache counts in milliseconds.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// An option and how it is written.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    /// Whether it may be given several times.
    repeats: bool,
}

pub(crate) const fn key(name: &'static str, example: &'static str) -> Key {
    Key {
        name,
        example,
        repeats: false,
    }
}

const fn list_of(name: &'static str, example: &'static str) -> Key {
    Key {
        name,
        example,
        repeats: true,
    }
}

const MODEL_KEYS: &[Key] = &[
    key("ttl", "ttl = \"10m\""),
    key("negative_ttl", "negative_ttl = \"30s\""),
    key("stale_ttl", "stale_ttl = \"1m\""),
    key("on_cache_failure", "on_cache_failure = \"refuse\""),
    key("near", "near(capacity = 10_000, ttl = \"5s\")"),
    key("name", "name = \"user\""),
    key("reload_after_write", "reload_after_write"),
    key("codec", "codec = \"json\""),
    key("compress_above", "compress_above = \"1KiB\""),
    key("repository", "repository = \"Users\""),
    list_of("unique", "unique(team_id, name)"),
    list_of("index", "index(team_id, active)"),
    key("crate", "crate = \"path::to::cached_repo\""),
];

const FIELD_KEYS: &[Key] = &[
    key("version", "version"),
    key("unique", "unique"),
    key("index", "index"),
    key("normalize", "normalize = \"str::to_lowercase\""),
    key("with", "with = \"module\""),
    key("generated", "generated"),
];

/// Where a `#[cached(…)]` stands.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Model,
    Field,
}

impl Level {
    fn keys(self) -> &'static [Key] {
        match self {
            Self::Model => MODEL_KEYS,
            Self::Field => FIELD_KEYS,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Model => Self::Field,
            Self::Field => Self::Model,
        }
    }

    fn place(self) -> &'static str {
        match self {
            Self::Model => "on the struct",
            Self::Field => "on a field",
        }
    }

    fn find(self, word: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == word)
    }

    fn example(self) -> &'static str {
        self.keys()[0].example
    }
}

pub(crate) fn is_cached(attr: &Attribute) -> bool {
    attr.path().is_ident("cached")
}

/// Calls `read` with every known option of the `#[cached(…)]` among `attrs`, each at most once.
pub(crate) fn for_each(
    attrs: &[Attribute],
    level: Level,
    diag: &mut Diagnostics,
    mut read: impl FnMut(&Given<'_>, &mut Diagnostics),
) {
    let mut seen: Vec<&str> = Vec::new();
    for attr in attrs.iter().filter(|attr| is_cached(attr)) {
        let Meta::List(_) = &attr.meta else {
            diag.error(
                &attr.meta,
                format!(
                    "`cached` takes its options in parentheses: write `#[cached({})]`",
                    level.example()
                ),
            );
            continue;
        };
        let parsed = attr.parse_nested_meta(|meta| {
            let word = path_text(&meta.path);
            match level.find(&word) {
                None => {
                    unknown(level, &word, &meta.path, diag);
                    skip_value(meta.input);
                }
                Some(key) if !key.repeats && seen.contains(&key.name) => {
                    diag.error(
                        &meta.path,
                        format!("`{word}` is given twice: remove one of the two"),
                    );
                    skip_value(meta.input);
                }
                Some(key) => {
                    seen.push(key.name);
                    read(&Given { key, meta: &meta }, diag);
                }
            }
            Ok(())
        });
        if let Err(error) = parsed {
            diag.error_at(
                error.span(),
                format!(
                    "expected options with commas between them: write `#[cached({})]`",
                    level.example()
                ),
            );
        }
    }
}

fn unknown(level: Level, word: &str, path: &Path, diag: &mut Diagnostics) {
    let other = level.other();
    let misplaced = |key: &Key| {
        format!(
            "`{}` belongs {}: write `#[cached({})]` there",
            key.name,
            other.place(),
            key.example
        )
    };
    let names = |level: Level| level.keys().iter().map(|key| key.name);
    let message = if let Some(key) = other.find(word) {
        misplaced(key)
    } else {
        let expected = list(names(level));
        let hint = match did_you_mean(word, names(level).chain(names(other))) {
            None => String::new(),
            Some(meant) => match other.find(meant) {
                None => format!("; did you mean `{meant}`?"),
                Some(_) => format!("; did you mean `{meant}`, which belongs {}?", other.place()),
            },
        };
        format!(
            "unknown option `{word}` {}, expected one of {expected}{hint}",
            level.place()
        )
    };
    diag.error(path, message);
}

/// A known option, its value not yet read.
pub(crate) struct Given<'a> {
    pub(crate) key: &'static Key,
    pub(crate) meta: &'a ParseNestedMeta<'a>,
}

impl Given<'_> {
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

    /// Reads `key = "word"`, where the word is one of a few.
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
        let hint = did_you_mean(&text, words())
            .map(|meant| format!("; did you mean `{meant}`?"))
            .unwrap_or_default();
        let (name, expected) = (self.key.name, list(words()));
        let message = format!("`{name}` cannot be `{text}`, expected one of {expected}{hint}");
        diag.error(literal, message);
        None
    }

    /// Reads `key = "10m"`; `zero` says whether zero means something.
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

    /// Reads `key = "1KiB"`; with it, the literal.
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

    /// Reads a text that holds a number and its `unit`.
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

    /// The expression after `=`.
    pub(crate) fn value(&self, diag: &mut Diagnostics) -> Option<Expr> {
        let Key { name, example, .. } = self.key;
        if !self.meta.input.peek(Token![=]) {
            let rest = skip_value(self.meta.input);
            let path = &self.meta.path;
            diag.error(
                quote::quote!(#path #rest),
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

/// A size in bytes; too large to count is the largest.
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

/// Whether a duration may be zero, and what to write instead.
#[derive(Clone, Copy)]
pub(crate) enum Zero {
    Allowed,
    Refused(&'static str),
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

pub(crate) fn path_text(path: &Path) -> String {
    let segments: Vec<String> = path
        .segments
        .iter()
        .map(|it| ident_text(&it.ident))
        .collect();
    segments.join("::")
}

fn ident_text(ident: &Ident) -> String {
    syn::ext::IdentExt::unraw(ident).to_string()
}
