//! What `#[cached(…)]` and `#[sea_orm(…)]` say, read into values.
//!
//! Each option is judged alone here; rules between options are `check.rs`'s. Of SeaORM's
//! attributes only what the cache needs is read: their mistakes are SeaORM's to report.

use std::time::Duration;

use proc_macro2::Span;
use syn::{
    Attribute, Ident, LitStr, Path, Type,
    meta::ParseNestedMeta,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

use crate::{
    diag::Diagnostics,
    lookup::{self, Kind, Wanted},
    near::{self, Near},
    option::{self, Given, Level, Zero, skip_value},
};

/// The options on the struct.
#[derive(Default)]
pub(crate) struct ModelAttrs {
    pub(crate) ttl: Option<Duration>,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) stale_ttl: Option<Duration>,
    pub(crate) on_cache_failure: Option<OnCacheFailure>,
    pub(crate) near: Option<Near>,
    pub(crate) name: Option<String>,
    pub(crate) reload_after_write: bool,
    pub(crate) codec: RowCodec,
    /// `#[cached(compress_above = "1KiB")]`, in bytes, where it was written.
    pub(crate) compress_above: Option<(usize, LitStr)>,
    pub(crate) repository: Option<Ident>,
    pub(crate) krate: Option<Path>,
    /// `#[cached(unique(a, b))]` and `#[cached(index(a, b))]`.
    pub(crate) lookups: Vec<Wanted>,
}

/// What a write does when the cache cannot be told of it.
#[derive(Clone, Copy)]
pub(crate) enum OnCacheFailure {
    Proceed,
    Refuse,
}

const POLICIES: &[(&str, OnCacheFailure)] = &[
    ("proceed", OnCacheFailure::Proceed),
    ("refuse", OnCacheFailure::Refuse),
];

/// How a row becomes bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RowCodec {
    #[default]
    MessagePack,
    Json,
}

impl RowCodec {
    /// The constructor of a column that is encoded by its type's own serde.
    pub(crate) fn column(self, span: Span) -> Ident {
        match self {
            Self::MessagePack => Ident::new("new", span),
            Self::Json => Ident::new("json", span),
        }
    }

    /// The constructor of a column that is encoded by a module.
    pub(crate) fn column_with(self, span: Span) -> Ident {
        match self {
            Self::MessagePack => Ident::new("with", span),
            Self::Json => Ident::new("json_with", span),
        }
    }
}

const CODECS: &[(&str, RowCodec)] = &[
    ("messagepack", RowCodec::MessagePack),
    ("json", RowCodec::Json),
];

/// The options on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// `#[cached(version)]`, where it was written.
    pub(crate) version: Option<Span>,
    /// `#[cached(with = "module")]`.
    pub(crate) with: Option<With>,
    /// `#[cached(generated)]`, where it was written.
    pub(crate) generated: Option<Span>,
    /// `#[cached(unique)]`.
    pub(crate) unique: Option<Wanted>,
    /// `#[cached(index)]`.
    pub(crate) index: Option<Wanted>,
    /// `#[cached(normalize = "function")]`.
    pub(crate) normalize: Option<Normalize>,
    /// `#[sea_orm(unique)]`.
    pub(crate) sea_unique: bool,
    /// `#[sea_orm(unique_key = "group")]`, perhaps several.
    pub(crate) unique_keys: Vec<LitStr>,
    /// `#[sea_orm(ignore)]`.
    pub(crate) ignored: bool,
    /// `#[sea_orm(primary_key)]`; the expanded form of a model does not carry it.
    pub(crate) primary_key: bool,
    /// `#[sea_orm(enum_name = "…")]`.
    pub(crate) enum_name: Option<Ident>,
    /// `#[sea_orm(column_name = "…")]`.
    pub(crate) column_name: Option<String>,
}

/// `#[cached(with = "module")]`, where it was written; no module if it was not a path.
pub(crate) struct With {
    pub(crate) span: Span,
    pub(crate) module: Option<Path>,
}

/// `#[cached(normalize = "function")]`, where it was written; no function if it was not a path.
pub(crate) struct Normalize {
    pub(crate) span: Span,
    pub(crate) function: Option<Path>,
}

/// Reads the attributes of the struct.
pub(crate) fn model_attrs(attrs: &[Attribute], diag: &mut Diagnostics) -> ModelAttrs {
    let mut read = ModelAttrs::default();
    option::for_each(attrs, Level::Model, diag, |given, diag| {
        match given.key.name {
            "ttl" => {
                let instead = "write how long a row may be served, or leave it out to use the \
                           CachedDb's default";
                read.ttl = given.duration(Zero::Refused(instead), diag);
            }
            "negative_ttl" => read.negative_ttl = given.duration(Zero::Allowed, diag),
            "stale_ttl" => read.stale_ttl = given.duration(Zero::Allowed, diag),
            "on_cache_failure" => read.on_cache_failure = given.choice(POLICIES, diag),
            "near" => read.near = Some(near::near(given, diag)),
            "codec" => read.codec = given.choice(CODECS, diag).unwrap_or_default(),
            "compress_above" => read.compress_above = given.size(diag),
            "name" => read.name = name(given, diag),
            "reload_after_write" => {
                given.flag(diag);
                read.reload_after_write = true;
            }
            "repository" => {
                read.repository = parsed(given, "the name of a type", Ident::parse, diag);
            }
            "unique" => read
                .lookups
                .extend(lookup::wanted(given, Kind::Unique, diag)),
            "index" => {
                let kind = Kind::Index { max_rows: None };
                read.lookups.extend(lookup::wanted(given, kind, diag));
            }
            "crate" => read.krate = parsed(given, "a path", Path::parse_mod_style, diag),
            other => unreachable!("`{other}` is in the list of options and is not read"),
        }
    });
    read
}

/// Reads the attributes of a field.
pub(crate) fn field_attrs(attrs: &[Attribute], diag: &mut Diagnostics) -> FieldAttrs {
    let mut read = FieldAttrs::default();
    option::for_each(attrs, Level::Field, diag, |given, diag| {
        match given.key.name {
            "version" => {
                given.flag(diag);
                read.version = Some(given.meta.path.span());
            }
            "generated" => {
                given.flag(diag);
                read.generated = Some(given.meta.path.span());
            }
            "unique" => read.unique = lookup::wanted(given, Kind::Unique, diag),
            "index" => {
                read.index = lookup::wanted(given, Kind::Index { max_rows: None }, diag);
            }
            "normalize" => {
                read.normalize = Some(Normalize {
                    span: given.meta.path.span(),
                    function: parsed(given, "the path of a function", Path::parse_mod_style, diag),
                });
            }
            "with" => {
                read.with = Some(With {
                    span: given.meta.path.span(),
                    module: parsed(given, "the path of a module", Path::parse_mod_style, diag),
                });
            }
            other => unreachable!("`{other}` is in the list of options and is not read"),
        }
    });
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("sea_orm")) {
        // An error here is in SeaORM's attribute: its own derive reports it.
        let _ = attr.parse_nested_meta(|meta| {
            sea_orm(&mut read, &meta);
            skip_value(meta.input);
            Ok(())
        });
    }
    read
}

fn sea_orm(read: &mut FieldAttrs, meta: &ParseNestedMeta<'_>) {
    let text = || meta.value().and_then(|value| value.parse::<LitStr>()).ok();
    if meta.path.is_ident("ignore") {
        read.ignored = true;
    } else if meta.path.is_ident("primary_key") {
        read.primary_key = true;
    } else if meta.path.is_ident("unique") {
        read.sea_unique = true;
    } else if meta.path.is_ident("unique_key") {
        read.unique_keys.extend(text());
    } else if meta.path.is_ident("enum_name") {
        read.enum_name = text().and_then(|name| name.parse().ok());
    } else if meta.path.is_ident("column_name") {
        read.column_name = text().map(|name| name.value());
    }
}

fn name(given: &Given<'_>, diag: &mut Diagnostics) -> Option<String> {
    let literal = given.string(diag)?;
    let name = literal.value();
    if name.trim().is_empty() {
        diag.error(
            literal,
            "`name` is the entity's part of the cache key and cannot be empty: write \
             `name = \"user\"`, or leave it out to use the table's name",
        );
        return None;
    }
    Some(name)
}

/// Reads a string that holds `what`, as `parser` understands it.
fn parsed<T>(
    given: &Given<'_>,
    what: &str,
    parser: fn(ParseStream<'_>) -> syn::Result<T>,
    diag: &mut Diagnostics,
) -> Option<T> {
    let literal = given.string(diag)?;
    match literal.parse_with(parser) {
        Ok(value) => Some(value),
        Err(_) => {
            let message = format!(
                "`{}` wants {what}, and `{}` is none: write `{}`",
                given.key.name,
                literal.value(),
                given.key.example
            );
            diag.error(literal, message);
            None
        }
    }
}

/// The last segment of a type's path: `Option` of `std::option::Option<i64>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}
