//! The methods of the repository that find rows by a lookup.

use std::iter;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, Type, ext::IdentExt};

use crate::{
    diag::list,
    ir::{Field, Lookup, Model},
    syntax::LookupKind,
    types::{inner_of_option, is_string},
};

/// The methods of all lookups.
pub(super) fn methods(model: &Model) -> Vec<TokenStream> {
    let finders = model.lookups.iter().enumerate().map(|(at, lookup)| Finder {
        model,
        at,
        lookup,
        fields: model.fields_of(lookup).collect(),
    });
    finders.flat_map(|finder| finder.methods()).collect()
}

struct Finder<'a> {
    model: &'a Model,
    /// The position of the lookup in the model.
    at: usize,
    lookup: &'a Lookup,
    fields: Vec<&'a Field>,
}

impl Finder<'_> {
    fn methods(&self) -> Vec<TokenStream> {
        let many = self.lookup.method_for_many();
        let many = many.map(|name| self.find_each(&format_ident!("{name}")));
        iter::once(self.find()).chain(many).collect()
    }

    /// The method that takes one value of each column.
    fn find(&self) -> TokenStream {
        let (vis, model, at) = (&self.model.vis, &self.model.ident, self.at);
        let (name, columns) = (format_ident!("{}", self.lookup.method()), self.columns());
        let condition = self.condition();
        let (about, found, function) = match self.lookup.kind {
            LookupKind::Unique => (
                format!(
                    " Reads the row with this {columns}{condition} through the cache; `None` if there is \
                     none."
                ),
                quote!(__c::Option<__c::Cached<#model>>),
                quote!(find_one),
            ),
            LookupKind::Index { .. } => (
                format!(
                    " Reads the rows with this {columns}{condition} through the cache, ordered by \
                     primary key."
                ),
                quote!(__c::Vec<__c::Cached<#model>>),
                quote!(find_all),
            ),
        };
        let arguments = self.fields.iter().map(|field| {
            let (ident, ty) = (&field.ident, argument_type(self.sought(field)));
            quote!(#ident: #ty)
        });
        let values = self.fields.iter().map(|field| self.value(field));
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// When the database fails.
            #vis async fn #name(&self, #(#arguments),*) -> __c::Result<#found, __c::ReadError> {
                let values = __c::values([#(#values),*]);
                __c::#function(&self.0, #at, values).await
            }
        }
    }

    /// The method that takes many values, or many tuples of values.
    fn find_each(&self, name: &Ident) -> TokenStream {
        let (vis, model, at) = (&self.model.vis, &self.model.ident, self.at);
        let about = format!(
            " Reads the rows with these {}{} through the cache, in the order asked: one request to the \
             cache, and one statement for the rows that it does not have.",
            self.columns(),
            self.condition()
        );
        let types: Vec<_> = self.fields.iter().map(|field| self.sought(field)).collect();
        let names: Vec<_> = self.fields.iter().map(|field| &field.ident).collect();
        let (item, pattern) = match (&types[..], &names[..]) {
            ([ty], [name]) => (argument_type(ty), quote!(#name)),
            _ => (quote!((#(#types),*)), quote!((#(#names),*))),
        };
        let values = self.fields.iter().map(|field| self.value(field));
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// When the database fails.
            #vis async fn #name(
                &self,
                values: impl __c::IntoIterator<Item = #item>,
            ) -> __c::Result<__c::Vec<__c::Option<__c::Cached<#model>>>, __c::ReadError> {
                let values = __c::each(values, |#pattern| [#(#values),*]);
                __c::find_each(&self.0, #at, values).await
            }
        }
    }

    /// The names of the columns, for the docs.
    fn columns(&self) -> String {
        list(self.fields.iter().map(|field| field.ident.unraw()))
    }

    /// The condition, for the docs.
    fn condition(&self) -> String {
        let condition = self.lookup.condition.as_ref();
        condition.map_or_else(String::new, |it| format!(" among those with `{}`", it.text))
    }

    /// The type of an argument. A unique lookup cannot search for NULL, which is equal to nothing.
    fn sought<'f>(&self, field: &'f Field) -> &'f Type {
        match (self.lookup.kind, inner_of_option(&field.ty)) {
            (LookupKind::Unique, Some(inner)) => inner,
            _ => &field.ty,
        }
    }

    /// The value of an argument, for SeaORM.
    fn value(&self, field: &Field) -> TokenStream {
        let (ident, ty) = (&field.ident, self.sought(field));
        quote!(__c::value::<#ty>(#ident))
    }
}

/// Texts are taken in any form, and optional values with or without `Some`.
fn argument_type(ty: &Type) -> TokenStream {
    if is_string(ty) || inner_of_option(ty).is_some() {
        quote!(impl __c::Into<#ty>)
    } else {
        quote!(#ty)
    }
}
