//! Lookups whose callers go away: each is dropped at every await. Nothing hangs, every lease is
//! given back, and what is cached is right.
#![expect(
    clippy::async_yields_async,
    reason = "what is prepared is an operation, to be polled and dropped"
)]

use std::time::Duration;

use cached_repo::CachedDb;
use cached_repo_tests::{Tier, World, eventually, gated::page};
use sea_orm::ActiveValue::Set;

use super::{new_page, settled, shelf, slug};
use crate::cancellation::{MOST_POLLS, poll_times};

/// Three pages, in a world in which no lease or block ends during a test by its time alone.
async fn patient(world: &World) -> (CachedDb, page::Repository) {
    world.create_table(page::Entity).await;
    let db = world
        .db_with(|config| {
            config.lease_ttl = Duration::from_secs(600);
            config.lease_wait = Duration::from_secs(600);
            config.block_ttl = Duration::from_secs(600);
            config.tombstone_ttl = Duration::from_secs(1200);
        })
        .await;
    let pages = page::Repository::new(&db);
    for id in 1..=3 {
        pages.insert(new_page(id, 1, "page")).await.unwrap();
    }
    (db, pages)
}

/// Makes the cache forget all pages, as an eviction would.
async fn cold(world: &World, pages: &page::Repository) {
    match world.tier() {
        Tier::Redis => world.evict_all().await,
        Tier::Memory => pages.invalidate_all().await.unwrap(),
    }
}

/// Drops `operation` after 0, 1, 2… polls until it ends by itself. After each, lookups find
/// everything without a wait for a lease, and soon without SQL.
async fn dropped_everywhere<F: Future>(
    world: &World,
    db: &CachedDb,
    pages: &page::Repository,
    mut operation: impl AsyncFnMut() -> F,
) {
    for at in 0..MOST_POLLS {
        let done = poll_times(operation().await, at).await;
        settled(db).await;
        let waits = pages.stats().lease_waits;
        eventually("all is found without SQL", async || {
            let _ = world.statements.take();
            assert_eq!(shelf(pages, 1).await, [1, 2, 3], "dropped after {at} polls");
            assert_eq!(shelf(pages, 2).await, [0; 0], "dropped after {at} polls");
            assert_eq!(slug(pages, 2).await, Some(2), "dropped after {at} polls");
            let many = pages.find_by_slugs([3, 9, 1]).await.unwrap();
            let many: Vec<_> = many
                .iter()
                .map(|row| row.as_ref().map(|row| row.id))
                .collect();
            assert_eq!(many, [Some(3), None, Some(1)], "dropped after {at} polls");
            let many = pages.find_by_ids([9, 2]).await.unwrap();
            assert!(
                many[0].is_none() && many[1].is_some(),
                "dropped after {at} polls"
            );
            settled(db).await;
            world.statements.take().is_empty().then_some(())
        })
        .await;
        assert_eq!(pages.stats().lease_waits, waits, "dropped after {at} polls");
        if done {
            return;
        }
    }
    panic!("more than {MOST_POLLS} polls");
}

on_both_tiers!(a_lookup_dropped_anywhere_leaves_no_lease);
/// Goal: see above, for a list that is cold, for one whose rows are, and for one that rows have
/// left.
async fn a_lookup_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, pages) = patient(&world).await;
    dropped_everywhere(&world, &db, &pages, async || {
        cold(&world, &pages).await;
        pages.find_all_by_shelf(1)
    })
    .await;
    dropped_everywhere(&world, &db, &pages, async || {
        cold(&world, &pages).await;
        pages.find_all_by_shelf(1).await.unwrap();
        settled(&db).await;
        pages.find_all_by_shelf(1)
    })
    .await;
    dropped_everywhere(&world, &db, &pages, async || {
        pages.insert(new_page(4, 1, "page")).await.unwrap();
        pages.find_all_by_shelf(1).await.unwrap();
        settled(&db).await;
        pages.delete_by_id(4).await.unwrap();
        pages.find_all_by_shelf(1)
    })
    .await;
}

on_both_tiers!(a_unique_lookup_dropped_anywhere_leaves_no_lease);
/// Goal: the same for a unique value, an absent one, and many of them.
async fn a_unique_lookup_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, pages) = patient(&world).await;
    for number in [2, 9] {
        dropped_everywhere(&world, &db, &pages, async || {
            cold(&world, &pages).await;
            pages.find_by_slug(number)
        })
        .await;
    }
    dropped_everywhere(&world, &db, &pages, async || {
        cold(&world, &pages).await;
        pages.find_by_slugs([3, 9, 1])
    })
    .await;
    dropped_everywhere(&world, &db, &pages, async || {
        cold(&world, &pages).await;
        pages.find_by_slugs([3, 9, 1]).await.unwrap();
        pages.find_by_slugs([3, 9, 1, 2])
    })
    .await;
}

on_both_tiers!(a_find_of_many_dropped_anywhere_leaves_no_lease);
/// Goal: the same for `find_by_ids`, all cold, and some warm.
async fn a_find_of_many_dropped_anywhere_leaves_no_lease(world: World) {
    let (db, pages) = patient(&world).await;
    dropped_everywhere(&world, &db, &pages, async || {
        cold(&world, &pages).await;
        pages.find_by_ids([3, 9, 1, 3])
    })
    .await;
    dropped_everywhere(&world, &db, &pages, async || {
        pages.invalidate(2).await.unwrap();
        pages.find_by_ids([1, 2, 9])
    })
    .await;
}

on_both_tiers!(fresh_lookups_dropped_anywhere_leave_no_lease);
/// Goal: the same for lookups that read past the cache and repair it.
async fn fresh_lookups_dropped_anywhere_leave_no_lease(world: World) {
    let (db, pages) = patient(&world).await;
    let fresh = pages.fresh();
    dropped_everywhere(&world, &db, &pages, async || fresh.find_all_by_shelf(1)).await;
    dropped_everywhere(&world, &db, &pages, async || fresh.find_by_slugs([3, 9])).await;
    dropped_everywhere(&world, &db, &pages, async || fresh.find_by_ids([3, 9])).await;
}

on_both_tiers!(a_write_dropped_anywhere_leaves_no_block_on_its_index_entries);
/// Goal: the same for writes that block several keys: they happen or they do not, and no index
/// entry stays blocked.
async fn a_write_dropped_anywhere_leaves_no_block_on_its_index_entries(world: World) {
    let (db, pages) = patient(&world).await;
    dropped_everywhere(&world, &db, &pages, async || {
        let row = pages.refresh(2).await.unwrap().unwrap().into_model();
        pages.save(row)
    })
    .await;
    dropped_everywhere(&world, &db, &pages, async || {
        let pages = pages.clone();
        async move {
            // The row is deleted, and restored by a task that nobody can drop.
            let moved = pages.update_with(3, |row| row.shelf = Set(1)).await;
            moved.map(drop)
        }
    })
    .await;
}
