//! Entities that are found among the rows that meet a condition.
#![expect(
    clippy::duplicated_attributes,
    reason = "two lookups may have the same column"
)]

/// Deleted softly: its number is unique among the living. Rows are kept near, too.
pub mod tenant {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        EnumIter,
        DeriveActiveEnum,
        serde::Serialize,
        serde::Deserialize,
    )]
    #[sea_orm(rs_type = "i32", db_type = "Integer")]
    pub enum Status {
        #[sea_orm(num_value = 0)]
        Waiting,
        #[sea_orm(num_value = 1)]
        Active,
    }

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "tenant")]
    #[cached(near)]
    #[cached(index(
        house,
        where = "status = 1 AND NOT banned AND deleted_at IS NULL",
        name = "guests"
    ))]
    #[cached(index(house, where = "grade = 'gold'", name = "gold"))]
    #[cached(index(house, where = "grade <> 'gold'", name = "others"))]
    #[cached(index(house, where = "deleted_at IS NOT NULL AND banned", name = "gone"))]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[cached(unique(where = "deleted_at IS NULL"))]
        pub number: i32,
        #[cached(index)]
        pub house: Option<i32>,
        pub status: Status,
        pub banned: bool,
        #[sea_orm(column_name = "rank")]
        pub grade: Option<String>,
        pub deleted_at: Option<DateTime>,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The same table without a version, and without the condition's columns of one lookup.
pub mod light_tenant {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "tenant")]
    #[cached(name = "light_tenant")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub number: i32,
        #[cached(index(where = "NOT banned", name = "peaceful"))]
        pub house: Option<i32>,
        pub banned: bool,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Unversioned; one lookup is said to be unique, and is not.
pub mod ware {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "ware")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[cached(unique)]
        pub code: String,
        #[cached(index(where = "listed"))]
        pub kind: i32,
        pub listed: Option<bool>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Whom others depend on.
pub mod keeper {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "keeper")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub name: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Loses its keeper when that is deleted.
pub mod animal {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "animal")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[cached(index(where = "keeper_id IS NULL"))]
        pub cage: i32,
        pub keeper_id: Option<i32>,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "super::keeper::Entity",
            from = "Column::KeeperId",
            to = "super::keeper::Column::Id",
            on_delete = "SetNull"
        )]
        Keeper,
    }

    impl ActiveModelBehavior for ActiveModel {}
}
