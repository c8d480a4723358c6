//! A call waits for Redis for one `cache_timeout` at most, however many operations it takes.

use std::time::{Duration, Instant};

use cached_repo::Config;
use cached_repo_harness::{Proxy, Redis};
use cached_repo_tests::{
    Backend, World,
    gated::{Gate, note, page},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, TransactionTrait};

use super::{new_note, on, unique};

/// Long enough to distinguish one time-out from two.
const TIMEOUT: Duration = Duration::from_millis(500);

fn patient(config: &mut Config) {
    config.cache_timeout = TIMEOUT;
}

outage! {
    /// Goal: a reader whose flight starts after another one has waited for Redis already, and does
    /// not wait again.
    async fn a_follower_waits_for_redis_once() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        let notes = note::Repository::new(&world.db_with(patient).await);
        let text = unique("row");
        notes.insert(new_note(1, &text)).await.unwrap();
        redis.pause().unwrap();
        let gate = Gate::hold(&text);
        let find = || {
            let notes = notes.clone();
            tokio::spawn(async move { notes.find_by_id(1).await.unwrap().unwrap() })
        };
        let first = find();
        tokio::time::sleep(TIMEOUT / 2).await;
        let second = find();
        // Both have timed out. The first one's SELECT is held up.
        gate.arrived(1).await;
        tokio::time::sleep(TIMEOUT).await;
        gate.open();
        let released = Instant::now();
        first.await.unwrap();
        second.await.unwrap();
        assert!(released.elapsed() < TIMEOUT / 2, "{:?}", released.elapsed());
        redis.resume().unwrap();
    }
}

outage! {
    /// Goal: a fresh read asks for a lease, and then stores what it found: both within one
    /// time-out.
    async fn a_fresh_read_waits_for_redis_once() {
        let mut redis = Redis::start().unwrap();
        let world = on(&redis).await;
        world.create_table(page::Entity).await;
        let db = world.db_with(patient).await;
        let notes = note::Repository::new(&db);
        let pages = page::Repository::new(&db);
        notes.insert(new_note(1, "row")).await.unwrap();
        pages.insert(new_page()).await.unwrap();
        redis.pause().unwrap();
        for round in 0..2 {
            let began = Instant::now();
            match round {
                0 => drop(notes.fresh().find_by_id(1).await.unwrap().unwrap()),
                _ => drop(pages.fresh().find_by_ids([1]).await.unwrap()),
            }
            assert!(began.elapsed() < TIMEOUT * 3 / 2, "{:?}", began.elapsed());
        }
        redis.resume().unwrap();
    }
}

outage! {
    /// Goal: over a Redis that takes most of a time-out for each operation, a read that needs many
    /// takes one time-out.
    async fn a_slow_redis_costs_a_read_one_time_out() {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::start(redis.port()).unwrap();
        let world = World::on_redis(Backend::Sqlite, format!("redis://127.0.0.1:{}", proxy.port()));
        let world = world.await;
        assert_eq!(world.conn.get_database_backend(), DbBackend::Sqlite);
        world.create_table(note::Entity).await;
        world.create_table(page::Entity).await;
        let db = world.db_with(patient).await;
        let notes = note::Repository::new(&db);
        let pages = page::Repository::new(&db);
        let tx = world.conn.begin().await.unwrap();
        for id in 1..=20 {
            tx.execute_unprepared(&format!("INSERT INTO note VALUES ({id}, 'x', 1)")).await.unwrap();
        }
        tx.commit().await.unwrap();
        pages.insert(new_page()).await.unwrap();
        pages.find_by_slug(5).await.unwrap().unwrap();
        proxy.delay(TIMEOUT * 4 / 5, Duration::ZERO);
        for round in 0..4 {
            let began = Instant::now();
            match round {
                0 => drop(notes.find_by_id(1).await.unwrap().unwrap()),
                1 => drop(notes.find_by_ids(2..10i64).await.unwrap()),
                2 => drop(pages.find_by_slug(5).await.unwrap().unwrap()),
                _ => drop(notes.fresh().find_by_id(11).await.unwrap().unwrap()),
            }
            assert!(began.elapsed() < TIMEOUT * 3 / 2, "round {round}: {:?}", began.elapsed());
        }
    }
}

fn new_page() -> page::ActiveModel {
    page::ActiveModel {
        id: Set(1),
        slug: Set(5),
        shelf: Set(7),
        text: Set("page".into()),
        ..Default::default()
    }
}
