//! The repository: a newtype around the runtime's, so that it can have methods of its own.

use proc_macro2::TokenStream;
use quote::quote;

use super::{finders, tokens::compact};
use crate::ir::Model;

/// The struct.
pub(super) fn definition(model: &Model) -> TokenStream {
    let Model {
        ident,
        vis,
        krate,
        repository,
        ..
    } = model;
    let about = format!(
        " The cached repository of [`{ident}`]; its methods are those of \
         [`cached_repo::Repository`]({krate}::Repository).",
        krate = compact(&quote!(#krate).to_string()),
    );
    quote! {
        #[doc = #about]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #repository(#krate::Repository<#ident>);
    }
}

/// Its methods, and those of the runtime's repository through `Deref`.
pub(super) fn methods(model: &Model) -> TokenStream {
    let Model {
        ident,
        vis,
        repository,
        ..
    } = model;
    let finders = finders::methods(model);
    quote! {
        #[allow(dead_code, reason = "not every program uses every method of a repository")]
        impl #repository {
            /// Opens the repository of a database.
            #[must_use]
            #vis fn new(db: &__c::CachedDb) -> Self {
                Self(__c::Repository::new(db))
            }

            /// The same repository inside a transaction.
            #[must_use]
            #vis fn on(&self, tx: &__c::Transaction) -> Self {
                Self(self.0.on(tx))
            }

            /// The same repository with other settings for its reads.
            #[must_use]
            #vis fn with(&self, options: __c::ReadOptions) -> Self {
                Self(self.0.with(options))
            }

            /// The same repository; its reads ask the database and repair the cache.
            #[must_use]
            #vis fn fresh(&self) -> Self {
                Self(self.0.fresh())
            }

            #(#finders)*
        }

        #[automatically_derived]
        impl ::core::ops::Deref for #repository {
            type Target = __c::Repository<#ident>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    }
}
