//! From syntax to the model: defaults, names of columns, codecs, the version column and the lookups.
//!
//! Reports lookups that cannot exist: unknown columns, or a method's name that is taken. Rules between
//! options are in `check`.

mod lookups;

use heck::ToUpperCamelCase;
use proc_macro2::Span;
use syn::{Ident, parse_quote};

use crate::{
    diag::Diagnostics,
    ir::{Codec, Field, Model, Versioning},
    syntax::{FieldAttrs, FieldSyntax, StructSyntax},
};

/// Resolves the struct and all its attributes.
pub(crate) fn resolve(input: &StructSyntax, diag: &mut Diagnostics) -> Model {
    let StructSyntax { attrs, fields, .. } = input;
    let version = fields.iter().position(|it| it.attrs.version.is_some());
    let repository = || Ident::new("Repository", Span::call_site());
    let krate = || parse_quote!(::cached_repo);
    Model {
        ident: input.ident.clone(),
        vis: input.vis.clone(),
        krate: attrs.krate.clone().unwrap_or_else(krate),
        repository: attrs.repository.clone().unwrap_or_else(repository),
        options: attrs.options.clone(),
        near: attrs.near.clone(),
        cascades: attrs.cascades.clone(),
        fields: fields.iter().map(field).collect(),
        versioning: version.map_or(Versioning::None, Versioning::Column),
        lookups: lookups::collect(input, diag),
        has_errors: false,
    }
}

fn field(field: &FieldSyntax) -> Field {
    let attrs = &field.attrs;
    let (column, variant) = (&attrs.sea_orm.column_name, &attrs.sea_orm.enum_name);
    Field {
        ident: field.ident.clone(),
        ty: field.ty.clone(),
        column: column.clone().unwrap_or_else(|| field.name()),
        variant: variant.clone().unwrap_or_else(|| variant_of(field)),
        codec: codec(attrs),
        is_generated: attrs.generated.is_some(),
        normalize: attrs.normalize.as_ref().and_then(|it| it.function.clone()),
    }
}

/// The variant that SeaORM derives from a field's name.
fn variant_of(field: &FieldSyntax) -> Ident {
    let name = field.name().to_upper_camel_case();
    // SeaORM's own escape for the one keyword that camel case can produce.
    let name = if name == "Self" { "Self_" } else { &name };
    Ident::new(name, field.ident.span())
}

fn codec(attrs: &FieldAttrs) -> Codec {
    match &attrs.with {
        _ if attrs.sea_orm.ignore => Codec::Ignored,
        None => Codec::Serde,
        Some(with) => with.module.clone().map_or(Codec::Unknown, Codec::With),
    }
}
