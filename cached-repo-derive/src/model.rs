//! The model as the derive understands it: what was written, with its spans, and nothing of how
//! it will be expanded.

use heck::ToUpperCamelCase;
use proc_macro2::Span;
use syn::{Data, DeriveInput, Fields, Generics, Ident, Path, Type, Visibility, ext::IdentExt};

use crate::{
    attr::{self, FieldAttrs, ModelAttrs},
    diag::Diagnostics,
    lookup::{self, Lookup},
    option,
};

/// A struct that derives `CachedEntity`.
pub(crate) struct Model {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) attrs: ModelAttrs,
    pub(crate) fields: Vec<Field>,
    pub(crate) versioning: Versioning,
    /// What rows are found by besides their key.
    pub(crate) lookups: Vec<Lookup>,
    /// There was a mistake: what is expanded is for the compiler, and never runs.
    pub(crate) mistaken: bool,
}

/// One field of the struct.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) codec: Codec,
    pub(crate) attrs: FieldAttrs,
}

/// How a field's values become bytes.
pub(crate) enum Codec {
    /// By the type's own serde.
    Serde,
    /// By the functions of `#[cached(with = "module")]`.
    With(Path),
    /// Not a column: `Default` when a row is read back.
    Ignored,
    /// What was asked for is an error; nothing may be demanded of the type.
    Unknown,
}

/// Which column carries the version.
pub(crate) enum Versioning {
    /// None does.
    None,
    /// The field with this index.
    Column(usize),
    /// There was a mistake: the entity may well be versioned, but nobody knows by what.
    Unknown,
}

impl Model {
    /// Reads the struct and its attributes; `None` if it has no shape that a model can have.
    pub(crate) fn read(input: &DeriveInput, diag: &mut Diagnostics) -> Option<Self> {
        let attrs = attr::model_attrs(&input.attrs, diag);
        let named = named_fields(input, diag);
        reject_generics(&input.generics, diag);
        let fields: Vec<Field> = named?
            .filter_map(|field| Field::read(field, diag))
            .collect();
        if !input.generics.params.is_empty() {
            return None;
        }
        let versioning = fields
            .iter()
            .position(|field| field.attrs.version.is_some())
            .map_or(Versioning::None, Versioning::Column);
        let mut model = Self {
            ident: input.ident.clone(),
            vis: input.vis.clone(),
            attrs,
            fields,
            versioning,
            lookups: Vec::new(),
            mistaken: false,
        };
        model.lookups = lookup::collect(&model, diag);
        Some(model)
    }

    /// The name of the generated repository.
    pub(crate) fn repository(&self) -> Ident {
        match &self.attrs.repository {
            Some(name) => name.clone(),
            None => Ident::new("Repository", Span::call_site()),
        }
    }

    /// The fields that are columns of the table, in declaration order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &Field> {
        self.fields
            .iter()
            .filter(|field| !matches!(field.codec, Codec::Ignored))
    }
}

impl Field {
    fn read(field: &syn::Field, diag: &mut Diagnostics) -> Option<Self> {
        let attrs = attr::field_attrs(&field.attrs, diag);
        let codec = match &attrs.with {
            _ if attrs.ignored => Codec::Ignored,
            None => Codec::Serde,
            Some(with) => match &with.module {
                Some(module) => Codec::With(module.clone()),
                None => Codec::Unknown,
            },
        };
        Some(Self {
            ident: field.ident.clone()?,
            ty: field.ty.clone(),
            codec,
            attrs,
        })
    }

    /// The column's name, as errors and the fingerprint spell it.
    pub(crate) fn column(&self) -> String {
        match &self.attrs.column_name {
            Some(name) => name.clone(),
            None => self.ident.unraw().to_string(),
        }
    }

    /// The variant of SeaORM's `Column` enum.
    pub(crate) fn variant(&self) -> Ident {
        if let Some(name) = &self.attrs.enum_name {
            return name.clone();
        }
        let name = self.ident.unraw().to_string().to_upper_camel_case();
        // SeaORM's own escape for the one keyword that camel case can produce.
        let name = if name == "Self" { "Self_" } else { &name };
        Ident::new(name, self.ident.span())
    }
}

/// Checks the struct that `#[sea_orm::model]` adds beside the model. It repeats the model's
/// attributes, so only its relations are of interest: they exist nowhere else.
pub(crate) fn check_relations(input: &DeriveInput, diag: &mut Diagnostics) {
    let Data::Struct(data) = &input.data else {
        return;
    };
    for field in &data.fields {
        let relation = attr::last_segment(&field.ty).map(ToString::to_string);
        if !matches!(
            relation.as_deref(),
            Some("BelongsTo" | "HasOne" | "HasMany")
        ) {
            continue;
        }
        for attr in field.attrs.iter().filter(|attr| option::is_cached(attr)) {
            diag.error(
                attr,
                "a relation is not a column of the row, so it is not cached: remove this attribute",
            );
        }
    }
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
