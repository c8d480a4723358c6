// A number, and not a text.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(index(team_id, name, max_rows = "100"))]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub team_id: i64,
    pub name: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(1).await;
    let _ = users.find_all_by_team_id_and_name(1, "Ada").await;
}

fn main() {}
