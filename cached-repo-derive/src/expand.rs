//! The expansion: data and thin wrappers, spelt with absolute paths only, so that nothing in
//! the model's scope can change its meaning; the one name it brings in, `__cached`, stays inside
//! an anonymous constant.
//!
//! `tests/expansion/user.rs` shows it whole.

use std::time::Duration;

use proc_macro2::{Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Path, parse_quote, spanned::Spanned};

use crate::{
    attr::{OnCacheFailure, RowCodec},
    finders,
    model::{Codec, Field, Model, Versioning},
    near::Near,
};

/// Expands a model to its impls and its repository.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let expand = Expand::new(model);
    let krate = &expand.krate;
    let columns = expand.columns();
    let entity = expand.entity();
    let versioned = expand.versioned();
    let repository = expand.repository();
    let finders = finders::methods(model, krate);
    quote! {
        const _: () = {
            use #krate::__private as __cached;
            #columns
            #entity
            #versioned
        };
        #repository
        #finders
    }
}

struct Expand<'a> {
    model: &'a Model,
    /// `::cached_repo`, or what `crate = "…"` says.
    krate: Path,
}

impl<'a> Expand<'a> {
    fn new(model: &'a Model) -> Self {
        let krate = match &model.attrs.krate {
            Some(path) => path.clone(),
            None => parse_quote!(::cached_repo),
        };
        Self { model, krate }
    }

    /// One constant per column, named like the field. They are associated constants because a
    /// free one could be taken for something that a field's type names.
    fn columns(&self) -> TokenStream {
        let columns = self.model.columns().map(|field| self.column(field));
        quote! {
            struct __Columns;

            #[allow(non_upper_case_globals, reason = "a column is named like its field")]
            impl __Columns {
                #(#columns)*
            }
        }
    }

    fn column(&self, field: &Field) -> TokenStream {
        let Field { ident, ty, .. } = field;
        let name = field.column();
        let row = self.model.attrs.codec;
        let codec = match &field.codec {
            // On the type's span: if it has no serde, rustc points at it.
            Codec::Serde => {
                let new = row.column(ty.span());
                quote_spanned!(ty.span()=> __cached::Column::<#ty>::#new(#name))
            }
            // On the literal's span: if a function is missing or wrong, rustc points at it.
            Codec::With(module) => {
                let with = row.column_with(module.span());
                quote_spanned! {module.span()=>
                    __cached::Column::#with(
                        #name,
                        |value, out| #module::serialize(value, out),
                        |input| #module::deserialize(input),
                    )
                }
            }
            Codec::Ignored => return TokenStream::new(),
            Codec::Unknown => {
                let with = row.column_with(Span::call_site());
                quote! {
                    __cached::Column::#with(
                        #name,
                        |_, _| ::core::unreachable!(),
                        |_| ::core::unreachable!(),
                    )
                }
            }
        };
        quote! {
            const #ident: __cached::Column<#ty> = #codec;
        }
    }

    fn entity(&self) -> TokenStream {
        let model = &self.model.ident;
        let schema = self.fingerprint_texts();
        let options = self.options();
        let version = self.version();
        let generated = self.generated();
        let lookups = finders::definitions(self.model);
        let near = self.model.attrs.near.as_ref().map(Near::method);
        let encode = self
            .model
            .columns()
            .map(|Field { ident, .. }| quote!(row.field(&__Columns::#ident, &self.#ident)?;));
        let decode = self.model.fields.iter().map(|field| {
            let Field { ident, ty, .. } = field;
            match field.codec {
                Codec::Ignored => quote_spanned! {ty.span()=>
                    #ident: ::core::default::Default::default()
                },
                _ => quote!(#ident: row.field(&__Columns::#ident)?),
            }
        });
        quote! {
            #[automatically_derived]
            impl __cached::CachedEntity for #model {
                const DEFINITION: __cached::Definition = __cached::Definition {
                    schema: __cached::fingerprint(&[#(#schema),*]),
                    options: #options,
                };

                #version

                #generated

                #lookups

                #near

                fn encode(
                    &self,
                    row: &mut __cached::RowEncoder,
                ) -> ::core::result::Result<(), __cached::RowError> {
                    #(#encode)*
                    ::core::result::Result::Ok(())
                }

                fn decode(
                    row: &mut __cached::RowDecoder<'_>,
                ) -> ::core::result::Result<Self, __cached::RowError> {
                    ::core::result::Result::Ok(Self { #(#decode,)* })
                }
            }
        }
    }

    /// What makes an old entry unreadable: the columns, and the codec if it is not the default.
    fn fingerprint_texts(&self) -> Vec<String> {
        let mut texts: Vec<_> = self.model.columns().map(fingerprint_text).collect();
        match self.model.attrs.codec {
            RowCodec::MessagePack => {}
            // No column's: those have a colon behind the name.
            RowCodec::Json => texts.push("json".to_owned()),
        }
        texts
    }

    fn options(&self) -> TokenStream {
        let attrs = &self.model.attrs;
        let name = attrs.name.as_ref().map(|name| quote!(#name));
        let reload = attrs.reload_after_write.then(|| quote!(true));
        let policy = attrs.on_cache_failure.map(|policy| match policy {
            OnCacheFailure::Proceed => quote!(__cached::OnCacheFailure::Proceed),
            OnCacheFailure::Refuse => quote!(__cached::OnCacheFailure::Refuse),
        });
        let codec = match attrs.codec {
            RowCodec::MessagePack => None,
            RowCodec::Json => Some(quote!(__cached::Codec::Json)),
        };
        let compress_above = attrs.compress_above.as_ref().map(|(bytes, literal)| {
            let bytes = Literal::usize_unsuffixed(*bytes);
            // On the literal's span: without the feature, rustc points at it.
            let lz4 = quote_spanned!(literal.span()=> __cached::Lz4);
            quote!(__cached::compress_above::<#lz4>(#bytes))
        });
        let all = [
            ("name", name.map(some)),
            ("ttl", attrs.ttl.map(duration).map(some)),
            ("negative_ttl", attrs.negative_ttl.map(duration).map(some)),
            ("stale_ttl", attrs.stale_ttl.map(duration).map(some)),
            ("on_cache_failure", policy.map(some)),
            ("reload_after_write", reload),
            ("codec", codec),
            ("compress_above", compress_above),
        ];
        // Clippy objects to an update that has nothing left to fill.
        let rest = all
            .iter()
            .any(|(_, value)| value.is_none())
            .then(|| quote!(..__cached::EntityOptions::NONE));
        let given = all.iter().filter_map(|(option, value)| {
            let option = format_ident!("{option}");
            value.as_ref().map(|value| quote!(#option: #value,))
        });
        quote!(__cached::EntityOptions { #(#given)* #rest })
    }

    fn generated(&self) -> TokenStream {
        let generated = self
            .model
            .columns()
            .filter(|field| field.attrs.generated.is_some());
        let variants: Vec<_> = generated.map(Field::variant).collect();
        if variants.is_empty() {
            return TokenStream::new();
        }
        quote! {
            fn is_generated(column: &__cached::ColumnOf<Self>) -> bool {
                ::core::matches!(column, #(__cached::ColumnOf::<Self>::#variants)|*)
            }
        }
    }

    fn version(&self) -> TokenStream {
        let Versioning::Column(index) = self.model.versioning else {
            return TokenStream::new();
        };
        let field = &self.model.fields[index];
        let (ident, ty, variant) = (&field.ident, &field.ty, field.variant());
        // On the type's span: if it cannot be a version, rustc points at it.
        let to_version = quote_spanned!(ty.span()=> __cached::to_version::<#ty>);
        quote! {
            fn version(&self) -> ::core::option::Option<__cached::Version> {
                #to_version(self.#ident)
            }

            fn version_column() -> ::core::option::Option<__cached::ColumnOf<Self>> {
                ::core::option::Option::Some(__cached::ColumnOf::<Self>::#variant)
            }
        }
    }

    fn versioned(&self) -> TokenStream {
        let model = &self.model.ident;
        match self.model.versioning {
            Versioning::None => TokenStream::new(),
            Versioning::Column(_) | Versioning::Unknown => quote! {
                #[automatically_derived]
                impl __cached::Versioned for #model {}
            },
        }
    }

    fn repository(&self) -> TokenStream {
        let Self { model, krate, .. } = self;
        let (vis, model_ident) = (&model.vis, &model.ident);
        let name = model.repository();
        let about = format!(
            " The cached repository of [`{model_ident}`]; its methods are those of \
             [`cached_repo::Repository`]({krate}::Repository).",
            krate = compact(&quote!(#krate).to_string()),
        );
        quote! {
            #[doc = #about]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #vis struct #name(#krate::Repository<#model_ident>);

            #[allow(dead_code, reason = "not every program uses every way to open a repository")]
            impl #name {
                /// Opens the repository of a database.
                #[must_use]
                #vis fn new(db: &#krate::CachedDb) -> Self {
                    Self(#krate::Repository::new(db))
                }

                /// The same repository inside a transaction.
                #[must_use]
                #vis fn on(&self, tx: &#krate::Transaction) -> Self {
                    Self(self.0.on(tx))
                }

                /// The same repository with other settings for its reads.
                #[must_use]
                #vis fn with(&self, options: #krate::ReadOptions) -> Self {
                    Self(self.0.with(options))
                }

                /// The same repository, asking the database whatever the cache holds, and
                /// repairing the cache.
                #[must_use]
                #vis fn fresh(&self) -> Self {
                    Self(self.0.fresh())
                }
            }

            #[automatically_derived]
            impl ::core::ops::Deref for #name {
                type Target = #krate::Repository<#model_ident>;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        }
    }
}

pub(crate) fn some(value: TokenStream) -> TokenStream {
    quote!(::core::option::Option::Some(#value))
}

pub(crate) fn duration(duration: Duration) -> TokenStream {
    if duration.subsec_nanos() == 0 {
        let seconds = Literal::u64_unsuffixed(duration.as_secs());
        quote!(::core::time::Duration::from_secs(#seconds))
    } else {
        let millis = Literal::u128_unsuffixed(duration.as_millis());
        quote!(::core::time::Duration::from_millis(#millis))
    }
}

/// What of a column makes an old entry unreadable: its name, its type and its codec.
fn fingerprint_text(field: &Field) -> String {
    let ty = &field.ty;
    let mut text = format!("{}:{}", field.column(), compact(&quote!(#ty).to_string()));
    if let Codec::With(module) = &field.codec {
        text.push_str(" with ");
        text.push_str(&compact(&quote!(#module).to_string()));
    }
    text
}

/// Tokens without the spaces that the compiler's printer puts between them, which differ from
/// one compiler to the next; only those that keep two words apart stay.
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
