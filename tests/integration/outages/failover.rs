//! A failover that loses acknowledged writes: Redis comes back as it was a while ago. The only
//! promise here is a bound: stale at most until the TTL, no panic, no error, and any write, refresh
//! or invalidation of the row repairs it.
//!
//! A snapshot (`SAVE`) stands for the replica that lags, a restart from it for its promotion.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cached_repo::{LookedUp, Source, WriteError, internals::Kind};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    World, eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis;

use super::{as_users_do, find, is_cached, new_note, on, unique};

/// What the replica has, once it is promoted.
async fn snapshot(world: &World) {
    let mut admin = world.redis().await;
    redis::cmd("SAVE").exec_async(&mut admin).await.unwrap();
}

/// A repository of each of two processes, whose rows live as long as `ttl`.
async fn two(world: &World, ttl: Duration) -> [note::Repository; 2] {
    let short = |config: &mut cached_repo::Config| {
        as_users_do(config);
        config.ttl = ttl;
        config.ttl_jitter = 0.0;
        config.early_refresh = 0.0;
        config.lease_ttl = Duration::from_secs(60);
    };
    let (one, two) = (world.db_with(short).await, world.db_with(short).await);
    [note::Repository::new(&one), note::Repository::new(&two)]
}

/// Waits until both processes have found the server again.
async fn reconnected(repositories: &[note::Repository; 2]) {
    for notes in repositories {
        eventually("the cache answers again", async || {
            let bypasses = notes.stats().bypasses;
            let _ = notes.find_by_id(i64::MAX).await.unwrap();
            (notes.stats().bypasses == bypasses).then_some(())
        })
        .await;
    }
}

async fn has_passed(moment_ms: u64) -> Option<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_millis() > u128::from(moment_ms)).then_some(())
}

outage! {
    /// Goal: block and publish of a save, and of a delete, are lost: the old rows are back, until
    /// the end of their TTL and not a moment longer.
    async fn what_a_failover_brings_back_ends_with_its_ttl() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let repositories = two(&world, Duration::from_secs(3)).await;
        let [notes, others] = &repositories;
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.insert(new_note(2, "deleted")).await.unwrap();
        snapshot(&world).await;
        row.text = "new".into();
        notes.save(row).await.unwrap();
        notes.delete_by_id(2).await.unwrap().unwrap();
        redis.restart().unwrap();
        reconnected(&repositories).await;

        let saved = world.entry(&world.key("note", 1)).await.unwrap();
        let deleted = world.entry(&world.key("note", 2)).await.unwrap();
        assert_eq!((saved.kind, deleted.kind), (Kind::Value, Kind::Value));
        assert_eq!((saved.version.get(), deleted.version.get()), (1, 1));
        let end = saved.fresh_until().max(deleted.fresh_until()).as_millis();
        eventually("the TTLs are over", async || {
            for notes in &repositories {
                let (text, source) = find(notes, 1).await;
                assert!(text == "new" || (text == "old" && source == Source::Shared), "{text}");
                notes.find_by_id(2).await.unwrap();
            }
            has_passed(end).await
        })
        .await;
        for notes in &repositories {
            assert_eq!(find(notes, 1).await.0, "new");
            assert!(notes.find_by_id(2).await.unwrap().is_none());
        }
        is_cached(others, 1, "new").await;
    }
}

outage! {
    /// Goal: a save, a refresh and an invalidation each repair, for everyone, a row that a failover
    /// brought back. The save conflicts.
    async fn a_save_a_refresh_or_an_invalidation_repairs_a_row_that_a_failover_brought_back() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let repositories = two(&world, Duration::from_secs(600)).await;
        let [notes, others] = &repositories;
        for id in 1..=4 {
            notes.insert(new_note(id, "old")).await.unwrap();
        }
        snapshot(&world).await;
        for id in 1..=4 {
            let mut row = notes.find_by_id(id).await.unwrap().unwrap().into_model();
            row.text = "new".into();
            notes.save(row).await.unwrap();
        }
        redis.restart().unwrap();
        reconnected(&repositories).await;
        for id in 1..=4 {
            assert_eq!(find(notes, id).await, ("old".into(), Source::Shared));
        }

        let mut stale = notes.find_by_id(1).await.unwrap().unwrap().into_model();
        stale.text = "lost".into();
        let error = notes.save(stale).await.unwrap_err();
        let conflict = matches!(error, WriteError::VersionConflict { expected: 1, found: 2, .. });
        assert!(conflict, "{error}");
        notes.refresh(2).await.unwrap();
        notes.invalidate(3).await.unwrap();
        let text = |row: &mut note::ActiveModel| row.text = sea_orm::Set("new".into());
        assert_eq!(notes.update_with(4, text).await.unwrap().version, 3);
        for id in 1..=4 {
            assert_eq!(find(others, id).await.0, "new");
            assert_eq!(find(notes, id).await.0, "new");
        }
    }
}

outage! {
    /// Goal: only the publish is lost: the block is back, and with it the protection of the write;
    /// readers ask the database until the block lapses.
    async fn a_failover_that_loses_only_the_done_leaves_nothing_stale() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world
            .db_with(|config| {
                as_users_do(config);
                config.block_ttl = Duration::from_secs(3);
            })
            .await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db_with(as_users_do).await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let text = unique("new");
        let gate = Gate::hold(&text);
        row.text = text.as_str().into();
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        snapshot(&world).await;
        gate.open();
        assert!(!writer.await.unwrap().unwrap().is_pending());
        is_cached(&others, 1, &text).await;
        redis.restart().unwrap();
        reconnected(&[notes.clone(), others.clone()]).await;
        let entry = world.entry(&world.key("note", 1)).await.unwrap();
        assert_eq!(entry.claims.writers().len(), 1, "the block is back");
        is_cached(&others, 1, &text).await;
        is_cached(&notes, 1, &text).await;
    }
}

outage! {
    /// Goal: a lease that a write had revoked is back, and its holder stores the row from before
    /// the write: stale until the end of the TTL it is stored with.
    async fn a_lease_that_a_failover_brought_back_fills_for_its_ttl_at_most() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let repositories = two(&world, Duration::from_secs(2)).await;
        let [notes, others] = &repositories;
        let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
            panic!("nothing is cached");
        };
        snapshot(&world).await;
        let mut row = old.clone();
        row.text = "new".into();
        others.save(row).await.unwrap();
        redis.restart().unwrap();
        reconnected(&repositories).await;
        lease.fill(old).await.unwrap();
        let filled = world.entry(&world.key("note", 1)).await.unwrap();
        assert_eq!((filled.kind, filled.version.get()), (Kind::Value, 1));
        let end = filled.fresh_until().as_millis();
        eventually("the TTL is over", async || {
            for notes in &repositories {
                let (text, source) = find(notes, 1).await;
                assert!(text == "new" || (text == "old" && source == Source::Shared), "{text}");
            }
            has_passed(end).await
        })
        .await;
        for notes in &repositories {
            assert_eq!(find(notes, 1).await.0, "new");
        }
    }
}
