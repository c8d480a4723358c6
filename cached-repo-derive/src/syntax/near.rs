//! `near` as it is written: `near`, `near(capacity = 10_000, ttl = "5s")`, `near(capacity = "16MiB")`.

use std::{num::NonZeroU64, time::Duration};

use proc_macro2::Span;
use syn::{Expr, ExprLit, Lit, token::Paren};

use super::option::{Given, Key, Zero, key, parse_size, pick, skip_value, unknown_setting};
use crate::diag::Diagnostics;

const SETTINGS: &[Key] = &[
    key("capacity", "capacity = 10_000"),
    key("ttl", "ttl = \"5s\""),
];

/// A near cache is divided into shards: each needs room for some rows.
const MIN_BYTES: usize = 64 * 1024;
const EXPECTED: &str = "`capacity` wants a number of entries, or a size in quotes: write \
                        `capacity = 10_000` or `capacity = \"16MiB\"`";

/// The options of the near cache.
#[derive(Clone)]
pub(crate) struct NearAttr {
    pub(crate) span: Span,
    pub(crate) capacity: Option<Capacity>,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Copy)]
pub(crate) enum Capacity {
    Entries(u64),
    Bytes(u64),
}

/// Reads the settings of `near`.
pub(crate) fn read(given: &Given<'_>, diag: &mut Diagnostics) -> NearAttr {
    let mut near = NearAttr {
        span: given.span(),
        capacity: None,
        ttl: None,
    };
    let example = given.key.example;
    if !given.meta.input.peek(Paren) {
        let rest = skip_value(given.meta.input);
        if !rest.is_empty() {
            let message =
                format!("`near` takes its settings in parentheses: write `{example}`, or `near`");
            diag.error(rest, message);
        }
        return near;
    }
    let mut seen = Vec::new();
    let parsed = given.meta.parse_nested_meta(|meta| {
        let unknown = |word: &str| unknown_setting(word, SETTINGS);
        match pick(&meta, SETTINGS, &mut seen, unknown, diag).map(|key| Given { key, meta: &meta })
        {
            Some(given) if given.key.name == "ttl" => {
                let instead = "remove `near` to have no near cache";
                near.ttl = given.duration(Zero::Refused(instead), diag);
            }
            Some(given) => near.capacity = capacity(&given, diag),
            None => {}
        }
        Ok(())
    });
    if let Err(error) = parsed {
        let message = format!("`near` takes settings with commas between them: write `{example}`");
        diag.error_at(error.span(), message);
    }
    near
}

/// Reads a number of entries, or a size.
fn capacity(given: &Given<'_>, diag: &mut Diagnostics) -> Option<Capacity> {
    let value = given.value(diag)?;
    let Expr::Lit(ExprLit { lit, .. }) = &value else {
        diag.error(value, EXPECTED);
        return None;
    };
    let problem = match lit {
        Lit::Int(number) => match number.base10_parse::<NonZeroU64>() {
            Ok(entries) => return Some(Capacity::Entries(entries.get())),
            Err(_) => EXPECTED,
        },
        Lit::Str(text) => match parse_size(&text.value()) {
            Some(bytes) if bytes >= MIN_BYTES => return Some(Capacity::Bytes(bytes as u64)),
            Some(_) => "a near cache of so few bytes keeps next to nothing: write `64KiB` or more",
            None => EXPECTED,
        },
        _ => EXPECTED,
    };
    diag.error(lit, problem);
    None
}
