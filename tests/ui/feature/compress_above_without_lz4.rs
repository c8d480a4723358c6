// `cached-repo` without the feature `lz4`, as far as the model can see: its compressor is none.
use cached_repo::CachedEntity;
use sea_orm::entity::prelude::*;

mod cached_repo_without_lz4 {
    pub use cached_repo::*;

    pub mod __private {
        pub use cached_repo::__private::*;

        pub struct Lz4;
    }
}

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity)]
#[sea_orm(table_name = "user")]
#[cached(compress_above = "1KiB", crate = "crate::cached_repo_without_lz4")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub name: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

async fn callers_are_not_to_blame(users: &Repository) {
    let _ = users.find_by_id(1).await;
}

fn main() {}
