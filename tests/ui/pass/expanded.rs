//! The expanded form: nothing on the fields says which is the key.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

/// The entity.
#[derive(Copy, Clone, Default, Debug, DeriveEntity)]
pub struct Entity;

impl EntityName for Entity {
    fn table_name(&self) -> &'static str {
        "user"
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveModel, DeriveActiveModel, CachedEntity)]
#[cached(ttl = "10m")]
pub struct Model {
    /// The key.
    pub id: i64,
    /// Unique.
    #[cached(unique)]
    pub name: String,
    /// A list.
    #[cached(index(max_rows = 10))]
    pub team_id: Option<i64>,
    /// The version.
    #[cached(version)]
    pub version: i16,
}

/// The columns.
#[derive(Copy, Clone, Debug, EnumIter, DeriveColumn)]
pub enum Column {
    /// The key.
    Id,
    /// Unique.
    Name,
    /// A list.
    TeamId,
    /// The version.
    Version,
}

/// The key.
#[derive(Copy, Clone, Debug, EnumIter, DerivePrimaryKey)]
pub enum PrimaryKey {
    /// The key.
    Id,
}

impl PrimaryKeyTrait for PrimaryKey {
    type ValueType = i64;

    fn auto_increment() -> bool {
        true
    }
}

impl ColumnTrait for Column {
    type EntityName = Entity;

    fn def(&self) -> ColumnDef {
        match self {
            Self::Id => ColumnType::BigInteger.def(),
            Self::Name => ColumnType::Text.def(),
            Self::TeamId => ColumnType::BigInteger.def().null(),
            Self::Version => ColumnType::SmallInteger.def(),
        }
    }
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The verbs are the same.
#[expect(dead_code, reason = "it only has to compile")]
pub async fn verbs(users: &Repository) {
    let _ = users.find_by_id(1).await;
    let _ = users.update_with(1, |_| {}).await;
    let _ = users.find_by_name("Ada").await;
    let _ = users.find_by_names(["Ada".to_owned()]).await;
    let _ = users.find_all_by_team_id(7).await;
    let _ = users.find_all_by_team_id(None).await;
}
