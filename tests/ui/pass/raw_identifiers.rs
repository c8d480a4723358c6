//! Fields whose names are keywords.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A thing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "thing")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub r#type: i64,
    /// A column.
    pub r#match: Option<String>,
    /// The version.
    #[cached(version)]
    pub r#mod: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: the version's column is found behind its raw name.
#[test]
fn the_version_column_is_found() {
    assert!(matches!(Model::version_column(), Some(Column::Mod)));
}

/// Goal: a raw identifier is a column like any other.
#[test]
fn a_row_survives_the_cache() {
    let thing = Model {
        r#type: 1,
        r#match: Some("yes".to_owned()),
        r#mod: 2,
    };
    assert_eq!(crate::through_the_cache(&thing), thing);
}
