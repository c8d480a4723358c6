//! A model that is not public, in a program that uses little of its repository.
#![deny(warnings, missing_docs, clippy::pedantic)]

mod narrow {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "user")]
    pub(super) struct Model {
        #[sea_orm(primary_key)]
        pub(super) id: i64,
        #[cached(index)]
        secret: String,
        #[sea_orm(unique)]
        handle: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(super) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Goal: the repository is as visible as its model.
#[test]
fn the_repository_is_as_visible_as_the_model() {
    fn is_clone_and_debug<T: Clone + std::fmt::Debug>() {}

    is_clone_and_debug::<narrow::Repository>();
}
