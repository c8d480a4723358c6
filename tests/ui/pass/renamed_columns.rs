//! Columns with other names in SQL and in `SeaORM`'s enum, and fields with odd ones in Rust.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A thing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "thing", schema_name = "public", rename_all = "camelCase")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub row: i64,
    /// Named like what the expansion itself uses.
    #[sea_orm(column_name = "Name", column_type = "Text", nullable)]
    pub value: Option<String>,
    /// The version.
    #[sea_orm(column_name = "lock_version", enum_name = "Lock", default_value = 1)]
    #[cached(version)]
    pub version: i64,
    /// A keyword once it is an enum's variant.
    pub self_: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: the version's column is the variant that `enum_name` says.
#[test]
fn the_version_column_has_its_own_name() {
    assert!(matches!(Model::version_column(), Some(Column::Lock)));
}
