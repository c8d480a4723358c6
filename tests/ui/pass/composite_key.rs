//! A key of several columns.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A membership.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "membership")]
pub struct Model {
    /// The first part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub team_id: i64,
    /// The second part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_name: String,
    /// The version.
    #[cached(version)]
    pub version: u64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A tuple in the order of the fields.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn verbs(memberships: &Repository) {
    let _ = memberships.find_by_id((7, "ada".to_owned())).await;
    let _ = memberships.delete_by_id((7, "ada".to_owned())).await;
}
