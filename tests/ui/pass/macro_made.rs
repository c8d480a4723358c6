//! Models that a macro wrote: types, names and literals arrive in invisible groups.
#![deny(warnings, missing_docs, clippy::pedantic)]

macro_rules! entity {
    ($module:ident, $table:literal, $ttl:literal, $key:ty, $version:ty, $most:literal, $by:literal) => {
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
                /// A list.
                #[cached(index(max_rows = $most, name = $by))]
                pub owner: $key,
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

entity!(cat, "cat", "1m", i64, i32, 10, "human");
entity!(dog, "dog", "2m", i32, u32, 20, "master");

/// Goal: the two differ in what differs.
#[test]
fn each_has_its_own_options_and_fingerprint() {
    use cached_repo::CachedEntity as _;

    let (cat, dog) = (cat::Model::DEFINITION, dog::Model::DEFINITION);
    assert_ne!(cat.options.ttl, dog.options.ttl);
    assert_ne!(cat.schema, dog.schema);
}

/// The methods have the names that the macro was given.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn finders(cats: &cat::Repository, dogs: &dog::Repository) {
    let _ = cats.find_all_by_human(1).await;
    let _ = dogs.find_all_by_master(1).await;
}
