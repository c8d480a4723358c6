//! The expansion of lookups: their definitions for the runtime, and the methods that find by them.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Path, Type, ext::IdentExt, spanned::Spanned};

use crate::{
    attr::last_segment,
    diag::list,
    lookup::{Kind, Lookup, inner_of_option},
    model::{Field, Model},
};

/// The runtime's view of the lookups.
pub(crate) fn definitions(model: &Model) -> TokenStream {
    if model.lookups.is_empty() || model.mistaken {
        return TokenStream::new();
    }
    let lookups = model.lookups.iter().map(|lookup| {
        let columns = lookup.fields.iter().map(|&at| column(&model.fields[at]));
        let kind = match lookup.kind {
            Kind::Unique => quote!(Unique),
            Kind::Index { max_rows: None } => {
                quote!(Index {
                    max_rows: ::core::option::Option::None
                })
            }
            Kind::Index {
                max_rows: Some(rows),
            } => quote!(Index { max_rows: ::core::option::Option::Some(#rows) }),
        };
        quote! {
            __cached::LookupDef {
                columns: &[#(#columns),*],
                kind: __cached::LookupKind::#kind,
            }
        }
    });
    let new = model.attrs.codec.column(Span::call_site());
    quote! {
        fn lookups() -> &'static [__cached::LookupDef<Self>] {
            &[#(#lookups),*]
        }

        fn ids() -> ::core::option::Option<
            __cached::Column<::std::vec::Vec<__cached::Id<Self>>>,
        > {
            ::core::option::Option::Some(__cached::Column::#new("primary key"))
        }
    }
}

fn column(field: &Field) -> TokenStream {
    let variant = field.variant();
    let function = field.attrs.normalize.as_ref();
    let normalize = match function.and_then(|normalize| normalize.function.as_ref()) {
        // On the literal's span: if the function does not fit, rustc points at it.
        Some(function) => quote_spanned!(function.span()=> ::core::option::Option::Some(#function)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        __cached::LookupColumn {
            column: __cached::ColumnOf::<Self>::#variant,
            normalize: #normalize,
        }
    }
}

/// The methods of the repository.
pub(crate) fn methods(model: &Model, krate: &Path) -> TokenStream {
    if model.lookups.is_empty() {
        return TokenStream::new();
    }
    let repository = model.repository();
    let methods = model.lookups.iter().enumerate().map(|(at, lookup)| {
        let method = Method {
            model,
            krate,
            at,
            lookup,
        };
        match lookup.kind {
            Kind::Unique => {
                let (one, many) = (method.one(), method.many());
                quote!(#one #many)
            }
            Kind::Index { .. } => method.all(),
        }
    });
    quote! {
        #[allow(dead_code, reason = "not every program finds rows by everything they are found by")]
        impl #repository {
            #(#methods)*
        }
    }
}

struct Method<'a> {
    model: &'a Model,
    krate: &'a Path,
    at: usize,
    lookup: &'a Lookup,
}

impl Method<'_> {
    fn one(&self) -> TokenStream {
        let (vis, model, krate) = (&self.model.vis, &self.model.ident, self.krate);
        let (at, name) = (self.at, format_ident!("find_by_{}", self.lookup.name));
        let (arguments, values) = self.arguments();
        let about = format!(
            " Reads the row with this {} through the cache; `None` if there is none.",
            self.columns()
        );
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// When the database fails.
            #vis async fn #name(
                &self,
                #(#arguments),*
            ) -> ::core::result::Result<
                ::core::option::Option<#krate::Cached<#model>>,
                #krate::ReadError,
            > {
                let values = ::std::vec::Vec::from([#(#values),*]);
                #krate::__private::find_one(&self.0, #at, values).await
            }
        }
    }

    fn many(&self) -> TokenStream {
        let (vis, model, krate) = (&self.model.vis, &self.model.ident, self.krate);
        let (at, name) = (self.at, format_ident!("find_by_{}s", self.lookup.name));
        let about = format!(
            " Reads the rows with these {} through the cache, in the order asked: one question to \
             the cache, and one statement for the rows that it does not know.",
            self.columns()
        );
        let types: Vec<_> = self.types().collect();
        let names: Vec<_> = self.fields().map(|field| &field.ident).collect();
        let (item, pattern, values) = match (&types[..], &names[..]) {
            ([ty], [name]) => (argument_type(ty), quote!(#name), vec![self.value(name, ty)]),
            _ => {
                let exact = |name| self.value_of(&quote!(#name));
                let values = names.iter().map(exact).collect();
                (quote!((#(#types),*)), quote!((#(#names),*)), values)
            }
        };
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// When the database fails.
            #vis async fn #name(
                &self,
                values: impl ::core::iter::IntoIterator<Item = #item>,
            ) -> ::core::result::Result<
                ::std::vec::Vec<::core::option::Option<#krate::Cached<#model>>>,
                #krate::ReadError,
            > {
                let values = ::core::iter::IntoIterator::into_iter(values);
                let values = ::core::iter::Iterator::map(
                    values,
                    |#pattern| ::std::vec::Vec::from([#(#values),*]),
                );
                let values = ::core::iter::Iterator::collect(values);
                #krate::__private::find_each(&self.0, #at, values).await
            }
        }
    }

    fn all(&self) -> TokenStream {
        let (vis, model, krate) = (&self.model.vis, &self.model.ident, self.krate);
        let (at, name) = (self.at, format_ident!("find_all_by_{}", self.lookup.name));
        let (arguments, values) = self.arguments();
        let about = format!(
            " Reads the rows with this {} through the cache, ordered by primary key.",
            self.columns()
        );
        quote! {
            #[doc = #about]
            ///
            /// # Errors
            /// When the database fails.
            #vis async fn #name(
                &self,
                #(#arguments),*
            ) -> ::core::result::Result<
                ::std::vec::Vec<#krate::Cached<#model>>,
                #krate::ReadError,
            > {
                let values = ::std::vec::Vec::from([#(#values),*]);
                #krate::__private::find_all(&self.0, #at, values).await
            }
        }
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.lookup.fields.iter().map(|&at| &self.model.fields[at])
    }

    fn columns(&self) -> String {
        let names: Vec<_> = self
            .fields()
            .map(|field| field.ident.unraw().to_string())
            .collect();
        list(names.iter().map(String::as_str))
    }

    fn types(&self) -> impl Iterator<Item = &Type> {
        self.fields().map(|field| sought(field, self.lookup.kind))
    }

    /// The parameters, and the values made of them.
    fn arguments(&self) -> (Vec<TokenStream>, Vec<TokenStream>) {
        let argument = |(field, ty): (&Field, &Type)| {
            let (ident, argument) = (&field.ident, argument_type(ty));
            (quote!(#ident: #argument), self.value(ident, ty))
        };
        self.fields().zip(self.types()).map(argument).unzip()
    }

    /// The value of a parameter.
    fn value(&self, ident: &Ident, ty: &Type) -> TokenStream {
        if argument_is_generic(ty) {
            self.value_of(&quote!(::core::convert::Into::<#ty>::into(#ident)))
        } else {
            self.value_of(&quote!(#ident))
        }
    }

    fn value_of(&self, of: &TokenStream) -> TokenStream {
        let krate = self.krate;
        quote!(::core::convert::Into::<#krate::__private::Value>::into(#of))
    }
}

/// Texts are taken in any form, and optional values with or without `Some`.
fn argument_type(ty: &Type) -> TokenStream {
    if argument_is_generic(ty) {
        quote!(impl ::core::convert::Into<#ty>)
    } else {
        quote!(#ty)
    }
}

fn argument_is_generic(ty: &Type) -> bool {
    inner_of_option(ty).is_some() || last_segment(ty).is_some_and(|name| name == "String")
}

/// What is asked for: a unique column is never searched for NULL, which is equal to nothing.
fn sought(field: &Field, kind: Kind) -> &Type {
    match (kind, inner_of_option(&field.ty)) {
        (Kind::Unique, Some(inner)) => inner,
        _ => &field.ty,
    }
}
