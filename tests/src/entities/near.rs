//! Entities with a near cache.

/// Versioned, with a key that the database makes, and the database's bounds.
pub mod badge {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "badge")]
    #[cached(near)]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub code: i32,
        pub text: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keeps a few entries.
pub mod token {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "token")]
    #[cached(near(capacity = 64))]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keeps entries for a short time.
pub mod ticket {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "ticket")]
    #[cached(near(ttl = "100ms"))]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A composite key, and a bound in bytes.
pub mod seat {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "seat")]
    #[cached(near(capacity = "100KiB"))]
    pub struct Model {
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(64))"
        )]
        pub hall: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i32,
        #[sea_orm(column_type = "Text")]
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
