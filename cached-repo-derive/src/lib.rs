//! `#[derive(CachedEntity)]`, the derive macro of `cached-repo`.
//!
//! A visible pipeline, one file per step: `attr` (with `option`) reads the attributes, `model` (with `lookup`)
//! is what was understood, `check` holds the rules between options, `expand` (with `finders`) writes the
//! code.
//! `diag` collects the errors of all steps; after an error, `fallback` takes out of the model
//! whatever the error was about, and the rest is still expanded.
//!
//! The expansion targets `cached_repo::__private`. Behaviour is not here: it lives in the
//! runtime's generics.

mod attr;
mod check;
mod diag;
mod expand;
mod fallback;
mod finders;
mod lookup;
mod model;
mod near;
mod option;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

use crate::{diag::Diagnostics, model::Model};

/// Makes a SeaORM model a cached entity and generates its `Repository`.
///
/// Works on the compact form (`DeriveEntityModel`), the dense form (`#[sea_orm::model]`) and the
/// expanded form (`DeriveModel` beside hand-written `Entity`, `Column` and `PrimaryKey`). The
/// model needs no `Serialize` or `Deserialize`: the cache keeps the row, column by column, and
/// what serde attributes on the model hide from a web API is still cached.
///
/// ```text
/// #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
/// #[sea_orm(table_name = "user")]
/// #[cached(ttl = "10m", negative_ttl = "30s")]
/// pub struct Model {
///     #[sea_orm(primary_key)]
///     pub id: i64,
///     pub name: String,
///     #[cached(with = "crate::codec::settings")]
///     pub settings: Settings,
///     #[cached(version)]
///     pub version: i64,
/// }
/// ```
///
/// # Options on the struct
///
/// Durations are written as `"500ms"`, `"30s"`, `"10m"`, `"1h 30m"` or `"7d"`, at most 100 days.
///
/// | option | meaning | Default |
/// |---|---|---|
/// | `ttl = "10m"` | how long a row is served from the cache | the `CachedDb`'s |
/// | `negative_ttl = "30s"` | how long the absence of a row is remembered; `"0s"` turns it off | the `CachedDb`'s |
/// | `stale_ttl = "1m"` | how long after its `ttl` a row may still be served while it is loaded again; `"0s"` turns it off | the `CachedDb`'s |
/// | `on_cache_failure = "refuse"` | what a write does when the cache cannot be told of it: `"refuse"` fails it, `"proceed"` commits and tells the cache later | the `CachedDb`'s |
/// | `near` | keeps rows in the process too, ready to be served, until another process's write is heard of: `near(capacity = 10_000)`, or `near(capacity = "16MiB")`, and `near(ttl = "5s")` | off; the `CachedDb`'s bounds |
/// | `name = "user"` | the entity's part of a cache key | the table's name |
/// | `unique(a, b)` | the columns are unique together: generates `find_by_a_and_b` and, for many at a time, `find_by_a_and_bs`; repeatable | |
/// | `index(a, b)` | generates `find_all_by_a_and_b`; `max_rows = 100` bounds how many rows of one search are kept; repeatable | |
/// | `reload_after_write` | read the row again in the transaction of a write: for triggers and generated columns that `RETURNING` does not show | off |
/// | `codec = "json"` | rows are stored as JSON objects, for people who look into Redis, instead of MessagePack (`"messagepack"`), which is smaller and faster; see below | `"messagepack"` |
/// | `compress_above = "1KiB"` | rows whose encoding is longer are compressed, if that makes them shorter; in `B`, `KiB` or `MiB`, at most `"64MiB"`. Needs the feature `lz4` of `cached-repo` | never |
/// | `repository = "Users"` | the name of the generated type | `Repository` |
/// | `crate = "path"` | where `cached-repo` is, if it was renamed or re-exported | `::cached_repo` |
///
/// # Options on a field
///
/// | option | meaning |
/// |---|---|
/// | `version` | the column counts the writes of its row: every write checks it and adds one. `i16`, `i32`, `i64`, `u32` or `u64`; not part of the primary key; one per model |
/// | `unique` | as SeaORM's: generates `find_by_<field>` and `find_by_<field>s` |
/// | `index` | generates `find_all_by_<field>`; `index(max_rows = 100)` bounds how many rows of one search are kept |
/// | `normalize = "function"` | `fn(&str) -> String` that gives all texts one spelling which the database calls equal, for columns under a collation that ignores case, say |
/// | `with = "module"` | the column is encoded by `module::serialize` and `module::deserialize`, in serde's convention for `with` |
/// | `generated` | only the database writes the column (`GENERATED ALWAYS AS …`): inserts and saves leave it out |
///
/// # Rows in JSON
///
/// `redis-cli --raw get` shows a header, five bytes of checksum, and the row as an object by the names
/// of its columns. What comes back is exact, as with MessagePack; so a row is not cached
/// (`Stats::encode_errors` counts it) if there is a NaN, an infinity or an integer beyond 64 bits in it,
/// or a map with keys that JSON does not have, tuples for example. `Some` of a JSON `null` has
/// ` (some)` behind its name. Bytes are lists of numbers.
///
/// # What it reads of SeaORM's attributes
///
/// `ignore` (the field is no column: it is not cached, and is `Default::default()` in a row from
/// the cache), `primary_key`, `unique`, `unique_key` (its columns are found by together, under the
/// group's name), `column_name` and `enum_name`.
///
/// Methods of one's own choice of name: `unique(name = "handle")`, `index(a, b, name = "team")`.
///
/// # What it generates
///
/// `impl CachedEntity` (and `Versioned`) for the model, and a newtype around
/// `cached_repo::Repository<Model>`, as visible as the model, with `new`, `with`,
/// `fresh` and the methods that find by `unique` and `index`; it dereferences to the repository it wraps.
///
/// A change of the columns' names, types or order, or of the codec, changes the model's schema
/// fingerprint, and entries that were written before read as misses.
#[proc_macro_derive(CachedEntity, attributes(cached, sea_orm))]
pub fn derive_cached_entity(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    cached_entity(input.into()).into()
}

/// The whole pipeline.
fn cached_entity(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut diag = Diagnostics::default();
    // `#[sea_orm::model]` repeats every derive on the struct it puts beside the model.
    if input.ident == "ModelEx" {
        model::check_relations(&input, &mut diag);
        return diag.into_compile_errors();
    }
    let Some(mut model) = Model::read(&input, &mut diag) else {
        return diag.into_compile_errors();
    };
    check::check(&model, &mut diag);
    if !diag.is_empty() {
        fallback::neutralise(&mut model);
    }
    let errors = diag.into_compile_errors();
    let expansion = expand::expand(&model);
    quote!(#errors #expansion)
}
