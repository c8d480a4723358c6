//! Columns of every kind that SeaORM's own tests use.

use sea_orm::{
    DeriveActiveEnum, DeriveValueType, EnumIter, FromJsonQueryResult, prelude::StringLen,
};
use serde::{Deserialize, Serialize};

/// An enum kept as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(10))")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Category {
    #[sea_orm(string_value = "B")]
    BigOne,
    #[sea_orm(string_value = "S")]
    SmallOne,
}

/// An enum kept as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "i32", db_type = "Integer")]
pub enum Color {
    #[sea_orm(num_value = 0)]
    Black,
    #[sea_orm(num_value = -1)]
    White,
}

/// A struct kept as JSON, with the serde attributes people use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub nick_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub event: Event,
    #[serde(flatten)]
    pub rest: std::collections::BTreeMap<String, serde_json::Value>,
}

/// An internally tagged enum, which serde buffers before it knows what it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    LoggedIn {
        from: std::net::IpAddr,
        session: sea_orm::prelude::Uuid,
    },
    LoggedOut,
}

/// An untagged enum kept as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(untagged)]
pub enum OneOrMany {
    One(i64),
    Many(Vec<i64>),
    Named { at: std::net::Ipv6Addr },
}

/// A list kept as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Tags(pub Vec<String>);

/// A text of its own.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType, Serialize, Deserialize)]
pub struct Email(pub String);

/// Every kind of column that all three databases have.
pub mod everything {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    use super::{Category, Color, Email, OneOrMany, Profile, Tags};

    in_codec! {
        #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "everything")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i32,
            pub flag: bool,
            pub small: i16,
            pub int: i32,
            pub big: i64,
            pub float: f32,
            pub double: f64,
            #[sea_orm(column_type = "Decimal(Some((20, 6)))")]
            pub price: Decimal,
            pub chrono_date: Date,
            pub chrono_time: Time,
            pub chrono_moment: DateTime,
            pub chrono_utc: DateTimeUtc,
            pub chrono_zoned: DateTimeWithTimeZone,
            pub time_date: TimeDate,
            pub time_time: TimeTime,
            pub time_moment: TimeDateTime,
            pub time_zoned: TimeDateTimeWithTimeZone,
            pub uuid: Uuid,
            pub json: Json,
            #[sea_orm(column_type = "Json")]
            pub profile: Profile,
            #[sea_orm(column_type = "JsonBinary")]
            pub untagged: OneOrMany,
            #[sea_orm(column_type = "Json")]
            pub tags: Tags,
            pub category: Category,
            pub color: Color,
            pub email: Email,
            #[sea_orm(column_type = "Text")]
            pub text: String,
            #[sea_orm(column_type = "VarBinary(StringLen::N(300))")]
            pub bytes: Vec<u8>,
            pub maybe_flag: Option<bool>,
            pub maybe_int: Option<i32>,
            pub maybe_double: Option<f64>,
            #[sea_orm(column_type = "Decimal(Some((20, 6)))", nullable)]
            pub maybe_price: Option<Decimal>,
            pub maybe_date: Option<Date>,
            pub maybe_utc: Option<DateTimeUtc>,
            pub maybe_time: Option<TimeTime>,
            pub maybe_uuid: Option<Uuid>,
            pub maybe_json: Option<Json>,
            #[sea_orm(column_type = "Json", nullable)]
            pub maybe_profile: Option<Profile>,
            pub maybe_category: Option<Category>,
            pub maybe_color: Option<Color>,
            pub maybe_email: Option<Email>,
            pub maybe_text: Option<String>,
            #[sea_orm(column_type = "VarBinary(StringLen::N(300))", nullable)]
            pub maybe_bytes: Option<Vec<u8>>,
            #[cached(version)]
            pub version: i64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What only MariaDB has: unsigned numbers.
pub mod unsigned {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    in_codec! {
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "unsigned")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: u64,
            pub tiny: u8,
            pub small: u16,
            pub int: u32,
            pub big: u64,
            #[cached(version)]
            pub version: u64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What only PostgreSQL has: arrays and a native enum.
pub mod arrays {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(
        Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize,
    )]
    #[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "mood")]
    pub enum Mood {
        #[sea_orm(string_value = "happy")]
        Happy,
        #[sea_orm(string_value = "so so")]
        SoSo,
    }

    in_codec! {
        #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
        #[sea_orm(table_name = "arrays")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i32,
            pub ints: Vec<i32>,
            pub bigs: Vec<i64>,
            pub doubles: Vec<f64>,
            pub texts: Vec<String>,
            pub uuids: Vec<Uuid>,
            pub flags: Vec<bool>,
            pub decimals: Vec<Decimal>,
            pub moods: Vec<Mood>,
            pub mood: Mood,
            pub maybe_ints: Option<Vec<i32>>,
            pub maybe_mood: Option<Mood>,
            #[cached(version)]
            pub version: i64,
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
