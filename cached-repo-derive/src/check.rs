//! The rules between options, and between an option and its field: one function each.

use syn::Type;

use crate::{
    attr::last_segment,
    diag::Diagnostics,
    model::{Field, Model},
};

/// What a version column can be; `VersionField` in the runtime is the same list.
const VERSION_TYPES: &str = "`i16`, `i32`, `i64`, `u32` and `u64`";

/// Reports every broken rule.
pub(crate) fn check(model: &Model, diag: &mut Diagnostics) {
    one_version(model, diag);
    for field in &model.fields {
        version_is_a_column(field, diag);
        version_is_not_the_key(field, diag);
        version_is_an_integer(field, diag);
        version_is_encoded_by_us(field, diag);
        with_is_on_a_column(field, diag);
        generated_is_the_databases(field, diag);
    }
}

fn one_version(model: &Model, diag: &mut Diagnostics) {
    let mut versions = model
        .fields
        .iter()
        .filter_map(|field| field.attrs.version.map(|span| (field, span)));
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

fn version_is_a_column(field: &Field, diag: &mut Diagnostics) {
    if let Some(span) = field.attrs.version
        && field.attrs.ignored
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

fn version_is_not_the_key(field: &Field, diag: &mut Diagnostics) {
    if let Some(span) = field.attrs.version
        && field.attrs.primary_key
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

/// Says at once what `VersionField` would say, for the types whose names give them away.
fn version_is_an_integer(field: &Field, diag: &mut Diagnostics) {
    if field.attrs.version.is_none() || field.attrs.ignored {
        return;
    }
    if let Some(problem) = version_type_problem(&field.ty) {
        diag.error(&field.ty, problem);
    }
}

fn version_type_problem(ty: &Type) -> Option<String> {
    let name = match ty {
        Type::Tuple(_) | Type::Array(_) | Type::Slice(_) | Type::Reference(_) => {
            return Some(format!(
                "a version column is one integer: use one of {VERSION_TYPES}"
            ));
        }
        other => last_segment(other)?.to_string(),
    };
    match name.as_str() {
        "Option" => Some(format!(
            "a version column is never NULL: make the column `NOT NULL DEFAULT 1` and use one of \
             {VERSION_TYPES}"
        )),
        "f32" | "f64" => Some(format!(
            "`{name}` cannot count versions, it rounds: use one of {VERSION_TYPES}"
        )),
        "i8" | "u8" | "u16" | "isize" | "usize" | "i128" | "u128" | "bool" | "char" | "String"
        | "str" | "Vec" => Some(format!(
            "`{name}` cannot be a version column: use one of {VERSION_TYPES}"
        )),
        _ => None,
    }
}

fn generated_is_the_databases(field: &Field, diag: &mut Diagnostics) {
    let Some(span) = field.attrs.generated else {
        return;
    };
    let instead = if field.attrs.version.is_some() {
        "the version is raised by every write already: remove `generated`"
    } else if field.attrs.ignored {
        "an ignored field is no column: remove `generated`"
    } else if field.attrs.primary_key {
        "a key that the database makes is left out of the insert (`NotSet`): remove `generated`"
    } else {
        return;
    };
    diag.error_at(span, instead);
}

fn version_is_encoded_by_us(field: &Field, diag: &mut Diagnostics) {
    if let Some(with) = &field.attrs.with
        && field.attrs.version.is_some()
    {
        diag.error_at(
            with.span,
            "a version column is an integer and needs no codec of its own: remove `with`",
        );
    }
}

fn with_is_on_a_column(field: &Field, diag: &mut Diagnostics) {
    if let Some(with) = &field.attrs.with
        && field.attrs.ignored
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
