//! Defects of other caches, each tested here once. Each test is named after the symptom; its goal
//! names the library that had it.

use std::time::Duration;

use cached_repo::{Config, Source};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, Tier, World,
    entities::{setting, user},
    eventually,
    gated::{Gate, Mine, note},
};
use deadpool_redis::redis::{self, AsyncCommands};
use sea_orm::ActiveValue::Set;

use crate::in_time;

fn unique(text: &str) -> String {
    cached_repo_harness::unique(text)
}

fn new_note(id: i64, text: &str) -> note::ActiveModel {
    note::ActiveModel {
        id: Set(id),
        text: Set(text.into()),
        ..Default::default()
    }
}

on_both_tiers!(a_cancelled_leader_does_not_leave_its_waiters_hanging);
/// Goal: hitbox's single flight: the leader is cancelled mid-load, and the waiters wait for ever.
async fn a_cancelled_leader_does_not_leave_its_waiters_hanging(world: World) {
    world.create_table(note::Entity).await;
    let notes = note::Repository::new(&world.db().await);
    let text = unique("row");
    notes.insert(new_note(1, &text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    let gate = Gate::hold(&text);
    let find = || {
        let notes = notes.clone();
        tokio::spawn(async move { notes.find_by_id(1).await })
    };
    let leader = find();
    gate.arrived(1).await;
    let waiter = find();
    leader.abort();
    gate.open();
    assert_eq!(waiter.await.unwrap().unwrap().unwrap().text.0, text);
}

on_both_tiers!(two_caches_with_equal_keys_do_not_answer_for_each_other);
/// Goal: oxcache's single-flight table, keyed by the bare key and shared by all caches: two
/// databases, one namespace, one key, two different rows.
async fn two_caches_with_equal_keys_do_not_answer_for_each_other(world: World) {
    let other = World::new(Backend::Sqlite, Tier::Memory).await;
    let build = async |world: &World, text: &str| {
        world.create_table(note::Entity).await;
        // The in-process tier: the test is about what two databases might share in one process.
        let db = cached_repo::CachedDb::builder(world.conn.clone())
            .namespace("same")
            .build()
            .await
            .unwrap();
        let notes = note::Repository::new(&db);
        notes.insert(new_note(1, text)).await.unwrap();
        notes.invalidate(1).await.unwrap();
        notes
    };
    let (ours, theirs) = (unique("ours"), unique("theirs"));
    let one = build(&world, &ours).await;
    let two = build(&other, &theirs).await;
    let gate = Gate::hold(&ours);
    let held = tokio::spawn({
        let one = one.clone();
        async move { one.find_by_id(1).await }
    });
    gate.arrived(1).await;
    // The second caller neither waits for the other cache's load nor shares it.
    assert_eq!(two.find_by_id(1).await.unwrap().unwrap().text.0, theirs);
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().unwrap().text.0, ours);
}

on_both_tiers!(an_invalidation_during_a_load_is_not_overwritten_by_it);
/// Goal: moka's `invalidate` during a `get_with`: the load then stores the row from before.
async fn an_invalidation_during_a_load_is_not_overwritten_by_it(world: World) {
    world.create_table(setting::Entity).await;
    world.create_table(note::Entity).await;
    let notes = note::Repository::new(&world.db().await);
    let text = unique("old");
    notes.insert(new_note(1, &text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let notes = notes.clone();
        async move { notes.find_by_id(1).await }
    });
    gate.arrived(1).await;
    world
        .raw(r#"UPDATE "note" SET text = 'new' WHERE id = 1"#)
        .await;
    notes.invalidate(1).await.unwrap();
    gate.open();
    reader.await.unwrap().unwrap();
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");

    // And `invalidate_all`, which cannot name the key.
    let text = unique("newer");
    let sql = format!(r#"UPDATE "note" SET text = '{text}' WHERE id = 1"#);
    world.raw(&sql).await;
    notes.invalidate(1).await.unwrap();
    let gate = Gate::hold(&text);
    let reader = tokio::spawn({
        let notes = notes.clone();
        async move { notes.find_by_id(1).await }
    });
    gate.arrived(1).await;
    world
        .raw(r#"UPDATE "note" SET text = 'newest' WHERE id = 1"#)
        .await;
    notes.invalidate_all().await.unwrap();
    gate.open();
    reader.await.unwrap().unwrap();
    assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "newest");
}

on_both_tiers!(a_second_attempt_of_one_client_does_not_legitimise_its_first);
/// Goal: rueidisaside's lease token per client: the first, slow load of a client is accepted
/// under the lease of its second.
async fn a_second_attempt_of_one_client_does_not_legitimise_its_first(world: World) {
    use cached_repo::LookedUp;
    world.create_table(setting::Entity).await;
    let settings = setting::Repository::new(&world.db().await);
    let row = |value: &str| setting::Model {
        name: "theme".into(),
        value: value.into(),
    };
    let new = setting::ActiveModel {
        name: Set("theme".into()),
        value: Set("dark".into()),
    };
    settings.insert(new).await.unwrap();
    let LookedUp::Miss(first) = settings.cache().lookup("theme").await else {
        panic!("nothing is cached");
    };
    settings.save(row("light")).await.unwrap();
    let LookedUp::Miss(second) = settings.cache().lookup("theme").await else {
        panic!("nothing is cached");
    };
    // An unversioned row: no floor would save it.
    first.fill(row("dark")).await.unwrap();
    second.fill(row("light")).await.unwrap();
    let found = settings.find_by_id("theme").await.unwrap().unwrap();
    assert_eq!(
        (found.value.as_str(), found.source()),
        ("light", Source::Shared)
    );
}

/// Goal: rockscache's placeholders without TTL: whatever stops halfway, every key that is left in
/// Redis expires by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_is_ever_left_without_a_ttl() {
    in_time(async {
        let redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        world.create_table(note::Entity).await;
        world.create_table(user::Entity).await;
        let notes = note::Repository::new(&world.db().await);
        for id in 1..=6 {
            notes
                .insert(new_note(id, &format!("note {id}")))
                .await
                .unwrap();
        }
        // Values, absences, refreshed values; leases and blocks whose owners are gone.
        notes.find_by_id(1).await.unwrap();
        notes.find_by_id(100).await.unwrap();
        notes.refresh(1).await.unwrap();
        notes.invalidate(2).await.unwrap();
        notes.delete_by_id(3).await.unwrap();
        notes.delete_by_id(200).await.unwrap();
        let row = notes.find_by_id(4).await.unwrap().unwrap().into_model();
        notes.save(row.clone()).await.unwrap();
        notes.save(row).await.unwrap_err();
        let held = notes.cache().lookup(2).await;
        let text = unique("held");
        let gate = Gate::hold(&text);
        let mut row = notes.find_by_id(5).await.unwrap().unwrap().into_model();
        row.text = text.as_str().into();
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        {
            let mined = unique("mined");
            let _mine = Mine::lay(&mined);
            let mut row = notes.find_by_id(6).await.unwrap().unwrap().into_model();
            row.text = mined.as_str().into();
            notes.save(row).await.unwrap_err();
        }
        let mut connection = world.redis().await;
        let check = async |connection: &mut redis::aio::MultiplexedConnection| {
            let keys: Vec<String> = connection.keys("*").await.unwrap();
            assert!(keys.len() >= 7, "{keys:?}");
            for key in keys {
                let ttl_ms: i64 = connection.pttl(&key).await.unwrap();
                assert!(ttl_ms != -1, "{key} has no TTL");
            }
        };
        check(&mut connection).await;
        gate.open();
        writer.await.unwrap().unwrap();
        drop(held);
        notes.invalidate_all().await.unwrap();
        check(&mut connection).await;
    })
    .await;
}

on_both_tiers!(a_reader_between_the_invalidation_and_the_commit_caches_nothing);
/// Goal: go-zero's DEL before the transaction commits: a reader in between caches the old row.
async fn a_reader_between_the_invalidation_and_the_commit_caches_nothing(world: World) {
    world.create_table(note::Entity).await;
    let notes = note::Repository::new(&world.db().await);
    let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
    let text = unique("new");
    row.text = text.as_str().into();
    let gate = Gate::hold(&text);
    let writer = tokio::spawn({
        let notes = notes.clone();
        async move { notes.save(row).await }
    });
    // The writer has set its block and has not published; the readers stop at the gate too.
    gate.arrived(1).await;
    let reader = tokio::spawn({
        let notes = notes.clone();
        async move { notes.find_by_id(1).await }
    });
    gate.arrived(2).await;
    gate.open();
    assert_eq!(reader.await.unwrap().unwrap().unwrap().text.0, text);
    writer.await.unwrap().unwrap();
    assert_eq!(notes.stats().fills, 0);
    let found = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!((&found.text.0, found.source()), (&text, Source::Shared));
}

on_both_tiers!(a_negative_entry_does_not_survive_the_insert_of_its_row);
/// Goal: go-zero's absent marker that survives the insert, because the auto-increment key was
/// not known when it was invalidated.
async fn a_negative_entry_does_not_survive_the_insert_of_its_row(world: World) {
    world.create_table(user::Entity).await;
    let users = user::Repository::new(&world.db().await);
    let ada = || user::ActiveModel {
        email: Set(unique("ada")),
        name: Set("Ada".into()),
        ..Default::default()
    };
    let next = users.insert(ada()).await.unwrap().id + 1;
    assert!(users.find_by_id(next).await.unwrap().is_none());
    assert!(users.find_by_id(next).await.unwrap().is_none());
    assert_eq!(users.insert(ada()).await.unwrap().id, next);
    assert!(users.find_by_id(next).await.unwrap().is_some());
}

/// Goal: Hibernate's fallback: invalidations dropped while the cache is away are not made up for
/// once it is back, and it serves what it held before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_while_the_cache_was_away_is_invalidated_when_it_is_back() {
    in_time(async {
        let mut redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        world.create_table(note::Entity).await;
        let short = |config: &mut Config| config.cache_timeout = Duration::from_millis(100);
        let db = world.db_with(short).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        assert_eq!(others.find_by_id(1).await.unwrap().unwrap().text.0, "old");
        redis.pause().unwrap();
        row.text = "new".into();
        assert!(notes.save(row).await.unwrap().is_pending());
        redis.resume().unwrap();
        eventually("what was pending is replayed", async || {
            assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "new");
            (db.pending_invalidations() == 0).then_some(())
        })
        .await;
        assert_eq!(others.find_by_id(1).await.unwrap().unwrap().text.0, "new");
    })
    .await;
}

/// Goal: FusionCache's default: an entry that cannot be decoded after a deploy fails the read.
/// Here it is a miss, and is replaced.
#[tokio::test]
async fn an_undecodable_entry_is_a_miss_and_is_replaced() {
    in_time(async {
        let world = World::new(Backend::Sqlite, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let notes = note::Repository::new(&world.db().await);
        notes.insert(new_note(1, "row")).await.unwrap();
        let key = world.key("note", 1);
        let mut connection = world.redis().await;
        let good: Vec<u8> = connection.get(&key).await.unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut other_schema = good.clone();
        other_schema[48..56].copy_from_slice(b"00000000");
        let broken = [
            b"".to_vec(),
            b"not an entry".to_vec(),
            vec![b'V'; 300],
            flipped,
            other_schema,
            good[..good.len() - 1].to_vec(),
            good[..60].to_vec(),
        ];
        for bytes in broken {
            let _: () = connection.set(&key, bytes).await.unwrap();
            assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "row");
            let again = notes.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(again.source(), Source::Shared);
            let ttl_ms: i64 = connection.pttl(&key).await.unwrap();
            assert!(ttl_ms > 0);
        }
        // A key of another type, which someone else must have put there.
        let _: () = connection.del(&key).await.unwrap();
        let _: () = connection.lpush(&key, "list").await.unwrap();
        assert_eq!(notes.find_by_id(1).await.unwrap().unwrap().text.0, "row");
        let again = notes.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(again.source(), Source::Shared);
    })
    .await;
}
