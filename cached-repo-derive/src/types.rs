//! Questions about a type as it is written in the model.
//!
//! A derive sees the name of a type and not the type: an answer depends on the last segment of the
//! path, and is wrong for an alias. rustc checks the type itself, with the bounds of the runtime.

use syn::{GenericArgument, Ident, PathArguments, Type};

use crate::diag::list;

/// The types of a version column. The runtime implements `VersionField` for the same list.
pub(crate) const VERSION_TYPES: [&str; 5] = ["i16", "i32", "i64", "u32", "u64"];
/// Types of the standard library that cannot be a version column.
const NO_VERSION_TYPES: [&str; 12] = [
    "i8", "u8", "u16", "isize", "usize", "i128", "u128", "bool", "char", "String", "str", "Vec",
];

/// The last segment of a type's path: `Option` of `std::option::Option<i64>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// `T` of `Option<T>`.
pub(crate) fn inner_of_option(ty: &Type) -> Option<&Type> {
    let path = match ty {
        Type::Path(path) => path,
        Type::Group(group) => return inner_of_option(&group.elem),
        Type::Paren(paren) => return inner_of_option(&paren.elem),
        _ => return None,
    };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner))
            if last.ident == "Option" && arguments.args.len() == 1 =>
        {
            Some(inner)
        }
        _ => None,
    }
}

pub(crate) fn is_string(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|name| name == "String")
}

/// Whether a column of this type holds text: `String` or `Option<String>`.
pub(crate) fn is_text(ty: &Type) -> bool {
    is_string(ty) || inner_of_option(ty).is_some_and(is_string)
}

/// What a type is if databases have no one spelling for its values, as far as the name says so.
pub(crate) fn unspelt(ty: &Type) -> Option<&'static str> {
    let ty = inner_of_option(ty).unwrap_or(ty);
    let is_bytes = |ty: &Type| last_segment(ty).is_some_and(|name| name == "u8");
    match last_segment(ty)?.to_string().as_str() {
        "Json" | "JsonValue" => Some("JSON"),
        "Vec" if !argument(ty).is_some_and(is_bytes) => Some("an array"),
        "PgVector" => Some("a vector"),
        _ => None,
    }
}

/// The only argument of a generic type.
fn argument(ty: &Type) -> Option<&Type> {
    let path = match ty {
        Type::Path(path) => path,
        Type::Group(group) => return argument(&group.elem),
        Type::Paren(paren) => return argument(&paren.elem),
        _ => return None,
    };
    match &path.path.segments.last()?.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            GenericArgument::Type(inner) => Some(inner),
            _ => None,
        },
        _ => None,
    }
}

/// Whether this is the type of a relation in SeaORM's dense form.
pub(crate) fn is_relation(ty: &Type) -> bool {
    last_segment(ty)
        .is_some_and(|name| name == "BelongsTo" || name == "HasOne" || name == "HasMany")
}

/// Why a column of this type cannot be the version, if the name of the type says so.
pub(crate) fn version_problem(ty: &Type) -> Option<String> {
    let allowed = list(VERSION_TYPES);
    let name = match ty {
        Type::Tuple(_) | Type::Array(_) | Type::Slice(_) | Type::Reference(_) => {
            return Some(format!(
                "a version column is one integer: use one of {allowed}"
            ));
        }
        other => last_segment(other)?.to_string(),
    };
    match name.as_str() {
        "Option" => Some(format!(
            "a version column is never NULL: make the column `NOT NULL DEFAULT 1` and use one of \
             {allowed}"
        )),
        "f32" | "f64" => Some(format!(
            "`{name}` cannot count versions, it rounds: use one of {allowed}"
        )),
        name if NO_VERSION_TYPES.contains(&name) => Some(format!(
            "`{name}` cannot be a version column: use one of {allowed}"
        )),
        _ => None,
    }
}
