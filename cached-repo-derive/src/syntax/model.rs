//! The options of `#[cached(…)]` on the struct.

use std::time::Duration;

use syn::{Attribute, Ident, LitStr, Path, parse::Parse};

use super::{
    attribute::{self, Level},
    lookup::{self, LookupAttr, LookupKind},
    near::{self, NearAttr},
    option::{Given, Zero},
};
use crate::diag::Diagnostics;

/// The options on the struct.
#[derive(Default)]
pub(crate) struct ModelAttrs {
    pub(crate) options: Options,
    pub(crate) near: Option<NearAttr>,
    pub(crate) repository: Option<Ident>,
    /// `#[cached(crate = "…")]`.
    pub(crate) krate: Option<Path>,
    /// `#[cached(cascades(Posts))]`: variants of SeaORM's `Relation`.
    pub(crate) cascades: Vec<Ident>,
    /// `#[cached(unique(a, b))]` and `#[cached(index(a, b))]`.
    pub(crate) lookups: Vec<LookupAttr>,
}

/// The options that the runtime gets as they are written.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) name: Option<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) stale_ttl: Option<Duration>,
    pub(crate) on_cache_failure: Option<OnCacheFailure>,
    pub(crate) reload_after_write: bool,
    pub(crate) codec: RowCodec,
    /// In bytes, with the literal.
    pub(crate) compress_above: Option<(usize, LitStr)>,
}

/// What a write does if it cannot reach Redis.
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
#[derive(Clone, Copy, Default)]
pub(crate) enum RowCodec {
    #[default]
    MessagePack,
    Json,
}

const CODECS: &[(&str, RowCodec)] = &[
    ("messagepack", RowCodec::MessagePack),
    ("json", RowCodec::Json),
];

pub(crate) fn read(attrs: &[Attribute], diag: &mut Diagnostics) -> ModelAttrs {
    let mut read = ModelAttrs::default();
    attribute::for_each(attrs, Level::Model, diag, |given, diag| {
        let options = &mut read.options;
        match given.key.name {
            "ttl" => {
                let instead = "write how long a row may be served, or leave it out to use the \
                               CachedDb's default";
                options.ttl = given.duration(Zero::Refused(instead), diag);
            }
            "negative_ttl" => options.negative_ttl = given.duration(Zero::Allowed, diag),
            "stale_ttl" => options.stale_ttl = given.duration(Zero::Allowed, diag),
            "on_cache_failure" => options.on_cache_failure = given.choice(POLICIES, diag),
            "name" => options.name = name(given, diag),
            "reload_after_write" => {
                given.flag(diag);
                options.reload_after_write = true;
            }
            "cascades" => read.cascades = given.words("relations", diag),
            "codec" => options.codec = given.choice(CODECS, diag).unwrap_or_default(),
            "compress_above" => options.compress_above = given.size(diag),
            "near" => read.near = Some(near::read(given, diag)),
            "unique" => {
                let unique = lookup::read(given, Level::Model, LookupKind::Unique, diag);
                read.lookups.extend(unique);
            }
            "index" => {
                let index = lookup::read(given, Level::Model, LookupKind::INDEX, diag);
                read.lookups.extend(index);
            }
            "repository" => {
                read.repository = given.parsed("the name of a type", Ident::parse, diag);
            }
            "crate" => read.krate = given.parsed("a path", Path::parse_mod_style, diag),
            other => unreachable!("`{other}` is in the list of options and is not read"),
        }
    });
    read
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
