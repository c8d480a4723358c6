//! The rules between options, and between an option and its field: one function each.
//!
//! A rule reads the syntax, and the model if it depends on lookups. It changes neither.

use syn::{Data, DeriveInput, Ident, ext::IdentExt};

use crate::{
    diag::Diagnostics,
    ir::Model,
    syntax::{FieldSyntax, StructSyntax, is_cached},
    types,
};

/// Reports every broken rule.
pub(crate) fn check(input: &StructSyntax, model: &Model, diag: &mut Diagnostics) {
    for (at, field) in input.fields.iter().enumerate() {
        let is_found_by = model.lookups.iter().any(|it| it.fields.contains(&at));
        index_is_not_unique(input, field, diag);
        normalize_is_used(field, is_found_by, diag);
        normalize_is_on_a_text(field, is_found_by, diag);
        is_found_by_what_has_one_spelling(at, field, input, diag);
        key_of_a_lookup_has_serde(field, model, diag);
    }
    one_version(input, diag);
    for field in &input.fields {
        version_is_a_column(field, diag);
        version_is_not_the_key(field, diag);
        version_is_an_integer(field, diag);
        version_has_no_codec(field, diag);
        with_is_on_a_column(field, diag);
        generated_is_the_databases(field, diag);
    }
}

/// Reports options on relations.
///
/// `input` is the struct that `#[sea_orm::model]` adds beside the model. It repeats the attributes of
/// the model, and they are checked there. Relations exist only here.
pub(crate) fn check_relations(input: &DeriveInput, diag: &mut Diagnostics) {
    let Data::Struct(data) = &input.data else {
        return;
    };
    let relations = data.fields.iter().filter(|it| types::is_relation(&it.ty));
    let attrs = relations.flat_map(|it| &it.attrs);
    for attr in attrs.filter(|it| is_cached(it)) {
        diag.error(
            attr,
            "a relation is not a column of the row, so it is not cached: remove this attribute",
        );
    }
}

fn index_is_not_unique(input: &StructSyntax, field: &FieldSyntax, diag: &mut Diagnostics) {
    let is_unique = field.attrs.unique.is_some() || field.attrs.sea_orm.unique;
    if let Some(index) = &field.attrs.index
        && is_unique
        // An error about the key's lookups exists already.
        && !input.is_only_key(field)
    {
        diag.error_at(
            index.span,
            format!(
                "`{}` is unique, so `find_by_{0}` finds its one row: remove `index`",
                field.name()
            ),
        );
    }
}

fn normalize_is_used(field: &FieldSyntax, is_found_by: bool, diag: &mut Diagnostics) {
    if let Some(normalize) = &field.attrs.normalize
        && !is_found_by
    {
        diag.error_at(
            normalize.span,
            format!(
                "nothing is found by `{0}`, so `normalize` has no effect: add `#[cached(index)]` to \
                 `{0}`, or remove it",
                field.ident
            ),
        );
    }
}

fn normalize_is_on_a_text(field: &FieldSyntax, is_found_by: bool, diag: &mut Diagnostics) {
    if field.attrs.normalize.is_some() && is_found_by && !types::is_text(&field.ty) {
        diag.error(
            &field.ty,
            "`normalize` gives texts one spelling: it goes with a `String` column",
        );
    }
}

/// Reports the types whose names say enough. For others the runtime warns when the repository is opened.
fn is_found_by_what_has_one_spelling(
    at: usize,
    field: &FieldSyntax,
    input: &StructSyntax,
    diag: &mut Diagnostics,
) {
    let Some(what) = types::unspelt(&field.ty) else {
        return;
    };
    let own = field.attrs.unique.iter().chain(&field.attrs.index);
    let own = own.map(|attr| attr.span);
    let of_struct = input.attrs.lookups.iter().flat_map(|attr| &attr.columns);
    let of_struct = of_struct.filter(|column| column.unraw() == input.fields[at].ident.unraw());
    if let Some(span) = own.chain(of_struct.map(Ident::span)).next() {
        diag.error_at(
            span,
            format!(
                "{what} has no spelling that a key could have, so it cannot be found through the cache: \
                 find the rows by a column of another type, which the database or the program computes \
                 from `{}`",
                field.ident
            ),
        );
    }
}

/// The cache stores the primary keys that a lookup finds, with the serde of the key's own types.
fn key_of_a_lookup_has_serde(field: &FieldSyntax, model: &Model, diag: &mut Diagnostics) {
    if let Some(with) = &field.attrs.with
        && field.attrs.sea_orm.primary_key
        && !model.lookups.is_empty()
    {
        diag.error_at(
            with.span,
            "rows are found by other columns, so the cache keeps lists of primary keys: derive \
             `Serialize` and `Deserialize` on the key's type and remove `with`",
        );
    }
}

fn one_version(input: &StructSyntax, diag: &mut Diagnostics) {
    let fields = input.fields.iter();
    let mut versions = fields.filter_map(|field| Some((field, field.attrs.version?)));
    let Some((first, _)) = versions.next() else {
        return;
    };
    for (_, span) in versions {
        diag.error_at(
            span,
            format!(
                "a model has one version column, and `{}` already is it: remove one of the two \
                 `#[cached(version)]`",
                first.ident
            ),
        );
    }
}

fn version_is_a_column(field: &FieldSyntax, diag: &mut Diagnostics) {
    if let Some(span) = field.attrs.version
        && field.attrs.sea_orm.ignore
    {
        diag.error_at(
            span,
            format!(
                "`{}` is `#[sea_orm(ignore)]`, so the table has no such column: mark a field that \
                 is stored",
                field.ident
            ),
        );
    }
}

fn version_is_not_the_key(field: &FieldSyntax, diag: &mut Diagnostics) {
    if let Some(span) = field.attrs.version
        && field.attrs.sea_orm.primary_key
    {
        diag.error_at(
            span,
            format!(
                "`{}` is part of the primary key, which never changes, while a version grows with \
                 every write: add a column of its own, `#[cached(version)] pub version: i64`",
                field.ident
            ),
        );
    }
}

/// Reports the types whose names say enough. For all others rustc reports that `VersionField` is not
/// implemented.
fn version_is_an_integer(field: &FieldSyntax, diag: &mut Diagnostics) {
    if field.attrs.version.is_some()
        && !field.attrs.sea_orm.ignore
        && let Some(problem) = types::version_problem(&field.ty)
    {
        diag.error(&field.ty, problem);
    }
}

fn version_has_no_codec(field: &FieldSyntax, diag: &mut Diagnostics) {
    if let Some(with) = &field.attrs.with
        && field.attrs.version.is_some()
    {
        diag.error_at(
            with.span,
            "a version column is an integer and needs no codec of its own: remove `with`",
        );
    }
}

fn with_is_on_a_column(field: &FieldSyntax, diag: &mut Diagnostics) {
    if let Some(with) = &field.attrs.with
        && field.attrs.sea_orm.ignore
    {
        diag.error_at(
            with.span,
            format!(
                "`{}` is `#[sea_orm(ignore)]`, so it is not in the cache either: remove `with`",
                field.ident
            ),
        );
    }
}

fn generated_is_the_databases(field: &FieldSyntax, diag: &mut Diagnostics) {
    let Some(span) = field.attrs.generated else {
        return;
    };
    let instead = if field.attrs.version.is_some() {
        "the version is raised by every write already: remove `generated`"
    } else if field.attrs.sea_orm.ignore {
        "an ignored field is no column: remove `generated`"
    } else if field.attrs.sea_orm.primary_key {
        "a key that the database makes is left out of the insert (`NotSet`): remove `generated`"
    } else {
        return;
    };
    diag.error_at(span, instead);
}
