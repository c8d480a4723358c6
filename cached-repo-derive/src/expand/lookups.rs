//! The lookups as the runtime sees them: the methods `lookups` and `ids` of `CachedEntity`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::{columns, tokens::option};
use crate::{
    ir::{Field, Lookup, Model, Term},
    syntax::{LookupKind, Test},
};

pub(super) fn definitions(model: &Model) -> Option<TokenStream> {
    if model.lookups.is_empty() || model.has_errors {
        return None;
    }
    let ident = &model.ident;
    let lookups = model.lookups.iter().map(|it| definition(model, it));
    let new = columns::constructor(model.options.codec, Span::call_site());
    Some(quote! {
        fn lookups() -> &'static [__c::LookupDef<Self>] {
            const LOOKUPS: &[__c::LookupDef<#ident>] = &[#(#lookups),*];
            LOOKUPS
        }

        fn ids() -> __c::Option<__c::Column<__c::Vec<__c::Id<Self>>>> {
            __c::Some(__c::Column::#new("primary key"))
        }
    })
}

fn definition(model: &Model, lookup: &Lookup) -> TokenStream {
    let columns = model.fields_of(lookup).map(|field| column(model, field));
    let columns = quote!(&[#(#columns),*]);
    let definition = match lookup.kind {
        LookupKind::Unique => quote!(__c::unique(#columns)),
        LookupKind::Index { max_rows } => {
            let max_rows = option(max_rows.map(|rows| quote!(#rows)));
            quote!(__c::index(#columns, #max_rows))
        }
    };
    let Some(condition) = &lookup.condition else {
        return definition;
    };
    let terms = condition.terms.iter();
    let terms = terms.map(|it| term(model, it, condition.span));
    quote!(__c::only(#definition, &[#(#terms),*]))
}

/// On the span of the condition: if the column's type does not fit, rustc points at it.
fn term(model: &Model, term: &Term, span: Span) -> TokenStream {
    let ident = &model.ident;
    let Field { ty, variant, .. } = &model.fields[term.field];
    let column = quote!(__c::ColumnOf::<#ident>::#variant);
    match &term.test {
        Test::Null { is_null } => {
            quote_spanned!(span=> __c::null::<#ident, #ty>(#column, #is_null))
        }
        Test::Boolean(value) => {
            quote_spanned!(span=> __c::boolean::<#ident, #ty>(#column, #value))
        }
        Test::Integer { is_equal, number } => {
            quote_spanned!(span=> __c::integer::<#ident, #ty, _>(#column, #is_equal, #number))
        }
        Test::Text { is_equal, text } => {
            quote_spanned!(span=> __c::text::<#ident, #ty, _>(#column, #is_equal, #text))
        }
    }
}

fn column(model: &Model, field: &Field) -> TokenStream {
    let (ident, variant) = (&model.ident, &field.variant);
    let normalize = field.normalize.as_ref().map(|function| {
        // On the span of the literal: if the function does not fit, rustc points at it.
        quote_spanned!(function.span()=> __c::Some(#function))
    });
    let normalize = normalize.unwrap_or_else(|| option(None));
    quote!(__c::by(__c::ColumnOf::<#ident>::#variant, #normalize))
}
