//! Races around lookups: a list or a unique value never misses a row, whatever a writer does and
//! whenever a process dies or a caller leaves.

use std::time::Duration;

use cached_repo::{CachedDb, Config, Drained};
use cached_repo_tests::{
    Tier, World,
    gated::{Text, page},
};
use sea_orm::ActiveValue::Set;

mod abandoned;
mod commits;
mod conditions;
mod races;
mod random;

fn unique(text: &str) -> String {
    cached_repo_harness::unique(text)
}

fn new_page(id: i64, shelf: i32, text: &str) -> page::ActiveModel {
    page::ActiveModel {
        id: Set(id),
        slug: Set(i32::try_from(id).unwrap()),
        shelf: Set(shelf),
        text: Set(text.into()),
        ..Default::default()
    }
}

/// Long enough for a busy test machine to do what is to happen under a block, short enough to
/// wait for its end.
fn short_block(config: &mut Config) {
    config.block_ttl = Duration::from_secs(1);
    config.cache_timeout = Duration::from_millis(500);
}

/// A second process where the tier is shared; the same one where it is not.
async fn another(world: &World, db: &CachedDb) -> CachedDb {
    match world.tier() {
        Tier::Redis => world.db().await,
        Tier::Memory => db.clone(),
    }
}

async fn settled(db: &CachedDb) {
    assert_eq!(db.shutdown(Duration::from_secs(20)).await, Drained::All);
}

async fn shelf(pages: &page::Repository, shelf: i32) -> Vec<i64> {
    let rows = pages.find_all_by_shelf(shelf).await.unwrap();
    rows.iter().map(|row| row.id).collect()
}

async fn slug(pages: &page::Repository, slug: i32) -> Option<i64> {
    let row = pages.find_by_slug(slug).await.unwrap();
    row.map(|row| row.id)
}

/// An empty table of pages; one process, and another.
async fn pages(world: &World) -> (CachedDb, page::Repository, page::Repository) {
    world.create_table(page::Entity).await;
    let db = world.db().await;
    let other = another(world, &db).await;
    let (pages, others) = (page::Repository::new(&db), page::Repository::new(&other));
    (db, pages, others)
}

/// The page with another number and text.
fn renumbered(page: &page::Model, slug: i32, text: &str) -> page::Model {
    page::Model {
        slug,
        text: Text(text.into()),
        ..page.clone()
    }
}
