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
    #[cached(index)]
    pub value: Option<String>,
    /// The version.
    #[sea_orm(column_name = "lock_version", enum_name = "Lock", default_value = 1)]
    #[cached(version)]
    pub version: i64,
    /// A keyword once it is an enum's variant.
    #[cached(unique)]
    pub self_: bool,
    /// Named like what a finder uses, twice.
    #[sea_orm(column_name = "Key", enum_name = "Held", unique_key = "the key-1")]
    pub values: i64,
    /// The other half.
    #[sea_orm(unique_key = "the key-1")]
    pub names: i64,
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

/// Goal: what rows are found by are the columns of the table, under the variants of the enum.
#[test]
fn lookups_name_the_columns_of_the_table() {
    use sea_orm::IdenStatic;

    let lookups = Model::lookups().iter();
    let columns: Vec<Vec<_>> = lookups
        .map(|lookup| lookup.columns.iter().map(|it| it.column.as_str()).collect())
        .collect();
    assert_eq!(columns, [vec!["Name"], vec!["self"], vec!["Key", "names"]]);
}

/// Their methods have the fields' names, or the group's as far as a method can have it.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn finders(things: &Repository) {
    let _ = things.find_all_by_value(None).await;
    let _ = things.find_by_self_(true).await;
    let _ = things.find_by_the_key_1(1, 2).await;
    let _ = things.find_by_the_key_1s([(1, 2)]).await;
}
