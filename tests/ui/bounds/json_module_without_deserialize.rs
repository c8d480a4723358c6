// The same in JSON.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Mood(i32);

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(codec = "json")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[cached(with = "moods")]
    pub mood: Mood,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(1).await;
}

mod moods {
    pub fn serialize<S: serde::Serializer>(mood: &super::Mood, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i32(mood.0)
    }
}

fn main() {}
