// A row has one type.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub struct Model<T> {
    pub id: i64,
    pub value: T,
}

fn main() {}
