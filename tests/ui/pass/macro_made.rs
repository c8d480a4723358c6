//! Models that a macro wrote: types, names and literals arrive in invisible groups.
#![deny(warnings, missing_docs, clippy::pedantic)]

macro_rules! entity {
    ($module:ident, $table:literal, $ttl:literal, $key:ty, $version:ty) => {
        /// An entity.
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            /// A row.
            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            #[cached(ttl = $ttl)]
            pub struct Model {
                /// The key.
                #[sea_orm(primary_key)]
                pub id: $key,
                /// The version.
                #[cached(version)]
                pub version: $version,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            /// None.
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

entity!(cat, "cat", "1m", i64, i32);
entity!(dog, "dog", "2m", i32, u32);

/// Goal: the two differ in what differs.
#[test]
fn each_has_its_own_options_and_fingerprint() {
    use cached_repo::CachedEntity as _;

    let (cat, dog) = (cat::Model::DEFINITION, dog::Model::DEFINITION);
    assert_ne!(cat.options.ttl, dog.options.ttl);
    assert_ne!(cat.schema, dog.schema);
}
