//! `#[derive(CachedEntity)]`, the derive macro of `cached-repo`.
//!
//! A pipeline. Each stage imports only from earlier ones:
//!
//! 1. `syntax` reads the attributes into plain values, with their spans.
//! 2. `types` answers questions about the type of a field.
//! 3. `ir` is the model as the derive understands it. It is data only.
//! 4. `resolve` makes the model from the syntax: names, defaults, lookups.
//! 5. `check` reports broken rules between options.
//! 6. `fallback` runs after an error. It removes from the model what the error is about.
//! 7. `expand` writes the code, after an error too, so that one mistake gives one error.
//!
//! All stages report to `diag`, which imports none of them.
//!
//! The generated code is data and thin wrappers around `cached_repo::__private`. What the cache does is
//! not here: it is in the runtime.

mod check;
mod diag;
mod expand;
mod fallback;
mod ir;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;
mod types;

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

use crate::diag::Diagnostics;

/// Makes a SeaORM model a cached entity and generates its `Repository`.
///
/// It works on the compact form (`DeriveEntityModel`), the dense form (`#[sea_orm::model]`) and the
/// expanded form (`DeriveModel` beside hand-written `Entity`, `Column` and `PrimaryKey`).
///
/// The model needs no `Serialize` or `Deserialize`, because the cache stores a row column by column.
/// Serde attributes on the model change nothing: a field that they hide from a web API is cached too.
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
/// Write durations as `"500ms"`, `"30s"`, `"10m"`, `"1h 30m"` or `"7d"`, at most 100 days.
///
/// | option | meaning | Default |
/// |---|---|---|
/// | `ttl = "10m"` | how long a row is served from the cache | the `CachedDb`'s |
/// | `negative_ttl = "30s"` | how long the absence of a row is remembered; `"0s"` turns it off | the `CachedDb`'s |
/// | `stale_ttl = "1m"` | how long after its `ttl` a row is still served while it is loaded again; `"0s"` turns it off | the `CachedDb`'s |
/// | `on_cache_failure = "refuse"` | what a write does if Redis is unreachable: `"refuse"` fails the write; `"proceed"` commits it and queues the invalidation | the `CachedDb`'s |
/// | `near` | keeps decoded rows in the process too, until another process announces a write. Settings: `near(capacity = 10_000)` in rows or `near(capacity = "16MiB")` in bytes, and `near(ttl = "5s")` | off; the `CachedDb`'s bounds |
/// | `name = "user"` | the entity's part of a cache key | the table's name |
/// | `unique(a, b)` | the columns are unique together: generates `find_by_a_and_b` for one row and `find_by_a_and_bs` for many; repeatable | |
/// | `index(a, b)` | generates `find_all_by_a_and_b`; with `max_rows = 100`, at most 100 rows of one search are kept; repeatable | |
/// | `reload_after_write` | reads the row again in the transaction of a write, for triggers and generated columns that `RETURNING` does not show | off |
/// | `cascades(Posts)` | variants of `Relation`: the database has `ON DELETE` or `ON UPDATE` actions there that the relation does not name with `on_delete` and `on_update`. Rows that they delete or change are found and invalidated | what the relation says |
/// | `codec = "json"` | stores rows as JSON objects, which people can read in Redis. MessagePack (`"messagepack"`) is smaller and faster. See below | `"messagepack"` |
/// | `compress_above = "1KiB"` | compresses rows whose encoding is longer, if that makes them shorter; in `B`, `KiB` or `MiB`, at most `"64MiB"`. Needs the feature `lz4` of `cached-repo` | never |
/// | `repository = "Users"` | the name of the generated type | `Repository` |
/// | `crate = "path"` | the path of `cached-repo`, if it is renamed or re-exported | `::cached_repo` |
///
/// # Options on a field
///
/// | option | meaning |
/// |---|---|
/// | `version` | the column counts the writes of its row: every write checks it and adds one. Its type is one of `i16`, `i32`, `i64`, `u32` and `u64`. One per model, not part of the primary key |
/// | `unique` | generates `find_by_<field>` for one row and `find_by_<field>s` for many, like SeaORM's `unique` |
/// | `index` | generates `find_all_by_<field>`; with `index(max_rows = 100)`, at most 100 rows of one search are kept |
/// | `normalize = "function"` | an `fn(&str) -> String` that gives one spelling to all texts that the database treats as equal, for example under a collation that ignores case |
/// | `with = "module"` | `module::serialize` and `module::deserialize` encode the column, as with serde's `with` |
/// | `generated` | only the database writes the column (`GENERATED ALWAYS AS …`): inserts and saves omit it |
///
/// A lookup can be restricted to rows that meet a condition, for example to those that are not deleted:
/// `unique(where = "deleted_at IS NULL")`, or
/// `index(team_id, where = "status = 'active' AND NOT banned")`. A condition consists of terms with `AND`
/// between them: `column IS NULL`, `column IS NOT NULL`, `column` and `NOT column` for a boolean, and
/// `=` or `<>` with an integer, a text or an enum's value. Anything else does not compile, because the
/// cache decides for every row whether it meets the condition.
///
/// A lookup can have a name of its own: `unique(name = "handle")` generates `find_by_handle`, and
/// `index(a, b, name = "team")` generates `find_all_by_team`.
///
/// # Rows in JSON
///
/// `redis-cli --raw get` shows a header, a checksum of five bytes, and the row as an object with the
/// names of its columns. Bytes are lists of numbers. `Some` of a JSON `null` has ` (some)` after the
/// name of its column.
///
/// A row that is read back is exact, as with MessagePack. A row is therefore not cached, and
/// `Stats::encode_errors` counts it, if it contains a NaN, an infinity, an integer beyond 64 bits, or a
/// map with keys that JSON does not have, for example tuples.
///
/// # What it reads of SeaORM's attributes
///
/// - `ignore`: the field is no column. It is not cached, and is `Default::default()` in a row from the
///   cache.
/// - `unique`: generates the same methods as `#[cached(unique)]`.
/// - `unique_key`: generates the same methods as `#[cached(unique(…))]` with all columns of the group,
///   under the name of the group.
/// - `primary_key`, `column_name` and `enum_name`.
///
/// # What it generates
///
/// - `impl CachedEntity` for the model, and `impl Versioned` if it has a version column.
/// - A newtype around `cached_repo::Repository<Model>`, with the visibility of the model. It has the
///   methods `new`, `on`, `with` and `fresh` and those of the lookups, and dereferences to the
///   repository it wraps.
///
/// The model has a schema fingerprint, made of the codec and of the names, types and order of the
/// columns. If it changes, entries that were written before read as misses.
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
    // `#[sea_orm::model]` adds this struct beside the model, and repeats every derive on it.
    if input.ident == "ModelEx" {
        check::check_relations(&input, &mut diag);
        return diag.into_compile_errors();
    }
    let Some(syntax) = syntax::read(&input, &mut diag) else {
        return diag.into_compile_errors();
    };
    let mut model = resolve::resolve(&syntax, &mut diag);
    check::check(&syntax, &model, &mut diag);
    if !diag.is_empty() {
        fallback::neutralise(&syntax, &mut model);
    }
    let errors = diag.into_compile_errors();
    let expansion = expand::expand(&model);
    quote!(#errors #expansion)
}
