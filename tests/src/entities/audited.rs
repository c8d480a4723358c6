//! Entities whose rows are encoded differently each time: a map without an order.

macro_rules! labelled {
    ($(#[$doc:meta])* $module:ident, $table:literal $(, $version:ident)?) => {
        $(#[$doc])*
        pub mod $module {
            use cached_repo::CachedEntity;
            use sea_orm::entity::prelude::*;

            use super::Labels;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: i64,
                pub labels: Labels,
                $(#[cached(version)]
                pub $version: i64,)?
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

/// Texts in no order.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, sea_orm::FromJsonQueryResult,
)]
pub struct Labels(pub std::collections::HashMap<String, String>);

labelled!(
    /// Without a version.
    labelled, "labelled"
);
labelled!(
    /// With a version.
    labelled_and_versioned, "labelled_and_versioned", version
);
