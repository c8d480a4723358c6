// Every mistake is reported in one go, and none of them causes another.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Mood(i32);

#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Weather(i32);

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(tll = "10m", negative_ttl = 30, stale_ttl = "soon", version)]
#[cached]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(unique)]
    #[cached(ttl = "1m")]
    pub email: String,
    pub mood: Mood,
    #[cached(with = "not a path")]
    pub weather: Weather,
    #[sea_orm(ignore)]
    #[cached(with = "codec")]
    pub draft: bool,
    #[cached(version, version)]
    pub version: String,
    #[cached(version, with = "codec")]
    pub revision: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(db: &cached_repo::CachedDb) {
    let users = Repository::new(db);
    let _ = users.fresh().find_by_id(1).await;
    let _ = users.update_with(1, |_| {}).await;
}

fn main() {}
