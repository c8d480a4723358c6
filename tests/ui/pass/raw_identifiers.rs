//! Fields whose names are keywords.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// A thing.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "thing")]
#[cached(index(r#match, enum, name = "r#fn"))]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub r#type: i64,
    /// A list.
    #[cached(index, normalize = "str::to_lowercase")]
    pub r#match: Option<String>,
    /// Unique.
    #[sea_orm(unique)]
    pub r#enum: i64,
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
        r#enum: 3,
        r#mod: 2,
    };
    assert_eq!(crate::through_the_cache(&thing), thing);
}

/// The methods' names need no escape.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn finders(things: &Repository) {
    let _ = things.find_by_enum(1).await;
    let _ = things.find_by_enums([1, 2]).await;
    let _ = things.find_all_by_match(None).await;
    let _ = things.find_all_by_fn("yes".to_owned(), 1).await;
}
