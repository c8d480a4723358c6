//! Redis is away, slow, empty, full or forgetful: reads go to the database, writes follow the
//! policy, nothing hangs, and a process that knows of a change serves nothing older.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose helper cannot do its part has failed"
)]

use std::time::Duration;

use cached_repo::{CachedDb, Config, Source};
use cached_repo_harness::Redis;
use cached_repo_tests::{Backend, World, eventually, gated::note};
use sea_orm::ActiveValue::Set;

const CACHE_TIMEOUT: Duration = Duration::from_millis(100);
/// Five operations' time to connect, and what a busy test machine adds.
const BUILD_LIMIT: Duration = Duration::from_secs(3);
/// One operation's time-out, a SELECT, and what a busy test machine adds.
const READ_LIMIT: Duration = Duration::from_secs(2);

const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Declares a test in which nothing may hang.
macro_rules! outage {
    ($(#[$doc:meta])* async fn $name:ident() $body:block) => {
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            tokio::time::timeout(crate::outages::TEST_LIMIT, async $body)
                .await
                .expect("the test hangs");
        }
    };
}

mod availability;
mod budget;
mod failover;
mod memory;
mod near;
mod pending;
mod policy;
mod runtimes;
mod searches;

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

fn as_users_do(config: &mut Config) {
    config.cache_timeout = CACHE_TIMEOUT;
}

/// A database, and a Redis of the test's own that is up.
async fn on(redis: &Redis) -> World {
    let world = World::on_redis(Backend::Sqlite, redis.url()).await;
    world.create_table(note::Entity).await;
    world
}

async fn find(notes: &note::Repository, id: i64) -> (String, Source) {
    let row = tokio::time::timeout(READ_LIMIT, notes.find_by_id(id))
        .await
        .expect("a read took longer than its time-outs")
        .unwrap()
        .unwrap();
    (row.text.0.clone(), row.source())
}

/// Waits until the key is served from the cache, and asserts the text of every answer until then.
async fn is_cached(notes: &note::Repository, id: i64, text: &str) {
    eventually("the row is served from the cache", async || {
        let (found, source) = find(notes, id).await;
        assert_eq!(found, text);
        (source == Source::Shared).then_some(())
    })
    .await;
}

/// Reads until the connection has given up, so that the next commands are not even sent.
async fn until_given_up(db: &CachedDb) {
    let notes = note::Repository::new(db);
    eventually("the connection has given up", async || {
        let _ = notes.find_by_id(i64::MAX).await.unwrap();
        (db.connection_stats().unavailable > 0).then_some(())
    })
    .await;
}
