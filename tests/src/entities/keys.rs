//! One entity per kind of key.

macro_rules! keyed_by {
    ($module:ident, $table:literal, $ty:ty $(, $column_type:literal)?) => {
        /// Versioned, under a key that the program makes.
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false $(, column_type = $column_type)?)]
                pub id: $ty,
                pub name: String,
                #[cached(version)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}
keyed_by!(by_i32, "by_i32", i32);
keyed_by!(by_u32, "by_u32", u32);
keyed_by!(by_i64, "by_i64", i64);
keyed_by!(by_text, "by_text", String, "String(StringLen::N(400))");
keyed_by!(by_uuid, "by_uuid", Uuid);
keyed_by!(by_newtype, "by_newtype", super::AccountId);
keyed_by!(
    by_text_newtype,
    "by_text_newtype",
    super::Slug,
    "String(StringLen::N(100))"
);
keyed_by!(by_moment, "by_moment", DateTimeWithTimeZone);
keyed_by!(by_instant, "by_instant", DateTime);
keyed_by!(by_decimal, "by_decimal", Decimal, "Decimal(Some((16, 4)))");

use sea_orm::DeriveValueType;
use serde::{Deserialize, Serialize};

/// A number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, DeriveValueType, Serialize, Deserialize)]
#[sea_orm(try_from_u64)]
pub struct AccountId(pub i64);

/// A text of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, DeriveValueType, Serialize, Deserialize)]
pub struct Slug(pub String);

impl sea_orm::TryFromU64 for Slug {
    fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
        Err(sea_orm::DbErr::ConvertFromU64("Slug"))
    }
}

/// A composite key of a number, a text and a UUID.
pub mod by_three {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "by_three")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant: i64,
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(100))"
        )]
        pub part: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub device: Uuid,
        pub name: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An unversioned row under a composite text key.
pub mod by_two_texts {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "by_two_texts")]
    pub struct Model {
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(100))"
        )]
        pub one: String,
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "String(StringLen::N(100))"
        )]
        pub two: String,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

keyed_by!(
    by_long_name,
    "a_table_whose_name_is_as_long_as_a_name_in_postgresql_may_be___",
    i32
);

/// A column that PostgreSQL gives and takes in another type than it keeps, with such a key besides.
pub mod host {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
    #[sea_orm(table_name = "host")]
    pub struct Model {
        #[sea_orm(
            primary_key,
            auto_increment = false,
            column_type = "custom(\"inet\")",
            select_as = "text",
            save_as = "inet"
        )]
        pub address: String,
        #[sea_orm(column_type = "custom(\"inet\")", select_as = "text", save_as = "inet")]
        pub gateway: String,
        #[cached(version)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
