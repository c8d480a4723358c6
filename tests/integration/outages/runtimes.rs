//! Background work runs on the runtime that the `CachedDb` was built on, whichever runtime starts
//! it.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use cached_repo::{ReadError, Source, WriteError};
use cached_repo_harness::{Proxy, Redis};
use cached_repo_tests::{Backend, Tier, World, gated::note};
use futures_util::FutureExt;
use sea_orm::EntityTrait;
use tokio::runtime::Runtime;

use super::{TEST_LIMIT, as_users_do, is_cached, new_note};

async fn embedded() -> (World, note::Repository) {
    let world = World::new(Backend::Sqlite, Tier::Memory).await;
    world.create_table(note::Entity).await;
    world
        .raw(r#"INSERT INTO "note" VALUES (1, 'row', 1)"#)
        .await;
    let notes = note::Repository::new(&world.db().await);
    (world, notes)
}

/// Goal: the connection comes back although the runtime that noticed its loss has ended.
#[test]
fn the_connection_comes_back_whoever_noticed_its_loss() {
    let (home, visitor) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let (_world, notes) = home.block_on(async {
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let world = World::on_redis(Backend::Sqlite, url).await;
        world.create_table(note::Entity).await;
        let notes = note::Repository::new(&world.db_with(as_users_do).await);
        notes.insert(new_note(1, "row")).await.unwrap();
        is_cached(&notes, 1, "row").await;
        (world, notes)
    });
    proxy.refuse(true);
    proxy.cut();
    visitor.block_on(async {
        for _ in 0..5 {
            let row = notes.find_by_id(1).await.unwrap().unwrap();
            assert_eq!(row.source(), Source::Database);
        }
    });
    drop(visitor);
    proxy.refuse(false);
    home.block_on(is_cached(&notes, 1, "row"));
}

/// Goal: outside a runtime a cold find works, because its load runs on the runtime of the
/// `CachedDb`.
#[test]
fn a_cold_find_outside_a_runtime_is_answered() {
    let home = Runtime::new().unwrap();
    let (_world, notes) = home.block_on(embedded());
    let mut finding = Box::pin(notes.find_by_id(1));
    let began = Instant::now();
    let row = loop {
        if let Some(found) = (&mut finding).now_or_never() {
            break found.unwrap().unwrap();
        }
        assert!(began.elapsed() < TEST_LIMIT, "it hangs");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(row.text.0, "row");
}

/// Goal: a runtime that ends while cold finds run on it does not hang.
#[test]
fn a_runtime_ends_while_cold_finds_run() {
    for round in 0..20 {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let home = Runtime::new().unwrap();
            let world = home.block_on(async {
                let (world, notes) = embedded().await;
                for worker in 0..16 {
                    let notes = notes.clone();
                    tokio::spawn(async move {
                        let mut id = worker * 1_000_000_000;
                        while notes.find_by_id(id).await.is_ok() {
                            id += 1;
                            tokio::task::yield_now().await;
                        }
                    });
                }
                tokio::time::sleep(Duration::from_millis(20 + round % 7)).await;
                world
            });
            drop(home);
            sender.send(()).unwrap();
            drop(world);
        });
        receiver
            .recv_timeout(Duration::from_secs(20))
            .unwrap_or_else(|_| panic!("round {round}: the runtime does not end"));
    }
}

/// Goal: without the runtime of `build` there is a clear error, and no row is written whose
/// invalidation could not be sent.
#[test]
fn without_the_runtime_of_build_reads_and_writes_say_so() {
    let (home, visitor) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let redis = Redis::start().unwrap();
    // The database belongs to the other runtime.
    let world = visitor.block_on(async {
        let world = World::on_redis(Backend::Sqlite, redis.url()).await;
        world.create_table(note::Entity).await;
        world
    });
    let db = home.block_on(world.db_with(as_users_do));
    let notes = note::Repository::new(&db);
    drop(home);
    visitor.block_on(async {
        let read = notes.find_by_id(1).await.unwrap_err();
        assert!(matches!(read, ReadError::RuntimeEnded { .. }), "{read}");
        let written = notes.insert(new_note(1, "row")).await.unwrap_err();
        assert!(
            matches!(written, WriteError::RuntimeEnded { .. }),
            "{written}"
        );
        let begun = db.begin().await.unwrap_err().to_string();
        assert!(begun.contains("runtime"), "{begun}");
        let found = note::Entity::find().all(&world.conn).await.unwrap();
        assert!(found.is_empty());
    });
}
