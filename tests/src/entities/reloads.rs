//! Rows that the database changes while it writes them.

macro_rules! invoice {
    ($module:ident, $doc:literal $(, $reload:ident)?) => {
        #[doc = $doc]
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = "invoice")]
            #[cached(name = "invoice" $(, $reload)?)]
            pub struct Model {
                #[sea_orm(primary_key)]
                pub id: i64,
                pub net: i64,
                /// A trigger writes it.
                pub changes: i64,
                /// The database computes it, and takes no other value for it.
                #[cached(generated)]
                pub gross: Option<i64>,
                #[cached(version)]
                pub version: i64,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}
invoice!(invoice, "Read again after every write.", reload_after_write);
invoice!(hasty, "The same table, taken as the statement returns it.");
