//! The machines that check the coherence protocol, and the races it must win, one by one.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose helper cannot do its part has failed"
)]

/// Runs a test, an `async fn(World)`, on both tiers; SQLite and PostgreSQL in turn.
macro_rules! on_both_tiers {
    ($test:ident) => {
        mod $test {
            on_both_tiers!(@one $test, sqlite_and_memory, Sqlite, Memory);
            on_both_tiers!(@one $test, postgres_and_redis, Postgres, Redis);
        }
    };
    (@one $test:ident, $name:ident, $backend:ident, $tier:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            use cached_repo_tests::{Backend, Tier, World};
            let world = World::new(Backend::$backend, Tier::$tier).await;
            crate::in_time(super::$test(world)).await;
        }
    };
}

mod audit;
mod cancellation;
mod codecs;
mod commits;
mod differential;
mod entries;
mod epochs;
mod flights;
mod interleavings;
mod lookups;
mod peers;
mod spelling;
mod state;

/// A test that hangs fails.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
    tokio::time::timeout(LIMIT, test)
        .await
        .expect("the test hangs")
}
