//! The model as the derive understands it, ready to be expanded.
//!
//! Plain data with small accessors: nothing is parsed here, and no rule is checked. Values that
//! need no interpretation keep the type that `syntax` read them into.

use proc_macro2::Span;
use syn::{Ident, Path, Type, Visibility};

use crate::syntax::{LookupKind, NearAttr, Options, Test};

/// A struct that derives `CachedEntity`.
pub(crate) struct Model {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    /// Where `cached-repo` is: `::cached_repo`, or what `crate = "…"` says.
    pub(crate) krate: Path,
    /// The name of the generated repository.
    pub(crate) repository: Ident,
    pub(crate) options: Options,
    pub(crate) near: Option<NearAttr>,
    /// Relations along which the database deletes or changes rows.
    pub(crate) cascades: Vec<Ident>,
    pub(crate) fields: Vec<Field>,
    pub(crate) versioning: Versioning,
    pub(crate) lookups: Vec<Lookup>,
    /// An error was reported: the expansion is there for the compiler, and never runs.
    pub(crate) has_errors: bool,
}

/// One field of the struct.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// The column's name in the database.
    pub(crate) column: String,
    /// The column's variant in SeaORM's `Column` enum.
    pub(crate) variant: Ident,
    pub(crate) codec: Codec,
    /// Only the database writes the column.
    pub(crate) is_generated: bool,
    /// A function that gives all equal texts one spelling.
    pub(crate) normalize: Option<Path>,
}

/// How a field's values become bytes.
pub(crate) enum Codec {
    /// By the type's own serde.
    Serde,
    /// By the functions of `#[cached(with = "module")]`.
    With(Path),
    /// The field is no column. It is `Default::default()` in a row from the cache.
    Ignored,
    /// An error was reported about it: the expansion must not require anything of the type.
    Unknown,
}

/// Which column carries the version.
pub(crate) enum Versioning {
    None,
    /// The field at this position.
    Column(usize),
    /// An error was reported: the model may have a version column.
    Unknown,
}

/// Columns that rows are found by.
pub(crate) struct Lookup {
    /// What follows `find_by_` or `find_all_by_` in the names of methods.
    pub(crate) name: String,
    /// Positions in the fields of the model.
    pub(crate) fields: Vec<usize>,
    pub(crate) kind: LookupKind,
    pub(crate) condition: Option<Condition>,
}

/// What a lookup demands of its rows.
pub(crate) struct Condition {
    /// As it is written.
    pub(crate) text: String,
    pub(crate) span: Span,
    pub(crate) terms: Vec<Term>,
}

/// One term of a condition.
pub(crate) struct Term {
    /// Its position in the fields of the model.
    pub(crate) field: usize,
    pub(crate) test: Test,
}

impl Model {
    /// The fields that are columns of the table, in declaration order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &Field> {
        let is_column = |field: &&Field| !matches!(field.codec, Codec::Ignored);
        self.fields.iter().filter(is_column)
    }

    /// The fields of a lookup, in the order of its columns.
    pub(crate) fn fields_of(&self, lookup: &Lookup) -> impl Iterator<Item = &Field> {
        lookup.fields.iter().map(|&at| &self.fields[at])
    }
}

impl Lookup {
    /// The name of the method that takes one value of each column.
    pub(crate) fn method(&self) -> String {
        match self.kind {
            LookupKind::Unique => format!("find_by_{}", self.name),
            LookupKind::Index { .. } => format!("find_all_by_{}", self.name),
        }
    }

    /// The name of the method that takes many values, if there is one.
    pub(crate) fn method_for_many(&self) -> Option<String> {
        (self.kind == LookupKind::Unique).then(|| format!("find_by_{}s", self.name))
    }
}
