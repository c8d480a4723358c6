// An enum is not a row.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub enum Model {
    Active,
    Retired,
}

fn main() {}
