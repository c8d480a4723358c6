//! The options of the near cache: the method `near` of `CachedEntity`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::tokens::{duration, option};
use crate::syntax::{Capacity, NearAttr};

pub(super) fn method(near: &NearAttr) -> TokenStream {
    let capacity = option(near.capacity.map(|capacity| match capacity {
        Capacity::Entries(entries) => quote!(__c::NearCapacity::Entries(#entries)),
        Capacity::Bytes(bytes) => quote!(__c::NearCapacity::Bytes(#bytes)),
    }));
    let ttl = option(near.ttl.map(duration));
    // On the span of the option: if the key cannot be in a near cache, rustc points at it.
    let options = quote_spanned! {near.span=>
        __c::NearOptions::<__c::Id<Self>, Self>::new(#capacity, #ttl)
    };
    quote! {
        fn near() -> __c::Option<__c::NearOptions<__c::Id<Self>, Self>> {
            __c::Some(#options)
        }
    }
}
