//! The contract between an entity and the cache: what `#[derive(CachedEntity)]` implements, and
//! the same without its type for the engine ([`Entity`], [`ops`]).
//!
//! The texts of `on_unimplemented` are part of the contract: users read them when an entity does
//! not fit.
//!
//! Does not read or write the cache, and decides nothing about it.

mod column;
mod comparable;
mod condition;
pub(crate) mod description;
pub(crate) mod foreign_key;
pub(crate) mod ops;
mod version;

use std::time::Duration;

use sea_orm::{
    ActiveModelBehavior, EntityName, EntityTrait, FromQueryResult, IntoActiveModel, ModelTrait,
    PrimaryKeyTrait,
};

pub(crate) use self::{
    column::is_null,
    condition::Meets,
    description::{Entity, statements},
    version::version_number,
};
pub use self::{
    comparable::{BooleanColumn, IntegerColumn, NullColumn, TextColumn},
    condition::{Literal, Test},
    version::VersionField,
};
use crate::{
    near::NearOptions,
    policy::OnCacheFailure,
    protocol::{Codec, Column, Format, RowDecoder, RowEncoder, RowError, Version},
};

/// The primary key of a model: the type itself for one column, a tuple for a composite key.
pub type Id<M> = <PrimaryKey<M> as PrimaryKeyTrait>::ValueType;
pub(crate) type PrimaryKey<M> = <<M as ModelTrait>::Entity as EntityTrait>::PrimaryKey;
/// The column enum of a model's entity.
pub type ColumnOf<M> = <<M as ModelTrait>::Entity as EntityTrait>::Column;
/// The relation enum of a model's entity.
pub type RelationOf<M> = <<M as ModelTrait>::Entity as EntityTrait>::Relation;
/// The active model of a model's entity.
pub type ActiveModelOf<M> = <<M as ModelTrait>::Entity as EntityTrait>::ActiveModel;

/// A SeaORM model whose rows the cache can keep.
///
/// Implemented by `#[derive(CachedEntity)]`; there is no reason to write it by hand, and its
/// items may change between minor versions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cached entity",
    label = "this model has no cached repository",
    note = "add `CachedEntity` to the derives of the model: \
            `#[derive(Clone, Debug, DeriveEntityModel, CachedEntity)]`"
)]
pub trait CachedEntity:
    ModelTrait<
        Entity: EntityTrait<
            Model = Self,
            ActiveModel: ActiveModelBehavior + Send + Sync + 'static,
            PrimaryKey: PrimaryKeyTrait<ValueType: Clone + Sync + 'static>,
        > + EntityName,
    > + FromQueryResult
    + IntoActiveModel<ActiveModelOf<Self>>
    + Sync
    + 'static
{
    /// The facts that the derive knows at compile time.
    const DEFINITION: Definition;

    /// The row's version, `None` for an entity without a version column.
    fn version(&self) -> Option<Version> {
        None
    }

    /// The column of `#[cached(version)]`.
    fn version_column() -> Option<ColumnOf<Self>> {
        None
    }

    /// Whether only the database writes the column: `#[cached(generated)]`.
    fn is_generated(_column: &ColumnOf<Self>) -> bool {
        false
    }

    /// Whether the database deletes or changes rows along the relation, though the relation does not
    /// say so: `#[cached(cascades(…))]`.
    fn cascades(_relation: &RelationOf<Self>) -> bool {
        false
    }

    /// The lookups besides the primary key; see [`LookupDef`].
    fn lookups() -> &'static [LookupDef<Self>] {
        &[]
    }

    /// How lists of primary keys are encoded; only entities with lookups need it.
    fn ids() -> Option<Column<Vec<Id<Self>>>> {
        None
    }

    /// The options of `#[cached(near(…))]`; `None` for an entity without a near cache.
    fn near() -> Option<NearOptions<Id<Self>, Self>> {
        None
    }

    /// Appends every column, in declaration order.
    ///
    /// # Errors
    /// When a column's `Serialize` fails.
    fn encode(&self, row: &mut RowEncoder) -> Result<(), RowError>;

    /// Reads the columns back, in the same order.
    ///
    /// # Errors
    /// When the bytes are not a row of this entity.
    fn decode(row: &mut RowDecoder<'_>) -> Result<Self, RowError>;
}

/// A cached entity with a version column, whose writes are checked for lost updates.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no version column",
    label = "this method needs an optimistic version check",
    note = "add an integer column to the model and mark it: `#[cached(version)] pub version: i64`"
)]
pub trait Versioned: CachedEntity {}

/// A lookup: `#[sea_orm(unique)]`, `#[cached(index)]` and the like.
#[derive(Debug)]
pub struct LookupDef<M: CachedEntity> {
    /// The columns, in the order of the method's arguments.
    pub columns: &'static [LookupColumn<M>],
    /// How many rows there can be.
    pub kind: LookupKind,
    /// `where = "…"`: what the rows must meet besides, all of it.
    pub condition: &'static [ConditionTerm<M>],
}

/// One term of the condition of a [`LookupDef`].
#[derive(Debug)]
pub struct ConditionTerm<M: CachedEntity> {
    /// The column.
    pub column: ColumnOf<M>,
    /// What it must be.
    pub test: Test,
}

/// One column of a [`LookupDef`].
#[derive(Debug)]
pub struct LookupColumn<M: CachedEntity> {
    /// The column.
    pub column: ColumnOf<M>,
    /// `#[cached(normalize = "…")]`: gives every text that the database calls equal one spelling.
    pub normalize: Option<fn(&str) -> String>,
}

/// How many rows a [`LookupDef`] can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupKind {
    /// At most one: the columns are unique together.
    Unique,
    /// Any number; up to so many are kept in the cache, `None` for the
    /// [`CachedDb`](crate::CachedDb)'s default.
    Index {
        /// The bound.
        max_rows: Option<usize>,
    },
}

/// The facts that the derive knows at compile time.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Fingerprint of the ordered column names and types, and of the codec; entries written by
    /// another shape of the struct read as misses.
    pub schema: u32,
    /// The options of `#[cached(…)]`.
    pub options: EntityOptions,
}

impl Definition {
    /// How rows of the entity become bytes.
    #[must_use]
    pub const fn format(&self) -> Format {
        Format {
            schema: self.schema,
            codec: self.options.codec,
            compress_above: self.options.compress_above,
        }
    }
}

/// The options of `#[cached(…)]` on the model; an option that is `None` comes from the
/// [`CachedDb`](crate::CachedDb).
#[derive(Clone, Copy, Debug)]
pub struct EntityOptions {
    /// `name = "…"`: the entity's part of a cache key. Default: the table's name.
    pub name: Option<&'static str>,
    /// `ttl = "10m"`.
    pub ttl: Option<Duration>,
    /// `negative_ttl = "30s"`; zero turns negative caching off.
    pub negative_ttl: Option<Duration>,
    /// `stale_ttl = "1m"`: how long after its TTL a row may still be served while it is reloaded.
    pub stale_ttl: Option<Duration>,
    /// `on_cache_failure = "refuse"` or `"proceed"`: what a write does when the cache does not
    /// answer.
    pub on_cache_failure: Option<OnCacheFailure>,
    /// `reload_after_write`: read the row again in the transaction of the write, for triggers
    /// and generated columns that RETURNING does not show.
    pub reload_after_write: bool,
    /// `codec = "json"`: how rows become bytes. What the codec is must be in the schema
    /// fingerprint.
    pub codec: Codec,
    /// `compress_above = "1KiB"`: rows of more bytes are compressed if that makes them shorter.
    /// Needs the feature `lz4`.
    pub compress_above: Option<usize>,
}

impl EntityOptions {
    /// Nothing set.
    pub const NONE: Self = Self {
        name: None,
        ttl: None,
        negative_ttl: None,
        stale_ttl: None,
        on_cache_failure: None,
        reload_after_write: false,
        codec: Codec::MessagePack,
        compress_above: None,
    };
}

/// A value that names one row of `M`: anything that converts into its primary key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a primary key of `{M}`",
    label = "expected the type of the model's primary key, or something that converts into it",
    note = "a composite key is a tuple in the order of the model's fields; \
            a literal for an unsigned key needs its suffix: `1u32`"
)]
pub trait IntoId<M: CachedEntity> {
    /// The primary key.
    fn into_id(self) -> Id<M>;
}

#[diagnostic::do_not_recommend]
impl<M: CachedEntity, T: Into<Id<M>>> IntoId<M> for T {
    fn into_id(self) -> Id<M> {
        self.into()
    }
}
