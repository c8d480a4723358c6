//! Cache-aside, for rows that the caller loads in its own way.

use std::fmt;

use tokio::time::Instant;

use super::Repository;
use crate::{
    CacheError, Cached, CachedEntity, IntoId,
    read::{Query, Tenure, aside::Aside},
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
        let query = self.repository.query(id.into_id());
        match query.look_aside().await {
            Aside::Known(Some(row)) => LookedUp::Hit(row),
            Aside::Known(None) => LookedUp::Absent,
            Aside::Miss(tenure) => LookedUp::Miss(LoadLease {
                query: Box::new(query),
                tenure,
                began: Instant::now(),
            }),
        }
    }
}

/// The right to load a row and store it. Dropping it gives the right back.
#[must_use = "load the row and give it to `fill`"]
pub struct LoadLease<M: CachedEntity> {
    query: Box<Query<M>>,
    /// `None` if the row must not be stored: a write is in flight, or the cache is down.
    tenure: Option<Tenure<M>>,
    began: Instant,
}

impl<M: CachedEntity> LoadLease<M> {
    /// Stores the row, unless a write came between or the lease lapsed; either way the row is
    /// returned.
    ///
    /// # Errors
    /// When the row has another key than the one looked up.
    pub async fn fill(self, row: M) -> Result<Cached<M>, CacheError> {
        let found = self.query.state.key_of(&row);
        if found != self.query.key {
            return Err(CacheError::OtherRow {
                expected: self.query.key.to_string(),
                found: found.to_string(),
            });
        }
        let row = Cached::loaded(row);
        let loaded = Some(row.clone());
        self.query
            .fill_aside(self.tenure, &loaded, self.began)
            .await;
        Ok(row)
    }

    /// Stores that there is no such row, unless a write came between or the lease lapsed.
    pub async fn fill_absent(self) {
        self.query.fill_aside(self.tenure, &None, self.began).await;
    }
}

impl<M: CachedEntity> fmt::Debug for LoadLease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadLease")
            .field("key", &self.query.key)
            .finish_non_exhaustive()
    }
}
