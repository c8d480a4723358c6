// Terms are joined by AND only.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[cached(unique(where = "active OR deleted_at IS NULL"))]
    pub email: i64,
    pub name: String,
    pub active: bool,
    pub score: Decimal,
    pub deleted_at: Option<DateTime>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(1).await;
    let _ = users.find_by_email(1).await;
}

fn main() {}
