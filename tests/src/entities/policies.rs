//! Entities that say for themselves what becomes of a write while the cache is away.

macro_rules! with_policy {
    ($(#[$doc:meta])* $module:ident, $table:literal, $policy:literal) => {
        $(#[$doc])*
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            #[cached(on_cache_failure = $policy)]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
                pub amount: i64,
                #[cached(version)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

with_policy!(
    /// Better not written than stale.
    payment, "payment", "refuse"
);
with_policy!(
    /// Better stale than not written.
    visit, "visit", "proceed"
);
