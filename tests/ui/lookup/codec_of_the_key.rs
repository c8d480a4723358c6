// What is found is kept as a list of keys.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

mod codec {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &i64, out: S) -> Result<S::Ok, S::Error> {
        id.serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<i64, D::Error> {
        i64::deserialize(input)
    }
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
pub struct Model {
    #[sea_orm(primary_key)]
    #[cached(with = "codec")]
    pub id: i64,
    #[cached(index)]
    pub team_id: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(1).await;
    let _ = users.find_all_by_team_id(1).await;
}

fn main() {}
