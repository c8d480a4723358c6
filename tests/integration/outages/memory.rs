//! Redis forgets: it is flushed, full, or evicts any key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cached_repo::{Cached, Config, LookedUp, Source};
use cached_repo_harness::Redis;
use cached_repo_tests::{
    Backend, World, eventually,
    gated::{Gate, note},
};
use deadpool_redis::redis::{self, AsyncCommands};
use futures_util::{StreamExt, stream};
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::{as_users_do, find, is_cached, new_note, on, unique};

outage! {
    /// Goal: everything is flushed while loads and writes are under way: no lease from before the
    /// flush stores anything, and no write is lost.
    async fn a_flush_revokes_leases_and_loses_no_write() {
        let redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
            panic!("nothing is cached");
        };
        let mut admin = world.redis().await;
        admin.flushall::<()>().await.unwrap();
        let mut row = old.clone();
        row.text = "new".into();
        world.raw(r#"UPDATE "note" SET text = 'new', version = 2"#).await;
        lease.fill(old).await.unwrap();
        assert_eq!(notes.stats().fills_refused, 1);
        is_cached(&notes, 1, "new").await;

        // A write that is flushed between its block and its done.
        let text = unique("newer");
        let gate = Gate::hold(&text);
        row.text = text.as_str().into();
        row.version = 2;
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        gate.arrived(1).await;
        admin.flushall::<()>().await.unwrap();
        gate.open();
        writer.await.unwrap().unwrap();
        is_cached(&others, 1, &text).await;
        is_cached(&notes, 1, &text).await;
    }
}

outage! {
    /// Goal: a Redis at its memory limit that evicts nothing: nothing new is cached, but writes
    /// are protected as ever, and what is cached is never stale.
    async fn a_full_redis_refuses_fills_and_still_protects_writes() {
        let redis = Redis::builder()
            .arg("maxmemory", "8mb")
            .arg("maxmemory-policy", "noeviction")
            .start()
            .unwrap();
        let world = on(&redis).await;
        // A lease that is left behind by a refused fill holds up the next reader.
        let patient = |config: &mut Config| config.lease_wait = Duration::from_secs(60);
        let db = world.db_with(patient).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.insert(new_note(2, "cold")).await.unwrap();
        notes.insert(new_note(3, "raw")).await.unwrap();
        notes.invalidate(2).await.unwrap();
        is_cached(&others, 1, "old").await;
        is_cached(&others, 3, "raw").await;
        let mut admin = world.redis().await;
        fill_up(&mut admin).await;

        eventually("the fills are refused", async || {
            // A little room comes and goes.
            fill_up(&mut admin.clone()).await;
            notes.invalidate(2).await.unwrap();
            assert_eq!(find(&notes, 2).await, ("cold".into(), Source::Database));
            (notes.stats().fills_refused >= 3).then_some(())
        })
        .await;
        assert_eq!(db.connection_stats().reconnects, 0, "a refusal is no outage");
        row.text = "new".into();
        let saved = notes.save(row).await.unwrap();
        assert!(!saved.is_pending());
        // With or without room for the row, there is room for the news that it has changed.
        assert_eq!(find(&others, 1).await.0, "new");
        notes.delete(saved.into_model()).await.unwrap();
        assert!(others.find_by_id(1).await.unwrap().is_none());
        notes.insert(new_note(1, "again")).await.unwrap();
        assert_eq!(find(&others, 1).await.0, "again");
        // A repair cannot store the row; it must not leave the old one either.
        world.raw(r#"UPDATE "note" SET text = 'past the library' WHERE id = 3"#).await;
        notes.refresh(3).await.unwrap();
        assert_eq!(find(&others, 3).await.0, "past the library");
    }
}

outage! {
    /// Goal: at its memory limit Redis has room for blocks and tombstones, which expire, and not
    /// for the rows: inserts do not make it grow without bound.
    async fn inserts_do_not_grow_a_full_redis() {
        const ROWS: i64 = 8_000;
        const ROW_BYTES: usize = 2_000;
        let redis = Redis::builder()
            .arg("maxmemory", "8mb")
            .arg("maxmemory-policy", "noeviction")
            .start()
            .unwrap();
        let world = on(&redis).await;
        let db = world.db().await;
        let notes = note::Repository::new(&db);
        let mut admin = world.redis().await;
        fill_up(&mut admin).await;
        let text = "x".repeat(ROW_BYTES);
        let inserts = (0..ROWS).map(async |id| notes.insert(new_note(id, &text)).await.unwrap());
        stream::iter(inserts).buffer_unordered(16).collect::<Vec<_>>().await;
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut admin).await.unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        let used: u64 = used.trim().parse().unwrap();
        assert!(used < 14 << 20, "{used} bytes of 8 MiB are used");
        // A little room comes and goes.
        assert!(db.stats().puts < 400, "{}", db.stats().puts);
        assert_eq!(db.pending_invalidations(), 0);
    }
}

outage! {
    /// Goal: a Redis that evicts any key, blocks and leases included: rows come from the database,
    /// and every read after a write sees it.
    async fn a_redis_that_evicts_anything_serves_nothing_stale() {
        let redis = Redis::builder()
            .arg("maxmemory", "4mb")
            .arg("maxmemory-policy", "allkeys-lru")
            .start()
            .unwrap();
        let world = on(&redis).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let mut admin = world.redis().await;
        for id in 1..=5 {
            notes.insert(new_note(id, "0")).await.unwrap();
        }
        for round in 1..=10 {
            for id in 1..=5 {
                let text = format!("{round}");
                let mut row = others.find_by_id(id).await.unwrap().unwrap().into_model();
                row.text = text.as_str().into();
                notes.save(row).await.unwrap();
                let mut pipe = redis::pipe();
                for junk in 0..20 {
                    pipe.set(format!("junk {round} {id} {junk}"), vec![0u8; 10_000]).ignore();
                }
                pipe.exec_async(&mut admin).await.unwrap();
                assert_eq!(find(&others, id).await.0, text);
                assert_eq!(find(&notes, id).await.0, text);
            }
        }
        let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut admin).await.unwrap();
        assert!(!stats.contains("evicted_keys:0\r\n"), "nothing was evicted");
    }
}

outage! {
    /// Goal: a flush between the block of a write and its commit: readers may load and cache the
    /// old row, which is still the committed one; the write ends that when it is done.
    async fn a_flush_between_block_and_commit_leaves_nothing_stale() {
        let redis = Redis::start().unwrap();
        let world = World::on_redis(Backend::Postgres, redis.url()).await;
        world.create_table(note::Entity).await;
        let notes = note::Repository::new(&world.db().await);
        let others = note::Repository::new(&world.db().await);
        let mut row = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        let lock = world.conn.begin().await.unwrap();
        let sql = "SELECT 1 FROM note WHERE id = 1 FOR UPDATE";
        lock.execute_unprepared(sql).await.unwrap();
        row.text = "new".into();
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        world.lock_waiters(1).await;
        let mut admin = world.redis().await;
        admin.flushall::<()>().await.unwrap();
        is_cached(&others, 1, "old").await;
        lock.commit().await.unwrap();
        writer.await.unwrap().unwrap();
        assert_eq!(find(&others, 1).await.0, "new");
        assert_eq!(find(&notes, 1).await.0, "new");
        assert_eq!(notes.stats().puts, 1, "only the insert's: its block was gone");
        is_cached(&others, 1, "new").await;
    }
}

outage! {
    /// Goal: a Redis that comes back empty in the middle of a load and of a write: the lease from
    /// before stores nothing, and the write is published or its invalidation is queued.
    async fn a_restart_in_the_middle_of_a_load_and_a_write_leaves_nothing_stale() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let db = world.db_with(as_users_do).await;
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&world.db().await);
        let old = notes.insert(new_note(1, "old")).await.unwrap().into_model();
        notes.invalidate(1).await.unwrap();
        let LookedUp::Miss(lease) = notes.cache().lookup(1).await else {
            panic!("nothing is cached");
        };
        redis.restart().unwrap();
        let mut row = old.clone();
        row.text = "new".into();
        let mut row = others.save(row).await.unwrap().into_model();
        lease.fill(old).await.unwrap();
        is_cached(&notes, 1, "new").await;
        is_cached(&others, 1, "new").await;

        let text = unique("newer");
        let gate = Gate::hold(&text);
        row.text = text.as_str().into();
        let writer = tokio::spawn({
            let notes = notes.clone();
            async move { notes.save(row).await }
        });
        // Committed; its block goes with the server.
        gate.arrived(1).await;
        redis.restart().unwrap();
        gate.open();
        writer.await.unwrap().unwrap();
        assert_eq!(find(&notes, 1).await.0, text);
        eventually("what was pending is replayed", async || {
            (db.pending_invalidations() == 0).then_some(())
        })
        .await;
        is_cached(&notes, 1, &text).await;
        is_cached(&others, 1, &text).await;
    }
}

/// The version of each row that was acknowledged last.
#[derive(Clone)]
struct Marks(Arc<[AtomicI64]>);

impl Marks {
    fn of(&self, id: i64) -> &AtomicI64 {
        &self.0[usize::try_from(id).unwrap()]
    }

    fn acknowledge(&self, row: &note::Model) {
        self.of(row.id).store(row.version, Ordering::SeqCst);
    }

    /// Reads a row, which must not be older than what was acknowledged before.
    async fn read(&self, notes: &note::Repository, id: i64) -> Cached<note::Model> {
        let mark = self.of(id).load(Ordering::SeqCst);
        let row = notes.find_by_id(id).await.unwrap().unwrap();
        assert!(row.version >= mark, "{id}: {} < {mark}", row.version);
        row
    }
}

const ROWS: i64 = 60;
const WRITERS: i64 = 4;
const SAVES: i64 = 120;

outage! {
    /// Goal: the same under pressure: far more rows than fit, written and read by two processes at
    /// a time. No error; and no read that began after a save was acknowledged shows an older row.
    async fn under_eviction_no_read_is_older_than_an_acknowledged_save() {
        let redis = Redis::builder()
            .arg("maxmemory", "3mb")
            .arg("maxmemory-policy", "allkeys-lru")
            .start()
            .unwrap();
        let world = on(&redis).await;
        let (db, other_db) = (world.db().await, world.db().await);
        let notes = note::Repository::new(&db);
        let others = note::Repository::new(&other_db);
        // A row is as large as a hundredth of the memory.
        let padding = "x".repeat(30_000);
        for id in 0..ROWS {
            notes.insert(new_note(id, &padding)).await.unwrap();
        }
        let marks = Marks((0..ROWS).map(|_| AtomicI64::new(1)).collect());
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (notes, others, padding) = (notes.clone(), others.clone(), padding.clone());
            let reader = if writer % 2 == 0 { notes.clone() } else { others.clone() };
            let marks_of_writer = marks.clone();
            tasks.spawn(async move {
                let marks = marks_of_writer;
                for save in 0..SAVES {
                    // Rows of its own, so that nobody else moves the mark.
                    let id = (save * WRITERS + writer) % ROWS;
                    let mut row = marks.read(&others, id).await.into_model();
                    row.text = format!("{save} {padding}").as_str().into();
                    let saved = notes.save(row).await.unwrap();
                    assert!(!saved.is_pending());
                    marks.acknowledge(&saved);
                    for notes in [&notes, &others] {
                        assert_eq!(marks.read(notes, id).await, saved);
                    }
                }
            });
            let marks = marks.clone();
            tasks.spawn(async move {
                for read in 0..SAVES * 3 {
                    marks.read(&reader, (read * 7 + writer) % ROWS).await;
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        let mut admin = world.redis().await;
        let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut admin).await.unwrap();
        assert!(!stats.contains("evicted_keys:0\r\n"), "nothing was evicted");
        for db in [&db, &other_db] {
            assert_eq!(db.pending_invalidations(), 0);
            assert_eq!(db.connection_stats().failures, 0);
            assert!(db.stats().shared_hits > 0, "nothing was served from the cache");
        }
    }
}

/// Writes until Redis has no more room.
async fn fill_up(admin: &mut redis::aio::MultiplexedConnection) {
    for size in [100_000, 1_000, 1] {
        for junk in 0..100_000 {
            let filled = admin
                .set::<_, _, ()>(format!("junk {size} {junk}"), vec![0u8; size])
                .await;
            if let Err(error) = filled {
                assert!(error.to_string().contains("OOM"), "{error}");
                break;
            }
        }
    }
}
