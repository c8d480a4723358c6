//! An entity without its type: names, columns, keys and lookups as data, and its [`EntityOps`].
//!
//! An entry under the key of a lookup is an *index entry*: the primary keys of the rows that were
//! found. It may hold too much, because a write leaves the index entries of a row's old values
//! alone; so whoever follows one compares the rows. It never holds too little, because a write
//! blocks and invalidates the index entries of the row's new values.
//!
//! Does not read or write anything.

#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod statements;
mod uncached;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use sea_orm::{
    ActiveValue, ColumnTrait, DbBackend, EntityName, EntityTrait, IdenStatic, Iterable, ModelTrait,
    PrimaryKeyToColumn, PrimaryKeyTrait, QueryTrait, RelationDef, RelationTrait,
    sea_query::{
        ArrayType, DynIden, IntoIden, Query, ReturningClause, SelectStatement, TableRef, Value,
        ValueTuple,
    },
};

use super::{
    CachedEntity, ColumnOf, Definition, EntityOptions, LookupKind, PrimaryKey, RelationOf,
    column::{Column, Comparison, dialect, is_null, scale},
    condition::{self, Meets, Term},
    foreign_key::{ForeignKey, table_name},
    ops::{EntityOps, ModelRef, Typed},
    version::first_version,
};
use crate::{
    protocol::{Key, KeySpace, LookupSpace, RowDecoder, RowEncoder, RowError, Version},
    telemetry::EntityStats,
};

/// An entity of one [`CachedDb`](crate::CachedDb).
pub(crate) struct Entity {
    pub(crate) ops: Box<dyn EntityOps>,
    /// The entity's part of a cache key.
    pub(crate) name: String,
    pub(crate) table: TableRef,
    /// The table's name, with its schema.
    pub(crate) table_name: String,
    /// What its relations say of foreign keys.
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) columns: Vec<Column>,
    /// The primary key's columns, by position.
    pub(crate) key_columns: Vec<usize>,
    /// The database makes the primary key.
    pub(crate) auto_increment: bool,
    pub(crate) version: Option<VersionColumn>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) keys: KeySpace,
    pub(crate) definition: Definition,
    /// Every column of every row.
    pub(crate) select: SelectStatement,
    /// The same columns behind a write.
    pub(crate) returning: ReturningClause,
    pub(crate) backend: DbBackend,
    pub(crate) stats: Arc<EntityStats>,
}

/// The column of `#[cached(version)]`.
pub(crate) struct VersionColumn {
    /// By position.
    pub(crate) at: usize,
    /// The version of a new row.
    pub(crate) first: Value,
}

/// A lookup: unique or index columns, besides the primary key.
pub(crate) struct Lookup {
    pub(crate) columns: Vec<LookupColumn>,
    pub(crate) kind: LookupKind,
    /// What the rows must meet besides.
    pub(crate) condition: Vec<Term>,
    /// What users call it.
    pub(crate) name: String,
    keys: LookupSpace,
    /// Said once that several rows were found where one was expected.
    pub(crate) is_ambiguous: AtomicBool,
}

/// One column of a lookup.
pub(crate) struct LookupColumn {
    /// By position.
    pub(crate) at: usize,
    pub(super) normalize: Option<fn(&str) -> String>,
}

impl Entity {
    /// The description of `M` in a namespace, over a database.
    pub(crate) fn of<M: CachedEntity>(namespace: &str, backend: DbBackend) -> Self {
        let table = M::Entity::default();
        let columns: Vec<_> = ColumnOf::<M>::iter().collect();
        let at = |sought: &ColumnOf<M>| {
            let mut names = columns.iter().map(IdenStatic::as_str);
            let at = names.position(|name| name == sought.as_str());
            at.expect("SeaORM lists every column of an entity")
        };
        let lookups = M::lookups().iter().map(|lookup| {
            let columns = lookup.columns.iter();
            let columns = columns.map(|column| LookupColumn {
                at: at(&column.column),
                normalize: column.normalize,
            });
            let condition = lookup.condition.iter().map(|term| Term {
                at: at(&term.column),
                test: term.test,
            });
            (columns.collect(), lookup.kind, condition.collect())
        });
        let returning = columns
            .iter()
            .map(|column| column.select_as(column.into_returning_expr(backend)));
        Parts {
            table: table.table_ref(),
            relations: RelationOf::<M>::iter()
                .map(|relation| (relation.def(), M::cascades(&relation)))
                .collect(),
            key_columns: PrimaryKey::<M>::iter()
                .map(|key| at(&key.into_column()))
                .collect(),
            auto_increment: PrimaryKey::<M>::auto_increment(),
            version: M::version_column()
                .map(|column| (at(&column), <M as ModelTrait>::get_value_type(column))),
            lookups: lookups.collect(),
            select: M::Entity::find().into_query(),
            returning: Query::returning().exprs(returning),
            columns: columns
                .iter()
                .map(|column| {
                    let definition = column.def();
                    Column {
                        name: column.into_iden(),
                        reference: column.as_column_ref(),
                        is_generated: M::is_generated(column),
                        value_type: <M as ModelTrait>::get_value_type(*column),
                        comparison: Comparison::of(definition.get_column_type()),
                        kept_places: AtomicUsize::new(scale(definition.get_column_type())),
                    }
                })
                .collect(),
            definition: M::DEFINITION,
            ops: Box::new(Typed::<M>::new()),
        }
        .assemble(namespace, backend)
    }

    pub(crate) fn options(&self) -> &EntityOptions {
        &self.definition.options
    }

    /// The cache key of the row with this primary key.
    pub(crate) fn row_key(&self, id: &ValueTuple) -> Key {
        self.keys.row_of(id)
    }

    /// The positions of columns by their names; `None` if the model lacks one.
    pub(crate) fn positions(&self, names: &[DynIden]) -> Option<Vec<usize>> {
        let position = |name: &DynIden| self.columns.iter().position(|column| column.name == *name);
        names.iter().map(position).collect()
    }

    /// Whether another model of the table has the same columns as its primary key, in whatever order.
    pub(crate) fn has_key_of(&self, other: &Self) -> bool {
        let own: Vec<_> = self
            .key_columns
            .iter()
            .map(|at| &self.columns[*at].name)
            .collect();
        let mut others = other.key_columns.iter().map(|at| &other.columns[*at].name);
        own.len() == other.key_columns.len() && others.all(|name| own.contains(&name))
    }

    /// The primary key of the same row in another model of the table; `None` if its key has other
    /// columns.
    pub(crate) fn id_in(&self, other: &Self, id: &ValueTuple) -> Option<ValueTuple> {
        let values: Vec<&Value> = id.iter().collect();
        let value = |at: &usize| {
            let name = &other.columns[*at].name;
            let own = self.key_columns.iter();
            let mut own = own.map(|at| &self.columns[*at].name);
            own.position(|own| own == name).map(|at| values[at].clone())
        };
        if self.key_columns.len() != other.key_columns.len() {
            return None;
        }
        let values: Option<_> = other.key_columns.iter().map(value).collect();
        values.map(tuple)
    }

    /// The primary key of a model.
    pub(crate) fn id_of(&self, model: ModelRef<'_>) -> ValueTuple {
        let columns = self.key_columns.iter();
        tuple(columns.map(|at| self.ops.value(model, *at)).collect())
    }

    /// The cache key of a model's row.
    pub(crate) fn key_of(&self, model: ModelRef<'_>) -> Key {
        self.row_key(&self.id_of(model))
    }

    /// The version of a model, [`Version::ZERO`] without one.
    pub(crate) fn version_of(&self, model: ModelRef<'_>) -> Version {
        self.ops.version(model).unwrap_or(Version::ZERO)
    }

    /// The primary key among the values of all columns; `None` if a part of it is not set.
    pub(crate) fn id_among(&self, values: &[ActiveValue<Value>]) -> Option<ValueTuple> {
        let parts = self.key_columns.iter();
        let parts = parts.map(|at| values[*at].clone().into_value());
        Some(tuple(parts.collect::<Option<_>>()?))
    }

    /// The cache key of a lookup's index entry; `None` where nothing can be found: NULL is equal
    /// to no value of a unique column, not even to itself.
    pub(crate) fn index_key(&self, lookup: usize, values: &[Value]) -> Option<Key> {
        let lookup = &self.lookups[lookup];
        if lookup.kind == LookupKind::Unique && values.iter().any(is_null) {
            return None;
        }
        let columns = lookup.columns.iter().zip(values);
        let values = columns.map(|(column, value)| match (column.normalize, value) {
            (Some(normalize), Value::String(Some(text))) => Value::from(normalize(text)),
            (_, value) => value.clone(),
        });
        Some(lookup.keys.key(values))
    }

    /// The values of a lookup's columns in a model.
    pub(crate) fn lookup_values(&self, lookup: usize, model: ModelRef<'_>) -> Vec<Value> {
        let columns = self.lookups[lookup].columns.iter();
        columns
            .map(|column| self.ops.value(model, column.at))
            .collect()
    }

    /// The cache key of a lookup for the values that a model has, whether or not it meets the condition.
    pub(crate) fn index_key_of(&self, lookup: usize, model: ModelRef<'_>) -> Option<Key> {
        self.index_key(lookup, &self.lookup_values(lookup, model))
    }

    /// Whether the index entry with this key leads to a model.
    pub(crate) fn leads_to(&self, lookup: usize, key: &Key, model: ModelRef<'_>) -> bool {
        self.meets(lookup, model) == Meets::Yes
            && self.index_key_of(lookup, model).as_ref() == Some(key)
    }

    /// The cache keys of all index entries that may lead to a model.
    pub(crate) fn index_keys_of(&self, model: ModelRef<'_>) -> impl Iterator<Item = Key> {
        (0..self.lookups.len()).filter_map(move |lookup| self.index_key_if_met(lookup, model))
    }

    /// The cache key of the index entry that may lead to a model by a lookup.
    pub(crate) fn index_key_if_met(&self, lookup: usize, model: ModelRef<'_>) -> Option<Key> {
        match self.meets(lookup, model) {
            Meets::No => None,
            Meets::Unsure | Meets::Yes => self.index_key_of(lookup, model),
        }
    }

    /// Whether a model meets the condition of a lookup.
    pub(crate) fn meets(&self, lookup: usize, model: ModelRef<'_>) -> Meets {
        self.meets_with(lookup, |at| Some(self.ops.value(model, at)))
    }

    /// The same of a row with these values, as far as they are known.
    pub(crate) fn meets_with(
        &self,
        lookup: usize,
        value: impl Fn(usize) -> Option<Value>,
    ) -> Meets {
        let terms = self.lookups[lookup].condition.iter();
        let met = terms.map(|term| {
            let column = &self.columns[term.at];
            term.is_met(column, value(term.at).as_ref(), self.backend)
        });
        met.min().unwrap_or(Meets::Yes)
    }

    /// Whether everything that the database calls equal to these values has the same index key.
    pub(crate) fn index_key_is_exact(&self, lookup: usize, values: &[Value]) -> bool {
        let Lookup {
            columns, condition, ..
        } = &self.lookups[lookup];
        let mut columns = columns.iter().zip(values);
        let mut terms = condition.iter();
        columns.all(|(column, value)| {
            column.normalize.is_some()
                || is_null(value)
                || self.columns[column.at].is_exact(value, self.backend)
        }) && terms.all(|term| term.is_exact(&self.columns[term.at], self.backend))
    }

    /// Whether everything that the database calls equal to a primary key has the same cache key.
    pub(crate) fn row_key_is_exact(&self, id: &ValueTuple) -> bool {
        let mut values = self.key_columns.iter().zip(id.iter());
        values.all(|(at, value)| self.columns[*at].is_exact(value, self.backend))
    }

    /// Whether a row shows its primary key as a statement gives it.
    pub(crate) fn keeps_key(&self, id: &ValueTuple) -> bool {
        let mut values = self.key_columns.iter().zip(id.iter());
        values.all(|(at, value)| self.columns[*at].keeps(value, self.backend))
    }

    /// Appends the list of primary keys of an index entry.
    pub(crate) fn encode_keys(
        &self,
        keys: &[ValueTuple],
        entry: &mut RowEncoder,
    ) -> Result<(), RowError> {
        self.ops.encode_keys(keys, entry)
    }

    /// Reads the list of primary keys of an index entry.
    pub(crate) fn decode_keys(
        &self,
        entry: &mut RowDecoder<'_>,
    ) -> Result<Vec<ValueTuple>, RowError> {
        self.ops.decode_keys(entry)
    }
}

/// What only the entity's type knows.
struct Parts {
    table: TableRef,
    /// Each with whether the model says that it cascades.
    relations: Vec<(RelationDef, bool)>,
    columns: Vec<Column>,
    key_columns: Vec<usize>,
    auto_increment: bool,
    version: Option<(usize, ArrayType)>,
    lookups: Vec<(Vec<LookupColumn>, LookupKind, Vec<Term>)>,
    select: SelectStatement,
    returning: ReturningClause,
    definition: Definition,
    ops: Box<dyn EntityOps>,
}

impl Parts {
    fn assemble(self, namespace: &str, backend: DbBackend) -> Entity {
        let table_name = table_name(self.table.clone()).unwrap_or_default();
        let name = self
            .definition
            .options
            .name
            .unwrap_or(&table_name)
            .to_owned();
        let foreign_keys = self.relations.into_iter();
        let foreign_keys =
            foreign_keys.filter_map(|(relation, cascades)| ForeignKey::of(relation, cascades));
        let keys = KeySpace::new(namespace, &name).in_dialect(dialect(backend));
        let lookup = |(columns, kind, condition): (Vec<LookupColumn>, _, Vec<_>)| {
            let names = columns.iter().map(|column| &self.columns[column.at].name);
            let names: Vec<_> = names.map(|name| name.inner()).collect();
            let text = condition::text_of(&condition, &self.columns);
            let mut name = names.join(", ");
            if let Some(text) = &text {
                name = format!("{name} WHERE {text}");
            }
            Lookup {
                keys: keys.lookup(names.iter().map(|name| &**name), text.as_deref()),
                columns,
                kind,
                condition,
                name,
                is_ambiguous: AtomicBool::new(false),
            }
        };
        Entity {
            lookups: self.lookups.into_iter().map(lookup).collect(),
            version: self.version.map(|(at, value_type)| VersionColumn {
                at,
                first: first_version(&value_type).expect("`VersionField` is an integer"),
            }),
            name,
            table_name,
            foreign_keys: foreign_keys.collect(),
            keys,
            backend,
            ops: self.ops,
            table: self.table,
            columns: self.columns,
            key_columns: self.key_columns,
            auto_increment: self.auto_increment,
            definition: self.definition,
            select: self.select,
            returning: self.returning,
            stats: Arc::default(),
        }
    }
}

fn tuple(values: Vec<Value>) -> ValueTuple {
    match <[Value; 1]>::try_from(values) {
        Ok([one]) => ValueTuple::One(one),
        Err(values) => match <[Value; 2]>::try_from(values) {
            Ok([one, two]) => ValueTuple::Two(one, two),
            Err(values) => match <[Value; 3]>::try_from(values) {
                Ok([one, two, three]) => ValueTuple::Three(one, two, three),
                Err(values) => ValueTuple::Many(values),
            },
        },
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
