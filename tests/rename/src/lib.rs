//! A model in a crate that knows `cached-repo` by another name.

use other::CachedEntity;
use sea_orm::entity::prelude::*;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(crate = "other", ttl = "10m")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The version.
    #[cached(version)]
    pub version: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing in the expansion looks for a crate named `cached_repo`.
    #[test]
    fn the_derive_works_under_another_name() {
        let user = Model { id: 1, version: 7 };
        assert_eq!(user.version().map(other::Version::get), Some(7));
        let _: fn(&other::CachedDb) -> Repository = Repository::new;
    }
}
