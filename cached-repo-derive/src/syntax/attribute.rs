//! The attribute `#[cached(…)]`: which options it has, where each may stand, and the errors for
//! everything else.
//!
//! Does not read the values of options.

use syn::{Attribute, Meta};

use super::option::{Given, Key, key, pick};
use crate::diag::{Diagnostics, did_you_mean, list};

const MODEL_KEYS: &[Key] = &[
    key("ttl", "ttl = \"10m\""),
    key("negative_ttl", "negative_ttl = \"30s\""),
    key("stale_ttl", "stale_ttl = \"1m\""),
    key("on_cache_failure", "on_cache_failure = \"refuse\""),
    key("near", "near(capacity = 10_000, ttl = \"5s\")"),
    key("name", "name = \"user\""),
    key("reload_after_write", "reload_after_write"),
    key("cascades", "cascades(Posts)"),
    key("codec", "codec = \"json\""),
    key("compress_above", "compress_above = \"1KiB\""),
    key("repository", "repository = \"Users\""),
    key("unique", "unique(team_id, name)").repeatable(),
    key("index", "index(team_id, active)").repeatable(),
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
#[derive(Clone, Copy, PartialEq, Eq)]
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
}

pub(crate) fn is_cached(attr: &Attribute) -> bool {
    attr.path().is_ident("cached")
}

/// Calls `read` for every known option of the `#[cached(…)]` among `attrs`. An option that is given
/// twice is an error, unless it is repeatable.
pub(crate) fn for_each(
    attrs: &[Attribute],
    level: Level,
    diag: &mut Diagnostics,
    mut read: impl FnMut(&Given<'_>, &mut Diagnostics),
) {
    let example = level.keys()[0].example;
    let mut seen = Vec::new();
    for attr in attrs.iter().filter(|attr| is_cached(attr)) {
        let Meta::List(_) = &attr.meta else {
            let message =
                format!("`cached` takes its options in parentheses: write `#[cached({example})]`");
            diag.error(&attr.meta, message);
            continue;
        };
        let parsed = attr.parse_nested_meta(|meta| {
            let unknown = |word: &str| unknown(level, word);
            if let Some(key) = pick(&meta, level.keys(), &mut seen, unknown, diag) {
                read(&Given { key, meta: &meta }, diag);
            }
            Ok(())
        });
        if let Err(error) = parsed {
            let message =
                format!("expected options with commas between them: write `#[cached({example})]`");
            diag.error_at(error.span(), message);
        }
    }
}

/// The error for a word that is no option on this level.
fn unknown(level: Level, word: &str) -> String {
    let (place, other) = (level.place(), level.other());
    if let Some(Key { name, example, .. }) = other.find(word) {
        let there = other.place();
        return format!("`{name}` belongs {there}: write `#[cached({example})]` there");
    }
    let names = |level: Level| level.keys().iter().map(|key| key.name);
    let guess = match did_you_mean(word, names(level).chain(names(other))) {
        None => String::new(),
        Some(meant) => match other.find(meant) {
            None => format!("; did you mean `{meant}`?"),
            Some(_) => format!("; did you mean `{meant}`, which belongs {}?", other.place()),
        },
    };
    let expected = list(names(level));
    format!("unknown option `{word}` {place}, expected one of {expected}{guess}")
}
