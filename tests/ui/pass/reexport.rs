//! A crate that re-exports ours, whose users do not depend on it themselves.
#![deny(warnings, missing_docs, clippy::pedantic)]

/// What a facade crate would have.
pub mod facade {
    pub use ::cached_repo as cache;
}

/// The entity.
pub mod user {
    use sea_orm::entity::prelude::*;

    use super::facade::cache::CachedEntity;

    /// A user.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "user")]
    #[cached(crate = "super::facade::cache")]
    pub struct Model {
        /// The key.
        #[sea_orm(primary_key)]
        pub id: i64,
        /// Unique.
        #[sea_orm(unique)]
        pub email: String,
        /// A list.
        #[cached(index)]
        pub team_id: Option<i64>,
        /// The version.
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// None.
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
