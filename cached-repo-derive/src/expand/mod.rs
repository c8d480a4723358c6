//! From the model to tokens: data and thin wrappers. The behaviour is in the runtime.
//!
//! Names in the scope of the model cannot change the meaning of the expansion. Every path is absolute
//! or begins with `__c`, an import of the runtime's module for generated code. The import and all
//! impls are inside an anonymous constant, which hides the import and does not hide the methods. `__c`
//! is short because it is in every line.
//!
//! `tests/expansion/` has the expansions of two models.

mod columns;
mod entity;
mod finders;
mod lookups;
mod near;
mod repository;
mod tokens;

use proc_macro2::TokenStream;
use quote::quote;

use crate::ir::Model;

#[cfg(test)]
pub(crate) use self::tokens::compact;

/// Expands a model to its impls and its repository.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let krate = &model.krate;
    let repository = repository::definition(model);
    let columns = columns::constants(model);
    let entity = entity::entity(model);
    let versioned = entity::versioned(model);
    let methods = repository::methods(model);
    quote! {
        #repository

        const _: () = {
            use #krate::__private as __c;
            #columns
            #entity
            #versioned
            #methods
        };
    }
}
