//! `impl CachedEntity` and `impl Versioned` for the model.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use super::{
    columns, lookups, near,
    tokens::{duration, some},
};
use crate::{
    ir::{Model, Versioning},
    syntax::{OnCacheFailure, Options, RowCodec},
};

pub(super) fn entity(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let schema = columns::schema(model);
    let options = options(&model.options);
    let version = version(model);
    let generated = generated(model);
    let cascades = cascades(model);
    let lookups = lookups::definitions(model);
    let near = model.near.as_ref().map(near::method);
    let encode_and_decode = columns::encode_and_decode(model);
    quote! {
        #[automatically_derived]
        impl __c::CachedEntity for #ident {
            const DEFINITION: __c::Definition = __c::Definition {
                schema: __c::fingerprint(#schema),
                options: #options,
            };

            #version

            #generated

            #cascades

            #lookups

            #near

            #encode_and_decode
        }
    }
}

fn options(options: &Options) -> TokenStream {
    let name = options.name.as_ref().map(|name| quote!(#name));
    let reload = options.reload_after_write.then(|| quote!(true));
    let policy = options.on_cache_failure.map(|policy| match policy {
        OnCacheFailure::Proceed => quote!(__c::OnCacheFailure::Proceed),
        OnCacheFailure::Refuse => quote!(__c::OnCacheFailure::Refuse),
    });
    let codec = match options.codec {
        RowCodec::MessagePack => None,
        RowCodec::Json => Some(quote!(__c::Codec::Json)),
    };
    let compress_above = options.compress_above.as_ref().map(|(bytes, literal)| {
        let bytes = Literal::usize_unsuffixed(*bytes);
        // On the span of the literal: without the feature, rustc points at it.
        let lz4 = quote_spanned!(literal.span()=> __c::Lz4);
        quote!(__c::compress_above::<#lz4>(#bytes))
    });
    let all = [
        ("name", name.map(some)),
        ("ttl", options.ttl.map(duration).map(some)),
        ("negative_ttl", options.negative_ttl.map(duration).map(some)),
        ("stale_ttl", options.stale_ttl.map(duration).map(some)),
        ("on_cache_failure", policy.map(some)),
        ("reload_after_write", reload),
        ("codec", codec),
        ("compress_above", compress_above),
    ];
    // Clippy refuses `..NONE` if no field is left.
    let rest = all
        .iter()
        .any(|(_, value)| value.is_none())
        .then(|| quote!(..__c::EntityOptions::NONE));
    let given = all.iter().filter_map(|(option, value)| {
        let option = format_ident!("{option}");
        value.as_ref().map(|value| quote!(#option: #value,))
    });
    quote!(__c::EntityOptions { #(#given)* #rest })
}

fn version(model: &Model) -> Option<TokenStream> {
    let Versioning::Column(at) = model.versioning else {
        return None;
    };
    let field = &model.fields[at];
    let (ident, ty, variant) = (&field.ident, &field.ty, &field.variant);
    // On the span of the type: if it cannot be a version, rustc points at it.
    let to_version = quote_spanned!(ty.span()=> __c::to_version::<#ty>);
    Some(quote! {
        fn version(&self) -> __c::Option<__c::Version> {
            #to_version(self.#ident)
        }

        fn version_column() -> __c::Option<__c::ColumnOf<Self>> {
            __c::Some(__c::ColumnOf::<Self>::#variant)
        }
    })
}

fn generated(model: &Model) -> Option<TokenStream> {
    let generated = model.columns().filter(|field| field.is_generated);
    let variants: Vec<_> = generated.map(|field| &field.variant).collect();
    (!variants.is_empty()).then(|| {
        quote! {
            fn is_generated(column: &__c::ColumnOf<Self>) -> bool {
                ::core::matches!(column, #(__c::ColumnOf::<Self>::#variants)|*)
            }
        }
    })
}

fn cascades(model: &Model) -> Option<TokenStream> {
    let variants = &model.cascades;
    (!variants.is_empty()).then(|| {
        quote! {
            fn cascades(relation: &__c::RelationOf<Self>) -> bool {
                ::core::matches!(relation, #(__c::RelationOf::<Self>::#variants)|*)
            }
        }
    })
}

pub(super) fn versioned(model: &Model) -> Option<TokenStream> {
    let ident = &model.ident;
    match model.versioning {
        Versioning::None => None,
        Versioning::Column(_) | Versioning::Unknown => Some(quote! {
            #[automatically_derived]
            impl __c::Versioned for #ident {}
        }),
    }
}
