// A union is not a row.
use cached_repo::CachedEntity;

#[derive(CachedEntity)]
pub union Model {
    id: i64,
    bits: f64,
}

fn main() {}
