// A row has columns.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub struct Model;

fn main() {}
