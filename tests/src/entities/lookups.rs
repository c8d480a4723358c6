//! Entities that are found by more than their key.

/// Found by everything: unique columns, one of them optional, a unique pair, indexes.
pub mod member {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "member")]
    #[cached(index(team_id, active, name = "team"))]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub email: String,
        #[sea_orm(unique)]
        pub badge: Option<i32>,
        #[cached(index)]
        #[sea_orm(unique_key = "seat")]
        pub team_id: i64,
        #[sea_orm(unique_key = "seat")]
        pub chair: i32,
        #[cached(index)]
        pub boss_id: Option<i64>,
        pub active: bool,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Unversioned, with a composite key, found by a text without regard to case.
pub mod label {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "label")]
    pub struct Model {
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(8))"
        )]
        pub language: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub code: i32,
        #[cached(index(max_rows = 3), normalize = "str::to_lowercase")]
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
