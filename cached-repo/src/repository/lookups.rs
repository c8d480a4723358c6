//! The verbs that find many rows, or find them by something else than their key. The derive adds a
//! method for each lookup of the entity; here is what they call.

use sea_orm::Value;

use super::Repository;
use crate::{
    Cached, CachedEntity, IntoId, ReadError,
    read::{many::Many, search::Search, searches::Searches},
};

impl<M: CachedEntity> Repository<M> {
    /// Reads rows through the cache, in the order of their keys: one question to the cache, and one
    /// statement for the rows that it does not know. A key may be there several times.
    ///
    /// # Errors
    /// When the database fails.
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
    /// # async fn example(users: user::Repository) -> Result<(), cached_repo::ReadError> {
    /// for user in users.find_by_ids([3, 1, 2]).await? {
    ///     match user {
    ///         Some(user) => println!("{}", user.name),
    ///         None => println!("no such user"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn find_by_ids<I>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Cached<M>>>, ReadError>
    where
        I: IntoId<M>,
    {
        let ids = ids.into_iter().map(IntoId::into_id).collect();
        let many = Many {
            state: &self.state,
            scope: &self.scope,
            policy: self.policy,
        };
        many.find(ids).await
    }
}

/// The row that a unique lookup finds.
pub async fn find_one<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Value>,
) -> Result<Option<Cached<M>>, ReadError> {
    Ok(find_all(repository, lookup, values)
        .await?
        .into_iter()
        .next())
}

/// The rows that a unique lookup finds, one for each group of values.
pub async fn find_each<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Vec<Value>>,
) -> Result<Vec<Option<Cached<M>>>, ReadError> {
    let searches = Searches {
        state: &repository.state,
        scope: &repository.scope,
        policy: repository.policy,
        at: lookup,
    };
    searches.find(values).await
}

/// The rows that a lookup finds, ordered by key.
pub async fn find_all<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Value>,
) -> Result<Vec<Cached<M>>, ReadError> {
    let Repository {
        state,
        policy,
        scope,
    } = repository;
    match Search::new(state, scope, *policy, lookup, values) {
        Some(search) => search.find().await,
        None => Ok(Vec::new()),
    }
}
