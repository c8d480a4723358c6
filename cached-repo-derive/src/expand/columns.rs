//! The columns: one constant each, how a row is encoded and decoded with them, and the text that the
//! schema fingerprint is computed from.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::tokens::compact;
use crate::{
    ir::{Codec, Field, Model},
    syntax::RowCodec,
};

/// One constant for each column, named like the field. They are associated constants because the
/// type of a field may name a free constant: `[u8; version]`.
pub(super) fn constants(model: &Model) -> TokenStream {
    let constants = model.columns().map(|field| {
        let Field { ident, ty, .. } = field;
        let column = column(field, model.options.codec);
        quote!(const #ident: __c::Column<#ty> = #column;)
    });
    quote! {
        struct __Columns;

        #[allow(non_upper_case_globals, reason = "a column is named like its field")]
        impl __Columns {
            #(#constants)*
        }
    }
}

fn column(field: &Field, row: RowCodec) -> TokenStream {
    let Field {
        ty, column: name, ..
    } = field;
    match &field.codec {
        // On the span of the type: if it has no serde, rustc points at it.
        Codec::Serde => {
            let new = constructor(row, ty.span());
            quote_spanned!(ty.span()=> __c::Column::<#ty>::#new(#name))
        }
        // On the span of the literal: if a function is missing or wrong, rustc points at it.
        Codec::With(module) => {
            let with = constructor_with(row, module.span());
            quote_spanned! {module.span()=>
                __c::Column::#with(
                    #name,
                    |value, out| #module::serialize(value, out),
                    |input| #module::deserialize(input),
                )
            }
        }
        Codec::Unknown => {
            let with = constructor_with(row, Span::call_site());
            quote! {
                __c::Column::#with(
                    #name,
                    |_, _| ::core::unreachable!(),
                    |_| ::core::unreachable!(),
                )
            }
        }
        Codec::Ignored => unreachable!("an ignored field is no column"),
    }
}

/// The constructor of a column that is encoded by its type's own serde.
pub(super) fn constructor(row: RowCodec, span: Span) -> Ident {
    match row {
        RowCodec::MessagePack => Ident::new("new", span),
        RowCodec::Json => Ident::new("json", span),
    }
}

/// The constructor of a column that is encoded by a module.
fn constructor_with(row: RowCodec, span: Span) -> Ident {
    match row {
        RowCodec::MessagePack => Ident::new("with", span),
        RowCodec::Json => Ident::new("json_with", span),
    }
}

/// The methods `encode` and `decode` of `CachedEntity`.
pub(super) fn encode_and_decode(model: &Model) -> TokenStream {
    let encode = model
        .columns()
        .map(|Field { ident, .. }| quote!(row.field(&__Columns::#ident, &self.#ident)?;));
    let decode = model.fields.iter().map(|field| {
        let Field { ident, ty, .. } = field;
        match field.codec {
            Codec::Ignored => quote_spanned! {ty.span()=>
                #ident: ::core::default::Default::default()
            },
            _ => quote!(#ident: row.field(&__Columns::#ident)?),
        }
    });
    quote! {
        fn encode(&self, row: &mut __c::RowEncoder) -> __c::Result<(), __c::RowError> {
            #(#encode)*
            __c::Ok(())
        }

        fn decode(row: &mut __c::RowDecoder<'_>) -> __c::Result<Self, __c::RowError> {
            __c::Ok(Self { #(#decode,)* })
        }
    }
}

/// Whatever makes old entries unreadable if it changes, a line each: the columns, and the codec if it
/// is not the default.
pub(super) fn schema(model: &Model) -> String {
    let mut lines: Vec<_> = model.columns().map(line).collect();
    match model.options.codec {
        RowCodec::MessagePack => {}
        // The line of a column has a colon.
        RowCodec::Json => lines.push("json".to_owned()),
    }
    lines.join("\n")
}

/// A column's name, type and codec.
fn line(field: &Field) -> String {
    let ty = &field.ty;
    // A line break in the name would be the end of the line.
    let name = field.column.replace('\\', "\\\\").replace('\n', "\\n");
    let mut line = format!("{name}:{}", compact(&quote!(#ty).to_string()));
    if let Codec::With(module) = &field.codec {
        line.push_str(" with ");
        line.push_str(&compact(&quote!(#module).to_string()));
    }
    line
}
