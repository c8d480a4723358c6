//! `near` as it is written: `near`, `near(capacity = 10_000, ttl = "5s")`, `near(capacity = "16MiB")`.

use std::{num::NonZeroU64, time::Duration};

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Expr, ExprLit, Lit, spanned::Spanned, token::Paren};

use crate::{
    diag::{Diagnostics, did_you_mean, list},
    expand::{duration, some},
    option::{Given, Key, Zero, key, parse_size, path_text, skip_value},
};

const SETTINGS: &[Key] = &[
    key("capacity", "capacity = 10_000"),
    key("ttl", "ttl = \"5s\""),
];

/// Less is too little for the shards that it is divided into.
const LEAST_BYTES: usize = 64 * 1024;
const WANTED: &str = "`capacity` wants a number of entries, or a size in quotes: write \
                      `capacity = 10_000` or `capacity = \"16MiB\"`";

/// The near cache that is asked for.
pub(crate) struct Near {
    span: Span,
    capacity: Option<Capacity>,
    ttl: Option<Duration>,
}

#[derive(Clone, Copy)]
enum Capacity {
    Entries(u64),
    Bytes(u64),
}

/// Reads the settings of `near`.
pub(crate) fn near(given: &Given<'_>, diag: &mut Diagnostics) -> Near {
    let mut near = Near {
        span: given.meta.path.span(),
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
    let mut seen: Vec<&str> = Vec::new();
    let parsed = given.meta.parse_nested_meta(|meta| {
        let word = path_text(&meta.path);
        let setting = SETTINGS.iter().find(|setting| setting.name == word);
        match setting {
            Some(key) if !seen.contains(&key.name) => {
                seen.push(key.name);
                near.setting(&Given { key, meta: &meta }, diag);
            }
            Some(_) => {
                let message = format!("`{word}` is given twice: remove one of the two");
                diag.error(&meta.path, message);
                skip_value(meta.input);
            }
            None => {
                diag.error(&meta.path, unknown(&word));
                skip_value(meta.input);
            }
        }
        Ok(())
    });
    if let Err(error) = parsed {
        let message = format!("`near` takes settings with commas between them: write `{example}`");
        diag.error_at(error.span(), message);
    }
    near
}

fn unknown(word: &str) -> String {
    let names = || SETTINGS.iter().map(|setting| setting.name);
    let hint = match did_you_mean(word, names()) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    };
    let expected = list(names());
    format!("unknown setting `{word}`, expected one of {expected}{hint}")
}

/// Reads a number of entries, or a size.
fn capacity(given: &Given<'_>, diag: &mut Diagnostics) -> Option<Capacity> {
    let value = given.value(diag)?;
    let Expr::Lit(ExprLit { lit, .. }) = &value else {
        diag.error(value, WANTED);
        return None;
    };
    let problem = match lit {
        Lit::Int(number) => match number.base10_parse::<NonZeroU64>() {
            Ok(entries) => return Some(Capacity::Entries(entries.get())),
            Err(_) => WANTED,
        },
        Lit::Str(text) => match parse_size(&text.value()) {
            Some(bytes) if bytes >= LEAST_BYTES => return Some(Capacity::Bytes(bytes as u64)),
            Some(_) => "a near cache of so few bytes keeps next to nothing: write `64KiB` or more",
            None => WANTED,
        },
        _ => WANTED,
    };
    diag.error(lit, problem);
    None
}

impl Near {
    fn setting(&mut self, given: &Given<'_>, diag: &mut Diagnostics) {
        if given.key.name == "ttl" {
            let instead = "remove `near` to have no near cache";
            self.ttl = given.duration(Zero::Refused(instead), diag);
            return;
        }
        self.capacity = capacity(given, diag);
    }

    /// The method of `CachedEntity`. On the option's span: if the key does not fit, rustc points
    /// at it.
    pub(crate) fn method(&self) -> TokenStream {
        let capacity = self.capacity.map(|capacity| match capacity {
            Capacity::Entries(entries) => quote!(__cached::NearCapacity::Entries(#entries)),
            Capacity::Bytes(bytes) => quote!(__cached::NearCapacity::Bytes(#bytes)),
        });
        let optional = |value: Option<TokenStream>| match value {
            Some(value) => some(value),
            None => quote!(::core::option::Option::None),
        };
        let (capacity, ttl) = (optional(capacity), optional(self.ttl.map(duration)));
        let options = quote_spanned! {self.span=>
            __cached::NearOptions::<__cached::Id<Self>, Self>::new(#capacity, #ttl)
        };
        quote! {
            fn near() -> ::core::option::Option<__cached::NearOptions<__cached::Id<Self>, Self>> {
                ::core::option::Option::Some(#options)
            }
        }
    }
}
