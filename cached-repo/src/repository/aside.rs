//! Cache-aside, for rows that the caller loads in its own way.

use std::{fmt, marker::PhantomData};

use super::Repository;
use crate::{
    CacheError, Cached, CachedEntity, IntoId,
    cached::Row,
    read::{Aside, AsideLoad},
};

impl<M: CachedEntity> Repository<M> {
    /// The cache by itself, for callers that load rows in their own way (cache-aside), without
    /// the races of a hand-written `GET`, `SELECT`, `SETEX`.
    #[must_use]
    pub fn cache(&self) -> CacheAside<'_, M> {
        CacheAside { repository: self }
    }
}

/// The cache by itself; see [`Repository::cache`].
#[derive(Debug)]
pub struct CacheAside<'a, M: CachedEntity> {
    repository: &'a Repository<M>,
}

/// What a cache-aside lookup found.
#[derive(Debug)]
#[must_use]
pub enum LookedUp<M: CachedEntity> {
    /// The row.
    Hit(Cached<M>),
    /// The row is known not to exist.
    Absent,
    /// Load the row, then give it to the lease.
    Miss(LoadLease<M>),
}

impl<M: CachedEntity> CacheAside<'_, M> {
    /// Looks a row up. After a miss the caller holds a lease: it loads the row, from the primary
    /// database and outside any transaction, and [fills](LoadLease::fill) the cache. If another
    /// process holds the lease, this waits for what it loads, at most `lease_wait`.
    ///
    /// It cannot fail: if the cache does not answer, it is a miss, and the fill stores nothing.
    ///
    /// ```
    /// # mod user {
    /// #     use sea_orm::entity::prelude::*;
    /// #     #[derive(Clone, Debug, DeriveEntityModel, cached_repo::CachedEntity)]
    /// #     #[sea_orm(table_name = "user")]
    /// #     pub struct Model { #[sea_orm(primary_key)] pub id: i64, pub name: String }
    /// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// #     pub enum Relation {}
    /// #     impl ActiveModelBehavior for ActiveModel {}
    /// # }
    /// # async fn load_it_my_way(id: i64) -> Option<user::Model> { None }
    /// # async fn example(users: user::Repository) -> Result<(), cached_repo::CacheError> {
    /// use cached_repo::LookedUp;
    ///
    /// let user = match users.cache().lookup(1).await {
    ///     LookedUp::Hit(user) => Some(user),
    ///     LookedUp::Absent => None,
    ///     LookedUp::Miss(lease) => match load_it_my_way(1).await {
    ///         Some(row) => Some(lease.fill(row).await?),
    ///         None => {
    ///             lease.fill_absent().await;
    ///             None
    ///         }
    ///     },
    /// };
    /// # Ok(()) }
    /// ```
    pub async fn lookup(&self, id: impl IntoId<M>) -> LookedUp<M> {
        let question = self.repository.question(id.into_id());
        match Aside::look_up(self.repository.read(), question).await {
            Aside::Known(Some(row)) => LookedUp::Hit(row.into()),
            Aside::Known(None) => LookedUp::Absent,
            Aside::Miss(load) => LookedUp::Miss(LoadLease {
                load,
                model: PhantomData,
            }),
        }
    }
}

/// The right to load a row and store it. Dropping it gives the right back.
#[must_use = "load the row and give it to `fill`"]
pub struct LoadLease<M: CachedEntity> {
    load: Box<AsideLoad>,
    model: PhantomData<fn() -> M>,
}

impl<M: CachedEntity> LoadLease<M> {
    /// Stores the row, unless a write came between or the lease lapsed; either way the row is
    /// returned.
    ///
    /// # Errors
    /// When the row has another key than the one looked up.
    pub async fn fill(self, row: M) -> Result<Cached<M>, CacheError> {
        let row = Row::from(Cached::loaded(row));
        let (expected, found) = (self.load.key(), self.load.key_of(&row));
        if found != *expected {
            return Err(CacheError::OtherRow {
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
        self.load.fill(Some(row.clone())).await;
        Ok(row.into())
    }

    /// Stores that there is no such row, unless a write came between or the lease lapsed.
    pub async fn fill_absent(self) {
        self.load.fill(None).await;
    }
}

impl<M: CachedEntity> fmt::Debug for LoadLease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadLease")
            .field("key", self.load.key())
            .finish_non_exhaustive()
    }
}
