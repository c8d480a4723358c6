//! The options of `#[cached(…)]` on a field, and what the cache needs to know of `#[sea_orm(…)]`.
//!
//! Mistakes in SeaORM's attribute are reported by SeaORM's own derive, and not here.

use proc_macro2::Span;
use syn::{Attribute, Ident, LitStr, Path, meta::ParseNestedMeta};

use super::{
    attribute::{self, Level},
    lookup::{self, LookupAttr, LookupKind},
    option::skip_value,
};
use crate::diag::Diagnostics;

/// The options on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// Where `version` is written.
    pub(crate) version: Option<Span>,
    pub(crate) with: Option<With>,
    /// Where `generated` is written.
    pub(crate) generated: Option<Span>,
    pub(crate) unique: Option<LookupAttr>,
    pub(crate) index: Option<LookupAttr>,
    pub(crate) normalize: Option<Normalize>,
    pub(crate) sea_orm: SeaOrmAttrs,
}

/// What `#[sea_orm(…)]` says about a field.
#[derive(Default)]
pub(crate) struct SeaOrmAttrs {
    /// `ignore`: the field is no column.
    pub(crate) ignore: bool,
    /// `primary_key`; the expanded form of a model does not have it.
    pub(crate) primary_key: bool,
    pub(crate) unique: bool,
    /// `unique_key = "group"`, perhaps several.
    pub(crate) unique_keys: Vec<LitStr>,
    pub(crate) column_name: Option<String>,
    pub(crate) enum_name: Option<Ident>,
}

/// `with = "module"`; no module if the text is not a path.
pub(crate) struct With {
    pub(crate) span: Span,
    pub(crate) module: Option<Path>,
}

/// `normalize = "function"`; no function if the text is not a path.
pub(crate) struct Normalize {
    pub(crate) span: Span,
    pub(crate) function: Option<Path>,
}

pub(crate) fn read(attrs: &[Attribute], diag: &mut Diagnostics) -> FieldAttrs {
    let mut read = FieldAttrs::default();
    attribute::for_each(attrs, Level::Field, diag, |given, diag| {
        let span = given.span();
        match given.key.name {
            "version" => {
                given.flag(diag);
                read.version = Some(span);
            }
            "generated" => {
                given.flag(diag);
                read.generated = Some(span);
            }
            "unique" => read.unique = lookup::read(given, Level::Field, LookupKind::Unique, diag),
            "index" => read.index = lookup::read(given, Level::Field, LookupKind::INDEX, diag),
            "normalize" => {
                let function = given.parsed("the path of a function", Path::parse_mod_style, diag);
                read.normalize = Some(Normalize { span, function });
            }
            "with" => {
                let module = given.parsed("the path of a module", Path::parse_mod_style, diag);
                read.with = Some(With { span, module });
            }
            other => unreachable!("`{other}` is in the list of options and is not read"),
        }
    });
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("sea_orm")) {
        // SeaORM's derive reports the error.
        let _ = attr.parse_nested_meta(|meta| {
            read.sea_orm.option(&meta);
            skip_value(meta.input);
            Ok(())
        });
    }
    read
}

impl SeaOrmAttrs {
    /// Reads one option.
    fn option(&mut self, meta: &ParseNestedMeta<'_>) {
        let text = || meta.value().and_then(|value| value.parse::<LitStr>()).ok();
        if meta.path.is_ident("ignore") {
            self.ignore = true;
        } else if meta.path.is_ident("primary_key") {
            self.primary_key = true;
        } else if meta.path.is_ident("unique") {
            self.unique = true;
        } else if meta.path.is_ident("unique_key") {
            self.unique_keys.extend(text());
        } else if meta.path.is_ident("enum_name") {
            self.enum_name = text().and_then(|name| name.parse().ok());
        } else if meta.path.is_ident("column_name") {
            self.column_name = text().map(|name| name.value());
        }
    }
}
