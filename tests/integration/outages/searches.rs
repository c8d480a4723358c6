//! Redis is away: lookups and finds of many rows go to the database. What is written meanwhile is
//! found, during the outage and after it.

use cached_repo::{CachedDb, WriteError};
use cached_repo_harness::Redis;
use cached_repo_tests::{Backend, World, entities::lookups::member, eventually};
use sea_orm::ActiveValue::{NotSet, Set};

use super::{READ_LIMIT, as_users_do};

fn new_member(email: &str, chair: i32) -> member::ActiveModel {
    member::ActiveModel {
        id: NotSet,
        email: Set(email.into()),
        badge: Set(Some(chair)),
        team_id: Set(1),
        chair: Set(chair),
        boss_id: Set(None),
        active: Set(true),
        version: NotSet,
    }
}

/// Two members, found by everything and cached.
async fn known(redis: &Redis) -> (World, CachedDb, member::Repository, Vec<i64>) {
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(member::Entity).await;
    let db = world.db_with(as_users_do).await;
    let members = member::Repository::new(&db);
    let mut ids = Vec::new();
    for (email, chair) in [("a", 1), ("b", 2)] {
        ids.push(members.insert(new_member(email, chair)).await.unwrap().id);
    }
    is_cached(&world, &members, &ids).await;
    (world, db, members, ids)
}

/// What each lookup finds, in time.
async fn are_found(members: &member::Repository, ids: &[i64]) {
    let lookup = async {
        for (at, id) in ids.iter().enumerate() {
            let chair = i32::try_from(at).unwrap() + 1;
            let one = members.find_by_badge(chair).await.unwrap();
            assert_eq!(one.map(|row| row.id), Some(*id));
            let one = members.find_by_seat(1, chair).await.unwrap();
            assert_eq!(one.map(|row| row.id), Some(*id));
        }
        let list = members.find_all_by_team_id(1).await.unwrap();
        assert!(list.iter().map(|row| &row.id).eq(ids));
        assert_eq!(members.find_all_by_team_id(2).await.unwrap(), []);
        let many = members.find_by_badges(1..=9).await.unwrap();
        assert!(many.iter().flatten().map(|row| &row.id).eq(ids));
        let many = members.find_by_ids(ids.iter().copied()).await.unwrap();
        assert!(many.iter().flatten().map(|row| &row.id).eq(ids));
    };
    // Each lookup is at most two operations that time out, until the connection gives up.
    tokio::time::timeout(READ_LIMIT * 5, lookup)
        .await
        .expect("lookups took longer than their time-outs");
}

async fn is_cached(world: &World, members: &member::Repository, ids: &[i64]) {
    eventually("all is found without SQL", async || {
        let _ = world.statements.take();
        are_found(members, ids).await;
        world.statements.take().is_empty().then_some(())
    })
    .await;
}

outage! {
    /// Goal: with Redis dead, and with one that hangs, every lookup is right; what is inserted is
    /// found at once, by the writer, and by everyone when Redis is back.
    async fn lookups_work_without_redis() {
        let mut redis = Redis::start().unwrap();
        let (world, db, members, mut ids) = known(&redis).await;
        let other = world.db_with(as_users_do).await;
        let others = member::Repository::new(&other);
        are_found(&others, &ids).await;
        redis.pause().unwrap();
        are_found(&members, &ids).await;
        let c = members.insert(new_member("c", 3)).await.unwrap();
        assert!(c.is_pending());
        ids.push(c.id);
        are_found(&members, &ids).await;
        redis.resume().unwrap();
        eventually("the queued invalidations are sent", async || {
            (db.pending_invalidations() == 0).then_some(())
        })
        .await;
        is_cached(&world, &members, &ids).await;
        is_cached(&world, &others, &ids).await;

        redis.kill().unwrap();
        are_found(&members, &ids).await;
        ids.push(members.insert(new_member("d", 4)).await.unwrap().id);
        members.delete_by_id(ids.remove(3)).await.unwrap();
        are_found(&members, &ids).await;
        assert!(db.stats().bypasses > 0);
        redis.restart().unwrap();
        is_cached(&world, &members, &ids).await;
        is_cached(&world, &others, &ids).await;
    }
}

outage! {
    /// Goal: with `refuse`, an insert whose index entries cannot be blocked is not made, also where
    /// the database makes one of its values.
    async fn a_write_whose_index_entries_cannot_be_blocked_is_refused() {
        let mut redis = Redis::start().unwrap();
        let (world, _, members, ids) = known(&redis).await;
        let strict = world
            .db_with(|config| {
                as_users_do(config);
                config.on_cache_failure = cached_repo::OnCacheFailure::Refuse;
            })
            .await;
        let strict = member::Repository::new(&strict);
        redis.pause().unwrap();
        for row in [
            new_member("c", 3),
            member::ActiveModel { boss_id: NotSet, ..new_member("c", 3) },
        ] {
            let error = strict.insert(row).await.unwrap_err();
            assert!(matches!(error, WriteError::CacheUnavailable { .. }), "{error}");
        }
        redis.resume().unwrap();
        is_cached(&world, &members, &ids).await;
        assert!(members.find_by_email("c").await.unwrap().is_none());
    }
}
