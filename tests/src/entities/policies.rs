//! Entities with their own `on_cache_failure`.

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
    /// Refuses: no write without an invalidation.
    payment, "payment", "refuse"
);
with_policy!(
    /// Proceeds: a write although others may read a stale row.
    visit, "visit", "proceed"
);
