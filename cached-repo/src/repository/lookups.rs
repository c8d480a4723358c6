//! The verbs that find many rows, and the functions behind the finder methods that the derive adds
//! for each lookup.

use sea_orm::{Value, sea_query::IntoValueTuple};

use super::Repository;
use crate::{Cached, CachedEntity, IntoId, ReadError, read::Rows};

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
        let ids = ids.into_iter().map(|id| id.into_id().into_value_tuple());
        let rows = self.read().find_by_ids(ids.collect()).await?;
        Ok(rows.into_iter().map(one).collect())
    }
}

fn one<M: CachedEntity>(rows: Rows) -> Option<Cached<M>> {
    rows.into_one().map(Cached::from)
}

/// The row that a unique lookup finds.
pub async fn find_one<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Value>,
) -> Result<Option<Cached<M>>, ReadError> {
    let rows = repository.read().find_rows(lookup, values).await?;
    Ok(one(rows))
}

/// The rows that a unique lookup finds, one for each group of values.
pub async fn find_each<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Vec<Value>>,
) -> Result<Vec<Option<Cached<M>>>, ReadError> {
    let rows = repository.read().find_by_lookup(lookup, values).await?;
    Ok(rows.into_iter().map(one).collect())
}

/// The rows that a lookup finds, ordered by key.
pub async fn find_all<M: CachedEntity>(
    repository: &Repository<M>,
    lookup: usize,
    values: Vec<Value>,
) -> Result<Vec<Cached<M>>, ReadError> {
    let rows = repository.read().find_rows(lookup, values).await?;
    Ok(rows.into_vec().into_iter().map(Cached::from).collect())
}
