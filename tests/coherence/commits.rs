//! Races around a COMMIT, and answers of the database that never arrive.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cached_repo::{CachedDb, CommitError, Config, Drained, LookedUp, Source, WriteError};
use cached_repo_harness as harness;
use cached_repo_tests::{Backend, Tier, World, eventually, gated::note, redis_pool};
use sea_orm::{ActiveValue::Set, ConnectionTrait, Database, Statement};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::in_time;

fn new_note(id: i64, text: &str) -> note::ActiveModel {
    note::ActiveModel {
        id: Set(id),
        text: Set(text.into()),
        ..Default::default()
    }
}

/// Long enough for a busy test machine to do what is to happen under a block, short enough to wait
/// for its end.
fn short_block(config: &mut Config) {
    config.block_ttl = Duration::from_secs(2);
    config.cache_timeout = Duration::from_millis(500);
}

/// A second process where the tier is shared; the same one where it is not.
async fn another(world: &World, db: &CachedDb) -> CachedDb {
    match world.tier() {
        Tier::Redis => world.db().await,
        Tier::Memory => db.clone(),
    }
}

async fn found(notes: &note::Repository) -> (String, Source) {
    let row = notes.find_by_id(1).await.unwrap().unwrap();
    (row.text.0.clone(), row.source())
}

/// Waits until row 1 is served from the cache; until then, and then, it has this text.
async fn is_cached(notes: &note::Repository, text: &str) {
    eventually("the row is served from the cache", async || {
        let (now, source) = found(notes).await;
        assert_eq!(now, text);
        (source == Source::Shared).then_some(())
    })
    .await;
}

on_both_tiers!(what_readers_cache_before_a_commit_ends_with_it);
/// Goal: go-zero's DEL inside an open transaction: a reader caches the old row between it and the
/// COMMIT, for ever. Here the commit ends that entry, although the statement was long before. It
/// also ends the cached absence of a row that the transaction has inserted.
async fn what_readers_cache_before_a_commit_ends_with_it(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
    notes.invalidate(1).await.unwrap();
    let tx = db.begin().await.unwrap();
    row.text = "new".into();
    notes.on(&tx).save(row).await.unwrap();
    notes.on(&tx).insert(new_note(2, "here")).await.unwrap();
    is_cached(&others, "old").await;
    eventually("the absence is cached", async || {
        let hits = others.stats().absent_hits;
        assert!(others.find_by_id(2).await.unwrap().is_none());
        (others.stats().absent_hits > hits).then_some(())
    })
    .await;
    tx.commit().await.unwrap();
    assert_eq!(found(&others).await.0, "new");
    is_cached(&notes, "new").await;
    let inserted = others.find_by_id(2).await.unwrap();
    assert_eq!(inserted.unwrap().text.0, "here");
}

on_both_tiers!(a_fill_racing_a_commit_is_refused);
/// Goal: a reader has SELECTed the old row when a transaction commits, and does not store it.
async fn a_fill_racing_a_commit_is_refused(world: World) {
    world.create_table(note::Entity).await;
    let db = world.db().await;
    let notes = note::Repository::new(&db);
    let others = note::Repository::new(&another(&world, &db).await);
    let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
    notes.invalidate(1).await.unwrap();
    let tx = db.begin().await.unwrap();
    let mut row = old.clone();
    row.text = "new".into();
    notes.on(&tx).save(row).await.unwrap();
    let LookedUp::Miss(lease) = others.cache().lookup(1).await else {
        panic!("nothing is cached");
    };
    tx.commit().await.unwrap();
    lease.fill(old).await.unwrap();
    assert_eq!(others.stats().fills_refused, 1);
    for repository in [&notes, &others] {
        assert_eq!(found(repository).await, ("new".into(), Source::Shared));
    }
}

/// Goal: a save has its block set and waits for the row that a transaction has written. The
/// transaction commits under the save's block, and the save conflicts. Readers get the
/// transaction's row.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_save_that_waits_for_a_transaction_conflicts_with_it() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let db = world.db().await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let tx = db.begin().await.unwrap();
        let mut ours = row.clone();
        ours.text = "ours".into();
        notes.on(&tx).save(ours).await.unwrap();
        let saver = tokio::spawn({
            let others = others.clone();
            let mut theirs = row;
            theirs.text = "theirs".into();
            async move { others.save(theirs).await }
        });
        world.lock_waiters(1).await;
        let entry = world.entry(&world.key("note", 1)).await.unwrap();
        assert_eq!(entry.claims.writers().len(), 1, "the save's block");
        tx.commit().await.unwrap();
        // Acknowledged, so from now on nobody may see the old row, whatever the save does.
        assert_eq!(found(&notes).await.0, "ours");
        let error = saver.await.unwrap().unwrap_err();
        assert!(
            matches!(error, WriteError::VersionConflict { found: 2, .. }),
            "{error}"
        );
        assert_eq!(found(&others).await.0, "ours");
        is_cached(&notes, "ours").await;
    })
    .await;
}

/// Goal: a save waits for the row that a transaction deletes and inserts again, with the version
/// that the save expects. The save is for the deleted row and writes nothing to the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_save_that_waits_for_a_delete_and_a_new_insert_writes_nothing() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let db = world.db().await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let first = notes.insert(new_note(1, "first life")).await.unwrap();
        let tx = db.begin().await.unwrap();
        notes.on(&tx).delete_by_id(1).await.unwrap().unwrap();
        let second = new_note(1, "second life");
        let second = notes.on(&tx).insert(second).await.unwrap();
        assert_eq!(second.version, first.version);
        let saver = tokio::spawn({
            let (others, mut row) = (others.clone(), first.into_model());
            row.text = "saved".into();
            async move { others.save(row).await }
        });
        world.lock_waiters(1).await;
        tx.commit().await.unwrap();
        assert_eq!(found(&notes).await.0, "second life");
        let error = saver.await.unwrap().unwrap_err();
        assert!(
            matches!(error, WriteError::VersionConflict { .. }),
            "{error}"
        );
        for repository in [&notes, &others] {
            assert_eq!(found(repository).await.0, "second life");
        }
        let row = notes.fresh().find_by_id(1).await.unwrap().unwrap();
        assert_eq!(*row, *second);
    })
    .await;
}

/// When a [`Wire`] is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The statement does not reach the server.
    Before,
    /// The server has answered, and the answer does not reach the client.
    After,
}

/// A wire to PostgreSQL that can be cut around a statement.
struct Wire {
    at: SocketAddr,
    plan: Plan,
}

/// The text of the message to cut, and when.
type Plan = Arc<Mutex<Option<(String, Cut)>>>;

impl Wire {
    /// A wire to the server at this address.
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let plan = Plan::default();
        let of_connections = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let mute = Arc::new(AtomicBool::new(false));
                let plan = Arc::clone(&of_connections);
                tokio::spawn(requests(from_client, to_server, plan, Arc::clone(&mute)));
                tokio::spawn(answers(from_server, to_client, mute));
            }
        });
        Self { at, plan }
    }

    /// Cuts the connection that next sends a message with this text.
    fn cut(&self, text: &str, cut: Cut) {
        *self.plan.lock().unwrap() = Some((text.to_owned(), cut));
    }
}

/// Carries statements to the server, until one of them is the one to cut.
async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    plan: Plan,
    mute: Arc<AtomicBool>,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        let message = &buffer[..read];
        let cut = plan.lock().unwrap().take_if(|(text, _)| {
            let mut windows = message.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        });
        match cut {
            Some((_, Cut::Before)) => break,
            Some((_, Cut::After)) => mute.store(true, Ordering::SeqCst),
            None => {}
        }
        if server.write_all(message).await.is_err() {
            break;
        }
    }
    // An end that is dropped shuts its direction down; the server then ends the other one.
}

/// Carries answers to the client; the first one that is to be lost ends the connection.
async fn answers(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, mute: Arc<AtomicBool>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        if mute.load(Ordering::SeqCst) || client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

/// A `CachedDb` whose connection to the database can be cut; everything else is the world's.
async fn over_a_wire(world: &World) -> (Wire, CachedDb) {
    let statement = Statement::from_string(world.backend(), "SELECT current_database() AS name");
    let row = world.conn.query_one_raw(statement).await.unwrap().unwrap();
    let name: String = row.try_get("", "name").unwrap();
    let url = harness::postgres_url();
    let (user, server) = url.split_once('@').unwrap();
    let (server, _) = server.split_once('/').unwrap();
    let wire = Wire::to(server.to_owned()).await;
    let conn = Database::connect(format!("{user}@{}/{name}", wire.at))
        .await
        .unwrap();
    let mut config = Config::default();
    config.namespace.clone_from(&world.namespace);
    short_block(&mut config);
    let db = CachedDb::builder(conn)
        .config(config)
        .redis(redis_pool(&harness::redis_url()))
        .build()
        .await
        .unwrap();
    (wire, db)
}

/// Goal: the answer to a COMMIT is lost. The writer cannot know that it was committed. It neither
/// puts nor releases, the block stays until it lapses, and nobody sees the old row again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_answer_is_lost_leaves_its_blocks() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let (wire, db) = over_a_wire(&world).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&others, "old").await;
        let tx = db.begin().await.unwrap();
        row.text = "new".into();
        notes.on(&tx).save(row).await.unwrap();
        let puts = db.stats().puts;
        wire.cut("COMMIT", Cut::After);
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, CommitError::Unknown { .. }), "{error}");

        let entry = world.entry(&world.key("note", 1)).await.unwrap();
        assert_eq!(entry.claims.writers().len(), 1, "the block stays");
        assert_eq!(found(&others).await, ("new".into(), Source::Database));
        is_cached(&others, "new").await;
        is_cached(&notes, "new").await;
        assert_eq!(db.stats().puts, puts);
    })
    .await;
}

/// Goal: the COMMIT itself is lost, which looks the same to the writer: the server rolls back, and
/// the old row is readable again once the block has lapsed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_is_lost_leaves_its_blocks() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let (wire, db) = over_a_wire(&world).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        is_cached(&others, "old").await;
        let tx = db.begin().await.unwrap();
        let mut new = row.clone();
        new.text = "new".into();
        notes.on(&tx).save(new.clone()).await.unwrap();
        wire.cut("COMMIT", Cut::Before);
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, CommitError::Unknown { .. }), "{error}");

        let entry = world.entry(&world.key("note", 1)).await.unwrap();
        assert_eq!(entry.claims.writers().len(), 1, "the block stays");
        assert_eq!(found(&others).await, ("old".into(), Source::Database));
        is_cached(&others, "old").await;
        // The writer itself trusts the cache again once its queued invalidation is acknowledged.
        assert_eq!(db.shutdown(Duration::from_secs(20)).await, Drained::All);
        is_cached(&notes, "old").await;
        // No block is left that would delay a write.
        assert_eq!(notes.save(new).await.unwrap().version, 2);
        assert_eq!(found(&others).await.0, "new");
    })
    .await;
}

/// Goal: the same for a transaction whose changes only the database knows: their entity is blocked as a
/// whole before the COMMIT. Until that has lapsed every process reads the database and stores nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_of_unknown_extent_leaves_its_entity_blocked() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let (wire, db) = over_a_wire(&world).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        notes.insert(new_note(1, "0")).await.unwrap();
        for (round, cut) in [(1, Cut::After), (2, Cut::Before), (3, Cut::After)] {
            let before = (round - 1).to_string();
            is_cached(&others, &before).await;
            let tx = db.begin().await.unwrap();
            tx.execute_unprepared(&format!(
                r#"UPDATE "note" SET text = '{round}' WHERE id = 1"#
            ))
            .await
            .unwrap();
            tx.invalidate_all::<note::Model>();
            wire.cut("COMMIT", cut);
            let error = tx.commit().await.unwrap_err();
            assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
            let truth = if cut == Cut::After {
                round.to_string()
            } else {
                before
            };
            for _ in 0..3 {
                assert_eq!(found(&others).await, (truth.clone(), Source::Database));
            }
            is_cached(&others, &truth).await;
            is_cached(&notes, &truth).await;
            if cut == Cut::Before {
                world
                    .raw(&format!(
                        r#"UPDATE "note" SET text = '{round}' WHERE id = 1"#
                    ))
                    .await;
                notes.invalidate_all().await.unwrap();
            }
        }
    })
    .await;
}

/// Goal: the same for a save by itself, whose statement is its own commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_save_whose_answer_is_lost_leaves_its_block() {
    in_time(async {
        let world = World::new(Backend::Postgres, Tier::Redis).await;
        world.create_table(note::Entity).await;
        let (wire, db) = over_a_wire(&world).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        for (cut, version) in [(Cut::After, 10), (Cut::Before, 20)] {
            notes.delete_by_id(1).await.unwrap();
            world
                .raw(&format!(
                    r#"INSERT INTO "note" (id, text, version) VALUES (1, 'old', {version})"#
                ))
                .await;
            notes.refresh(1).await.unwrap();
            is_cached(&others, "old").await;
            let mut row = notes.find_by_id(1).await.unwrap().unwrap().into_model();
            let new = harness::unique("new");
            row.text = new.as_str().into();
            // Its parameters travel with the execution of a statement, not with its preparation.
            wire.cut(&new, cut);
            let error = notes.save(row).await.unwrap_err();
            assert!(matches!(error, WriteError::Unknown { .. }), "{error}");
            let entry = world.entry(&world.key("note", 1)).await.unwrap();
            assert_eq!(entry.claims.writers().len(), 1, "the block stays");
            let truth = if cut == Cut::After { &new } else { "old" };
            assert_eq!(found(&others).await, (truth.to_owned(), Source::Database));
            is_cached(&others, truth).await;
            is_cached(&notes, truth).await;
        }
    })
    .await;
}
