//! Epochs: the Lua that Redis runs against the Rust that the in-process tier runs, and what several
//! processes read around an `invalidate_all`.

use std::time::{Duration, Instant};

use cached_repo::{
    CachedDb, Drained, Source,
    internals::{
        Timestamp, Token,
        epoch::{self, EpochChange, EpochRequest, Epochs},
        scripts,
        wire::{ALL, Announced, Arguments, EpochAnswer},
    },
};
use cached_repo_tests::{
    Backend, Tier, World, eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis::{self, Connection};
use proptest::{prelude::*, test_runner::TestRunner};

use sea_orm::{ActiveValue::Set, ConnectionTrait};

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

/// Waits until the background work is done.
async fn settled(db: &CachedDb) {
    assert_eq!(db.shutdown(Duration::from_secs(10)).await, Drained::All);
}

/// The test's clock: Redis's `TIME` is replaced by the first digits of the channel's name.
const CLOCK: &str = "local now = tonumber(ARGV[6]:sub(1, 13))\n";
/// In the far future, so that Redis itself never expires the key.
const START: Timestamp = Timestamp::from_millis(8_000_000_000_000);

struct Twins {
    redis: Connection,
    sha: String,
    key: String,
    table: Option<Epochs>,
    now: Timestamp,
}

impl Twins {
    fn new() -> Self {
        let client = redis::Client::open(cached_repo_harness::redis_url()).unwrap();
        let mut redis = client.get_connection().unwrap();
        let text = scripts::EPOCH.with_clock(CLOCK);
        let sha = redis::cmd("SCRIPT").arg("LOAD").arg(text).query(&mut redis);
        Self {
            sha: sha.unwrap(),
            redis,
            key: unique("epochs"),
            table: None,
            now: START,
        }
    }

    fn lua(&mut self, request: &EpochRequest) -> epoch::EpochReply {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.sha).arg(1).arg(&self.key);
        let channel = self.now.as_millis().to_string();
        let channel = &channel;
        Announced { request, channel }.push(&mut cmd);
        let EpochAnswer(reply) = cmd.query(&mut self.redis).unwrap();
        reply
    }

    fn both(&mut self, request: &EpochRequest) -> Result<epoch::EpochReply, TestCaseError> {
        let lua = self.lua(request);
        let rust = epoch::change(&mut self.table, self.now, request);
        prop_assert_eq!(&lua, &rust);
        Ok(lua)
    }

    fn lose(&mut self) {
        let _: u8 = redis::cmd("DEL")
            .arg(&self.key)
            .query(&mut self.redis)
            .unwrap();
        self.table = None;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Change(EpochRequest),
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let token = (0..4u64).prop_map(Token::from_bits);
    let change = prop_oneof![
        2 => Just(EpochChange::Read),
        2 => Just(EpochChange::Raise),
        4 => (token.clone(), prop_oneof![Just(1), Just(50), 1..500u64])
            .prop_map(|(token, block_ms)| EpochChange::Block { token, block_ms }),
        3 => token.clone().prop_map(|token| EpochChange::End { token }),
        2 => token.prop_map(|token| EpochChange::Release { token }),
    ];
    let entities = proptest::collection::vec(
        prop_oneof![
            Just("a:b:".into()),
            Just("a:c:".into()),
            Just("ä:%25:".into())
        ],
        0..3,
    );
    // Some near the end, to wrap around.
    let base = prop_oneof![any::<u32>(), Just(u32::MAX)];
    prop_oneof![
        4 => prop_oneof![Just(1), Just(50), 1..500u64].prop_map(Step::Wait),
        8 => (base, change, entities).prop_map(|(base, change, entities)| {
            Step::Change(EpochRequest { base, change, entities })
        }),
        1 => Just(Step::Lose),
    ]
}

/// Goal: no sequence of changes, at any times, makes the two differ.
#[test]
fn lua_and_rust_count_the_same_epochs() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let changes = std::cell::Cell::new(0);
    let steps = proptest::collection::vec(step(), 100..200);
    runner
        .run(&steps, |steps| {
            let mut twins = Twins::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => twins.now = twins.now.plus_ms(ms),
                    Step::Lose => twins.lose(),
                    Step::Change(request) => {
                        twins.both(&request)?;
                        changes.set(changes.get() + 1);
                    }
                }
            }
            twins.lose();
            Ok(())
        })
        .unwrap();
    assert!(changes.get() > 3_000, "only {} changes", changes.get());
}

/// Goal: a table that is none, or is not as this build writes it, is replaced by one with another base,
/// so that no entry of before is used.
#[test]
fn a_damaged_table_is_replaced() {
    let harms: [&[&str]; 6] = [
        &["SET", "text"],
        &["RPUSH", "a", "b"],
        &["HSET", "a:b:", "0000000z"],
        &["HSET", "a:b:", "00000001short"],
        &["HSET", "a:b:", "00000001AAAAAAAAAAA80000000000x0"],
        &["HSET", "#base", "12345"],
    ];
    for harm in harms {
        let mut twins = Twins::new();
        let raise = EpochRequest {
            base: 7,
            change: EpochChange::Raise,
            entities: vec!["a:b:".into()],
        };
        assert_eq!(twins.both(&raise).unwrap().of("a:b:"), (8, false));
        if harm[0] != "HSET" {
            twins.lose();
        }
        let mut cmd = redis::cmd(harm[0]);
        cmd.arg(&twins.key).arg(&harm[1..]);
        cmd.exec(&mut twins.redis).unwrap();
        let read = EpochRequest {
            base: 1_000,
            change: EpochChange::Read,
            ..raise
        };
        twins.table = None;
        let reply = twins.both(&read).unwrap();
        assert_eq!(reply.of("a:b:"), (1_000, false), "{harm:?}");
        twins.lose();
    }
}

/// Goal: a field that a later release adds is left alone: else old and new processes would replace each
/// other's table during a deploy.
#[test]
fn a_field_of_a_later_release_is_left_alone() {
    let mut twins = Twins::new();
    let raise = EpochRequest {
        base: 7,
        change: EpochChange::Raise,
        entities: vec!["a:b:".into()],
    };
    twins.both(&raise).unwrap();
    let mut cmd = redis::cmd("HSET");
    cmd.arg(&twins.key)
        .arg("#later")
        .arg("1")
        .exec(&mut twins.redis)
        .unwrap();
    assert_eq!(twins.both(&raise).unwrap().of("a:b:"), (9, false));
    let later: String = redis::cmd("HGET")
        .arg(&twins.key)
        .arg("#later")
        .query(&mut twins.redis)
        .unwrap();
    assert_eq!(later, "1");
    twins.lose();
}

/// Goal: a raised epoch is announced once, and only if someone listens.
#[test]
fn a_raised_epoch_is_announced() {
    let mut twins = Twins::new();
    let client = redis::Client::open(cached_repo_harness::redis_url()).unwrap();
    let mut listening = client.get_connection().unwrap();
    let mut subscription = listening.as_pubsub();
    // Unlike other tests, at a time of its own, which is the name of its channel.
    twins.now = START.plus_ms(std::process::id().into());
    let channel = twins.now.as_millis().to_string();
    subscription.subscribe(&channel).unwrap();
    let token = Token::from_bits(1);
    let mut announces = |change: EpochChange| {
        let request = EpochRequest {
            base: 7,
            change,
            entities: vec!["a:b:".into(), "a:c:".into()],
        };
        twins.both(&request).unwrap();
        redis::cmd("PUBLISH")
            .arg(&channel)
            .arg("end")
            .exec(&mut twins.redis)
            .unwrap();
        let first: String = subscription.get_message().unwrap().get_payload().unwrap();
        let announced = first == ALL;
        if announced {
            let end: String = subscription.get_message().unwrap().get_payload().unwrap();
            assert_eq!(end, "end");
        }
        announced
    };
    assert!(!announces(EpochChange::Read));
    assert!(announces(EpochChange::Raise));
    let block_ms = 50;
    assert!(announces(EpochChange::Block { token, block_ms }));
    assert!(!announces(EpochChange::End { token }));
    assert!(announces(EpochChange::End { token }));
    assert!(!announces(EpochChange::Release { token }));
    twins.lose();
}

/// Goal: two processes read a row; a statement past the library changes it, and one of them invalidates
/// the entity. When that has returned, the other reads the new row, although it may have trusted an
/// older epoch until just then. No key was listed for it.
#[tokio::test]
async fn an_invalidated_entity_is_seen_by_every_process() {
    let world = World::new(Backend::Sqlite, Tier::Redis).await;
    world.create_table(note::Entity).await;
    let (here, there) = (world.db().await, world.db().await);
    let (ours, theirs) = (note::Repository::new(&here), note::Repository::new(&there));
    ours.insert(new_note(1, "0")).await.unwrap();
    for round in 1..4 {
        // Keeps the other process's knowledge young: it asks again whenever it may.
        let reads = tokio::spawn({
            let theirs = theirs.clone();
            async move {
                loop {
                    theirs.find_by_id(1).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        eventually("the other process has it cached", async || {
            let row = theirs.find_by_id(1).await.unwrap().unwrap();
            (row.source() == Source::Shared).then_some(())
        })
        .await;
        world
            .raw(&format!(
                r#"UPDATE "note" SET text = '{round}' WHERE id = 1"#
            ))
            .await;
        let began = Instant::now();
        ours.invalidate_all().await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        let row = theirs.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(row.text.0, round.to_string());
        reads.abort();
    }
}

on_both_tiers!(a_transaction_that_changes_all_rows_outdates_them);
/// Goal: a transaction has changed rows past the library and names the entity: once it has committed
/// nobody reads the old row, and soon the new one is cached.
async fn a_transaction_that_changes_all_rows_outdates_them(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let text = unique("text");
    notes.insert(new_note(1, "old")).await.unwrap();
    notes.find_by_id(1).await.unwrap();
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared(&format!(
        r#"UPDATE "note" SET text = '{text}' WHERE id = 1"#
    ))
    .await
    .unwrap();
    tx.invalidate_all::<note::Model>();
    tx.commit().await.unwrap();
    let row = notes.find_by_id(1).await.unwrap().unwrap();
    assert_eq!(row.text.0, text);
    settled(&db).await;
    eventually("the row is cached", async || {
        let row = notes.find_by_id(1).await.unwrap().unwrap();
        (row.source() == Source::Shared).then_some(())
    })
    .await;
}

on_both_tiers!(what_was_read_before_an_entity_was_invalidated_is_not_used);
/// Goal: a reader has loaded a row, a writer past the library changes it, and the entity is
/// invalidated before the reader stores what it has read. Whatever it stores, nobody uses it.
async fn what_was_read_before_an_entity_was_invalidated_is_not_used(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    // Where the tier is shared, another process.
    let others = match world.tier() {
        Tier::Redis => note::Repository::new(&world.db().await),
        Tier::Memory => notes.clone(),
    };
    let text = unique("old");
    notes.insert(new_note(1, &text)).await.unwrap();
    notes.invalidate(1).await.unwrap();
    let gate = Gate::hold(&text);
    let reader = tokio::spawn(async move { others.find_by_id(1).await });
    gate.arrived(1).await;
    world
        .raw(r#"UPDATE "note" SET text = 'new' WHERE id = 1"#)
        .await;
    notes.invalidate_all().await.unwrap();
    gate.open();
    assert_eq!(reader.await.unwrap().unwrap().unwrap().text.0, text);
    for _ in 0..3 {
        let row = notes.find_by_id(1).await.unwrap().unwrap();
        assert_eq!(row.text.0, "new");
        settled(&db).await;
    }
}
