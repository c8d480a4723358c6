//! The entities of a [`CachedDb`](crate::CachedDb), by the type of the model or by name. Repositories
//! of one entity share its state.
//!
//! Invariants:
//! - An entity's state is per `CachedDb`, never global: two of them never share a flight, a counter
//!   or a setting.
//!
//! Does not read or write rows.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    CachedEntity, Id,
    clock::Clock,
    context::{Context, EntityContext},
    entity::{Entity, ops::NearRows},
    near::{Generations, NearCapacity, NearStore},
    read::{Auditor, LoadLimit, Reader},
    telemetry::Stats,
};

/// The entities of a `CachedDb`, and what they share.
pub(crate) struct Registry {
    pub(crate) context: Arc<Context>,
    pub(crate) auditor: Arc<Auditor>,
    limit: Arc<LoadLimit>,
    /// Which of the rows that near caches keep may still be served.
    generations: Arc<Generations>,
    clock: Clock,
    entities: Mutex<HashMap<TypeId, Arc<Registered>>>,
}

/// One entity.
pub(crate) struct Registered {
    pub(crate) reader: Arc<Reader>,
    /// A [`NearStore`] of the model, if there is a near cache.
    near: Option<Arc<dyn Any + Send + Sync>>,
}

impl Registry {
    pub(crate) fn new(context: Context, generations: Arc<Generations>, clock: Clock) -> Self {
        Self {
            auditor: Arc::new(Auditor::new(context.config.audit_rate)),
            limit: Arc::new(LoadLimit::of(&context.config)),
            context: Arc::new(context),
            generations,
            clock,
            entities: Mutex::default(),
        }
    }

    /// The entities of another database over the same tier.
    pub(crate) fn over(&self, context: Context) -> Self {
        Self::new(context, Arc::clone(&self.generations), self.clock)
    }

    /// The entity of a model, made at its first use.
    pub(crate) fn entity<M: CachedEntity>(&self) -> Arc<Registered> {
        if let Some(registered) = self.of_type(TypeId::of::<M>()) {
            return registered;
        }
        let (namespace, backend) = (
            &self.context.config.namespace,
            self.context.conn.get_database_backend(),
        );
        let entity = Entity::of::<M>(namespace, backend);
        let near = self.open_near::<M>();
        let rows = near.clone().map(|near| near as Arc<dyn NearRows>);
        let any = near.map(|near| near as Arc<dyn Any + Send + Sync>);
        self.register(TypeId::of::<M>(), entity, rows, any)
    }

    fn of_type(&self, model: TypeId) -> Option<Arc<Registered>> {
        self.entities.lock().get(&model).cloned()
    }

    fn open_near<M: CachedEntity>(&self) -> Option<Arc<NearStore<Id<M>, M>>> {
        let config = &self.context.config;
        let options = M::near().filter(|_| config.near)?;
        let default = NearCapacity::Entries(config.near_capacity);
        let near = NearStore::open(
            &options,
            default,
            config.near_ttl,
            &self.generations,
            self.clock,
        );
        Some(Arc::new(near))
    }

    fn register(
        &self,
        model: TypeId,
        entity: Entity,
        rows: Option<Arc<dyn NearRows>>,
        near: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Arc<Registered> {
        if rows.is_some() {
            self.context
                .tier
                .listen(Arc::clone(&self.context.epochs) as _);
        }
        let context = Arc::new(EntityContext::new(&self.context, entity));
        let reader = Reader::new(&context, rows, &self.limit, &self.auditor);
        let registered = Arc::new(Registered {
            reader: Arc::new(reader),
            near,
        });
        // Another caller may have been first.
        let mut entities = self.entities.lock();
        let registered = entities.entry(model).or_insert_with(|| {
            let entity = &context.entity;
            entity.warn_of_uncached();
            let catalog = &self.context.catalog;
            catalog.add(&entity.table_name, &entity.foreign_keys, &context);
            registered
        });
        Arc::clone(registered)
    }

    /// All entities of this name: models of one table share it, unless an option says otherwise.
    pub(crate) fn named(&self, name: &str) -> Vec<Arc<Registered>> {
        let mut entities = self.all();
        entities.retain(|registered| registered.context().entity.name == name);
        entities
    }

    /// All entities that have been used, ordered by name.
    pub(crate) fn all(&self) -> Vec<Arc<Registered>> {
        let mut entities: Vec<_> = self.entities.lock().values().cloned().collect();
        entities.sort_by(|a, b| a.context().entity.name.cmp(&b.context().entity.name));
        entities
    }
}

impl Registered {
    pub(crate) fn context(&self) -> &Arc<EntityContext> {
        &self.reader.context
    }

    /// The near cache of `M`, whose entity this is.
    pub(crate) fn near<M: CachedEntity>(&self) -> Option<Arc<NearStore<Id<M>, M>>> {
        let near = Arc::clone(self.near.as_ref()?);
        near.downcast().ok()
    }

    pub(crate) fn stats(&self) -> Stats {
        let EntityContext { shared, entity, .. } = &**self.context();
        Stats {
            pending_invalidations: shared.queue.len_of(entity.keys.prefix()) as u64,
            ..entity.stats.snapshot()
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
