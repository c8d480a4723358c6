//! Enums, JSON, newtypes, time, decimals and bytes as columns.
#![deny(warnings, missing_docs, clippy::pedantic)]

use cached_repo::CachedEntity;
use sea_orm::{FromJsonQueryResult, entity::prelude::*};

use serde::{Deserialize, Serialize};

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)")]
pub enum State {
    /// One.
    #[sea_orm(string_value = "open")]
    Open,
    /// Another.
    #[sea_orm(string_value = "closed")]
    Closed,
}

/// Kept as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Settings {
    /// Left out when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<String>,
    /// A value.
    pub size: u8,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType, Serialize, Deserialize)]
pub struct Email(pub String);

/// A ticket.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "ticket")]
pub struct Model {
    /// The key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// An enum.
    pub state: State,
    /// An optional enum.
    pub before: Option<State>,
    /// A struct in JSON.
    #[sea_orm(column_type = "Json")]
    pub settings: Settings,
    /// Any JSON.
    pub extra: Json,
    /// A newtype.
    pub email: Email,
    /// A number.
    #[sea_orm(column_type = "Decimal(Some((16, 4)))")]
    pub price: Decimal,
    /// A time.
    pub opened_at: DateTimeUtc,
    /// Another.
    pub due: TimeDate,
    /// Bytes.
    pub picture: Vec<u8>,
    /// A UUID.
    pub trace: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// None.
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Goal: what a database can hold comes back from the cache as it was.
#[test]
fn every_column_survives_the_cache() {
    for theme in [None, Some("dark".to_owned())] {
        let ticket = Model {
            id: i64::MIN,
            state: State::Open,
            before: theme.as_ref().map(|_| State::Closed),
            settings: Settings { theme, size: 12 },
            extra: serde_json::json!({ "a": [1, -2, 2.5, null, true, "x"], "b": {} }),
            email: Email("ada@example.com".to_owned()),
            price: Decimal::new(-1_234_567, 4),
            opened_at: DateTimeUtc::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_891),
            due: TimeDate::MIN,
            picture: vec![0, 127, 128, 255],
            trace: Some(Uuid::from_u128(u128::MAX - 1)),
        };
        assert_eq!(crate::through_the_cache(&ticket), ticket);
    }
}
