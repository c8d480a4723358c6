// A row has named columns.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub struct Model(i64, String);

fn main() {}
