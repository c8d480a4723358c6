//! What the parts of a [`CachedDb`](crate::CachedDb) share: the connection, the tier, the queue
//! of invalidations, the settings and the background tasks.
//!
//! Does not read or write rows.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sea_orm::{DatabaseConnection, DbErr, sea_query::ValueTuple};

use crate::{
    catalog::Catalog,
    clock::ms,
    config::{Config, ReadPolicy},
    entity::{Entity, ops::ModelRef},
    error::{ReadError, WriteError},
    invalidation::{Change, Epoch, Epochs, InvalidationQueue, Put, Usable},
    policy::OnCacheFailure,
    protocol::{
        Format, Key, RowEncoder, RowError, Version, epoch::stamped, seal_row, state::Value,
    },
    tasks::Tasks,
    tier::Tier,
};

/// What the entities of a `CachedDb` share.
pub(crate) struct Context {
    pub(crate) conn: DatabaseConnection,
    pub(crate) tier: Arc<dyn Tier>,
    pub(crate) config: Config,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) queue: InvalidationQueue,
    pub(crate) tasks: Tasks,
    /// All entities of which a repository was opened.
    pub(crate) catalog: Catalog<EntityContext>,
}

/// One entity of a `CachedDb`: what its reads and its writes share.
pub(crate) struct EntityContext {
    pub(crate) shared: Arc<Context>,
    pub(crate) entity: Arc<Entity>,
    pub(crate) policy: ReadPolicy,
    epoch: Arc<Epoch>,
    on_cache_failure: OnCacheFailure,
    /// How long the last load took, in milliseconds: what reloading a row that a write has stored is
    /// taken to cost.
    load_cost_ms: AtomicU32,
}

impl EntityContext {
    pub(crate) fn new(shared: &Arc<Context>, entity: Entity) -> Self {
        let options = entity.options();
        Self {
            policy: ReadPolicy::of(&shared.config, options),
            on_cache_failure: options
                .on_cache_failure
                .unwrap_or(shared.config.on_cache_failure),
            epoch: shared.epochs.of(entity.keys.prefix()),
            shared: Arc::clone(shared),
            entity: Arc::new(entity),
            load_cost_ms: AtomicU32::new(1),
        }
    }

    /// A load has taken so long.
    pub(crate) fn note_load_cost(&self, ms: u32) {
        self.load_cost_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether a read that begins now may use entries of the entity, and which.
    #[inline]
    pub(crate) fn usable(&self) -> Usable {
        self.shared.epochs.usable(&self.epoch)
    }

    /// The same; the tier is asked if need be.
    pub(crate) async fn usable_or_asked(&self) -> Usable {
        self.shared.epochs.usable_or_asked(&self.epoch).await
    }

    /// See [`Epochs::storable`].
    pub(crate) async fn storable(&self) -> Usable {
        self.shared.epochs.storable(&self.epoch).await
    }

    /// See [`Epochs::is_newest`].
    pub(crate) fn is_newest(&self, epoch: u32) -> bool {
        self.shared.epochs.is_newest(&self.epoch, epoch)
    }

    /// Whether a write is refused if the tier does not acknowledge its block.
    pub(crate) fn must_block(&self) -> bool {
        self.on_cache_failure == OnCacheFailure::Refuse
    }

    /// The other models of the entity's table.
    pub(crate) fn siblings(&self) -> Vec<Arc<Self>> {
        let mut models = self.shared.catalog.models_of(&self.entity.table_name);
        models.retain(|model| !Arc::ptr_eq(&model.entity, &self.entity));
        models
    }

    /// A change of a row.
    pub(crate) fn row_change(&self, floor: Version, put: Option<Put>) -> Change {
        Change {
            prefix: Arc::clone(self.entity.keys.prefix()),
            stats: Arc::clone(&self.entity.stats),
            on_failure: self.on_cache_failure,
            writes: 0,
            floor,
            raw: false,
            put,
        }
    }

    /// A change of an index entry.
    pub(crate) fn index_change(&self) -> Change {
        self.row_change(Version::ZERO, None)
    }

    /// A change of a row by statements of the user's own.
    pub(crate) fn raw_change(&self) -> Change {
        Change {
            raw: true,
            ..self.row_change(Version::ZERO, None)
        }
    }

    /// The entity as one whose rows may all change: what its keys start with, and what to do if the
    /// cache fails.
    pub(crate) fn as_a_whole(&self) -> (Arc<str>, OnCacheFailure) {
        (Arc::clone(self.entity.keys.prefix()), self.on_cache_failure)
    }

    /// Encodes and seals a model that was read in this epoch, to be stored for as long as `policy` says.
    pub(crate) fn seal(
        &self,
        key: &Key,
        model: ModelRef<'_>,
        version: Version,
        policy: &ReadPolicy,
        epoch: u32,
    ) -> Result<Value, RowError> {
        let encode = |row: &mut _| self.entity.ops.encode(model, row);
        self.sealed(key, version, policy, epoch, encode)
    }

    /// The same for the primary keys of an index entry.
    pub(crate) fn seal_index(
        &self,
        key: &Key,
        ids: &[ValueTuple],
        policy: &ReadPolicy,
        epoch: u32,
    ) -> Result<Value, RowError> {
        let encode = |entry: &mut _| self.entity.encode_keys(ids, entry);
        self.sealed(key, Version::ZERO, policy, epoch, encode)
    }

    fn sealed(
        &self,
        key: &Key,
        version: Version,
        policy: &ReadPolicy,
        epoch: u32,
        encode: impl FnOnce(&mut RowEncoder) -> Result<(), RowError>,
    ) -> Result<Value, RowError> {
        let format = self.entity.definition.format();
        let format = Format {
            schema: stamped(format.schema, epoch),
            ..format
        };
        let payload = seal_row(key, version, format, encode).inspect_err(|error| {
            self.entity.stats.encode_errors.add(1);
            tracing::warn!(%key, %error, "an entry cannot be encoded; it is not cached");
        })?;
        let fresh_ms = self.jittered_ms(policy.ttl);
        Ok(Value {
            payload,
            schema: format.schema,
            load_cost_ms: self.load_cost_ms.load(Ordering::Relaxed),
            fresh_ms,
            ttl_ms: fresh_ms.saturating_add(ms(policy.stale_ttl)),
        })
    }

    /// A TTL less a random share of it, so that rows stored together do not expire together.
    pub(crate) fn jittered_ms(&self, ttl: Duration) -> u64 {
        ms(ttl.mul_f64(1.0 - self.shared.config.ttl_jitter * fastrand::f64())).max(1)
    }

    /// A load that the database failed; counted.
    pub(crate) fn load_failed(&self, source: DbErr) -> ReadError {
        self.entity.stats.load_errors.add(1);
        ReadError::Database {
            entity: self.entity.name.clone(),
            source,
        }
    }

    /// A load that waited for its turn for too long; counted.
    pub(crate) fn overloaded(&self) -> ReadError {
        self.entity.stats.loads_refused.add(1);
        ReadError::Overloaded {
            entity: self.entity.name.clone(),
        }
    }

    /// A load whose task ended without a result.
    pub(crate) fn load_aborted(&self) -> ReadError {
        let entity = self.entity.name.clone();
        if self.shared.tasks.have_ended() {
            ReadError::RuntimeEnded { entity }
        } else {
            ReadError::Aborted { entity }
        }
    }

    /// A write that the database failed.
    pub(crate) fn write_failed(&self, source: DbErr) -> WriteError {
        WriteError::Database {
            entity: self.entity.name.clone(),
            source,
        }
    }

    /// A write of a row that is not there.
    pub(crate) fn not_found(&self, key: &Key) -> WriteError {
        WriteError::NotFound {
            entity: self.entity.name.clone(),
            id: WriteError::id_text(key),
        }
    }
}

impl fmt::Debug for EntityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityContext")
            .field("entity", &self.entity)
            .finish_non_exhaustive()
    }
}
