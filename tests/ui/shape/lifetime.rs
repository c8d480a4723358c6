// A row owns its columns.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub struct Model<'a> {
    pub id: i64,
    pub name: &'a str,
}

fn main() {}
