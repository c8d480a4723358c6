// A key that cannot be looked up in memory.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveValueType)]
pub struct UserId(pub i64);

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(near)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    #[cached(with = "id")]
    pub id: UserId,
    pub name: String,
}

mod id {
    use super::UserId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &UserId, out: S) -> Result<S::Ok, S::Error> {
        id.0.serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<UserId, D::Error> {
        i64::deserialize(input).map(UserId)
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(UserId(1)).await;
}

fn main() {}
