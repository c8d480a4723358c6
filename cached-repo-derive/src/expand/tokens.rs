//! Tokens that several parts of the expansion are made of.

use std::time::Duration;

use proc_macro2::{Literal, TokenStream};
use quote::quote;

pub(super) fn some(value: TokenStream) -> TokenStream {
    quote!(__c::Some(#value))
}

pub(super) fn option(value: Option<TokenStream>) -> TokenStream {
    value.map_or_else(|| quote!(__c::None), some)
}

pub(super) fn duration(duration: Duration) -> TokenStream {
    if duration.subsec_nanos() == 0 {
        let seconds = Literal::u64_unsuffixed(duration.as_secs());
        quote!(__c::Duration::from_secs(#seconds))
    } else {
        let millis = Literal::u128_unsuffixed(duration.as_millis());
        quote!(__c::Duration::from_millis(#millis))
    }
}

/// Tokens without the spaces that the compiler prints between them, which differ from one compiler to
/// the next. Only the spaces between two words stay.
pub(crate) fn compact(tokens: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut text = String::with_capacity(tokens.len());
    for word in tokens.split_whitespace() {
        if text.ends_with(is_word) && word.starts_with(is_word) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}
