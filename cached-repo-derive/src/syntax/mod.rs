//! The struct and its attributes as they are written: plain values, with spans where a later
//! stage may report an error.
//!
//! Every option is read on its own. Later stages know what the options mean together.

mod attribute;
mod condition;
mod field;
mod lookup;
mod model;
mod near;
mod option;

use syn::{Data, DeriveInput, Fields, Generics, Ident, Type, Visibility, ext::IdentExt};

pub(crate) use self::{
    attribute::is_cached,
    condition::{ConditionAttr, Test},
    field::FieldAttrs,
    lookup::{LookupAttr, LookupKind},
    model::{ModelAttrs, OnCacheFailure, Options, RowCodec},
    near::{Capacity, NearAttr},
};
use crate::diag::Diagnostics;

/// A struct that derives `CachedEntity`.
pub(crate) struct StructSyntax {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) attrs: ModelAttrs,
    pub(crate) fields: Vec<FieldSyntax>,
}

/// One field of the struct.
pub(crate) struct FieldSyntax {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) attrs: FieldAttrs,
}

impl StructSyntax {
    /// Whether the field is the whole primary key.
    pub(crate) fn is_only_key(&self, field: &FieldSyntax) -> bool {
        let keys = self.fields.iter().filter(|it| it.attrs.sea_orm.primary_key);
        field.attrs.sea_orm.primary_key && keys.count() == 1
    }
}

impl FieldSyntax {
    /// The field's name without `r#`.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }
}

/// Reads the struct and its attributes; `None` if no model can have its shape.
pub(crate) fn read(input: &DeriveInput, diag: &mut Diagnostics) -> Option<StructSyntax> {
    let attrs = model::read(&input.attrs, diag);
    let named = named_fields(input, diag);
    reject_generics(&input.generics, diag);
    let fields = named?
        .filter_map(|field| {
            Some(FieldSyntax {
                attrs: field::read(&field.attrs, diag),
                ident: field.ident.clone()?,
                ty: field.ty.clone(),
            })
        })
        .collect();
    input.generics.params.is_empty().then(|| StructSyntax {
        ident: input.ident.clone(),
        vis: input.vis.clone(),
        attrs,
        fields,
    })
}

fn named_fields<'a>(
    input: &'a DeriveInput,
    diag: &mut Diagnostics,
) -> Option<impl Iterator<Item = &'a syn::Field> + use<'a>> {
    const WHAT: &str = "`CachedEntity` can only be derived for a SeaORM model, a struct with named \
                        fields";
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => return Some(fields.named.iter()),
            Fields::Unnamed(fields) => diag.error(
                fields,
                format!("{WHAT}: name the fields, `{{ pub id: i64, … }}`"),
            ),
            Fields::Unit => diag.error(
                &input.ident,
                format!("{WHAT}: this one has no fields, write `{{ pub id: i64, … }}`"),
            ),
        },
        Data::Enum(data) => diag.error(
            data.enum_token,
            format!("{WHAT}: derive it on the model; an enum that is a column needs only serde"),
        ),
        Data::Union(data) => diag.error(data.union_token, format!("{WHAT}, not for a union")),
    }
    None
}

fn reject_generics(generics: &Generics, diag: &mut Diagnostics) {
    if !generics.params.is_empty() {
        diag.error(
            generics,
            "a cached model cannot be generic, a row has one type: write the concrete types into \
             the fields",
        );
    }
}
