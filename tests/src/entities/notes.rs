//! One table, its rows stored in every way.

/// A model with one more line of options.
macro_rules! note {
    ($(#[$option:meta])?) => {
        use cached_repo::CachedEntity;
        use sea_orm::entity::prelude::*;

        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "note")]
        $(#[$option])?
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i64,
            #[cached(index)]
            pub shelf: i32,
            #[sea_orm(column_type = "Text")]
            pub body: String,
            pub author: Option<String>,
            pub extra: Option<Json>,
            #[cached(version)]
            pub version: i64,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    };
}

/// In MessagePack.
pub mod plain {
    note!();
}

/// In JSON.
pub mod json {
    note!(#[cached(codec = "json")]);
}

/// In MessagePack, compressed.
pub mod compressed {
    note!(#[cached(compress_above = "256B")]);
}

/// In JSON, compressed.
pub mod compressed_json {
    note!(#[cached(codec = "json", compress_above = "256B")]);
}
