//! The public verbs; each is a few lines into the read or the write pipeline.

mod aside;
pub(crate) mod lookups;
mod read;
mod write;

use std::{fmt, sync::Arc};

use sea_orm::sea_query::IntoValueTuple;

pub use self::aside::{CacheAside, LoadLease, LookedUp};
use crate::{
    CachedDb, CachedEntity, Id, Stats, Transaction,
    config::{ReadOptions, ReadPolicy},
    context::EntityContext,
    near::NearStore,
    read::{Budget, Question, Read},
    registry::Registered,
    session::Scope,
};

/// The cached repository of one entity.
///
/// `#[derive(CachedEntity)]` makes a type of its own around it, `user::Repository`, which derefs
/// to this one: every verb here is a verb there. Cheap to clone; clones share everything.
pub struct Repository<M: CachedEntity> {
    registered: Arc<Registered>,
    near: Option<Arc<NearStore<Id<M>, M>>>,
    policy: ReadPolicy,
    scope: Scope,
}

impl<M: CachedEntity> Repository<M> {
    /// The repository of `M` over a database.
    #[must_use]
    pub fn new(db: &CachedDb) -> Self {
        let registered = db.registry().entity::<M>();
        Self {
            near: registered.near(),
            policy: registered.context().policy,
            registered,
            scope: Scope::Pool,
        }
    }

    /// The same repository inside a transaction: its reads go to the database and see the
    /// transaction's own writes, and its writes reach the cache when the transaction commits.
    #[must_use]
    pub fn on(&self, tx: &Transaction) -> Self {
        Self {
            // The transaction's own: it decides which cache is told.
            registered: tx.registry().entity::<M>(),
            near: None,
            policy: self.policy,
            scope: Scope::Transaction(Arc::clone(tx.session())),
        }
    }

    /// The same repository with other settings for its reads.
    #[must_use]
    pub fn with(&self, options: ReadOptions) -> Self {
        Self {
            policy: self.policy.with(options),
            ..self.clone()
        }
    }

    /// The same repository, asking the database whatever the cache holds, and repairing the cache.
    #[must_use]
    pub fn fresh(&self) -> Self {
        self.with(ReadOptions::new().fresh())
    }

    /// What the repositories of this entity have done since the `CachedDb` was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.registered.stats()
    }

    fn context(&self) -> &Arc<EntityContext> {
        self.registered.context()
    }

    fn read(&self) -> Read<'_> {
        Read {
            reader: &self.registered.reader,
            scope: &self.scope,
            policy: self.policy,
            budget: Budget::of(self.context().shared.config.cache_timeout),
        }
    }

    fn question(&self, id: Id<M>) -> Question {
        Question::row(&self.context().entity, id.into_value_tuple())
    }
}

impl<M: CachedEntity> Clone for Repository<M> {
    fn clone(&self) -> Self {
        Self {
            registered: Arc::clone(&self.registered),
            near: self.near.clone(),
            policy: self.policy,
            scope: self.scope.clone(),
        }
    }
}

impl<M: CachedEntity> fmt::Debug for Repository<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("entity", &self.context().entity.name)
            .finish_non_exhaustive()
    }
}
