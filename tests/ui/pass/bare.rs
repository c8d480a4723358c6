//! A model without any option.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: u32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: nothing is set and nothing is versioned unless the model says so.
#[test]
fn nothing_is_set() {
    let options = Model::DEFINITION.options;
    assert_eq!(
        (options.ttl, options.negative_ttl, options.stale_ttl),
        (None, None, None)
    );
    assert_eq!((options.name, options.reload_after_write), (None, false));
    assert!(Model { id: 1 }.version().is_none());
    assert!(Model::version_column().is_none());
}

/// A suffix says which integer an unsigned key's literal is.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn verbs(users: &Repository) {
    let _ = users.find_by_id(1_u32).await;
}
