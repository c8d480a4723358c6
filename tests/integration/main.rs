//! What users can rely on, tried on every database and every tier.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

/// Runs a test, an `async fn(World)`, on every database and every tier.
macro_rules! everywhere {
    ($test:ident) => {
        mod $test {
            everywhere!(@one $test, postgres_and_redis, Postgres, Redis);
            everywhere!(@one $test, postgres_and_memory, Postgres, Memory);
            everywhere!(@one $test, mariadb_and_redis, MariaDb, Redis);
            everywhere!(@one $test, mariadb_and_memory, MariaDb, Memory);
            everywhere!(@one $test, sqlite_and_redis, Sqlite, Redis);
            everywhere!(@one $test, sqlite_and_memory, Sqlite, Memory);
        }
    };
    (@one $test:ident, $name:ident, $backend:ident, $tier:ident) => {
        #[tokio::test]
        async fn $name() {
            use cached_repo_tests::{Backend, Tier, World};
            super::$test(World::new(Backend::$backend, Tier::$tier).await).await;
        }
    };
}

use cached_repo_tests::entities::messagepack as models;

mod aside;
mod batches;
mod cascades;
mod codecs;
mod columns;
mod connections;
mod counting;
mod deletes;
mod errors;
mod expiry;
mod flights;
mod foreign;
mod hooks;
mod inserts;
mod json;
mod keys;
mod lookups;
mod near;
mod outages;
mod reloads;
mod repairs;
mod saves;
mod settings;
mod shapes;
mod sharing;
mod siblings;
mod transaction_limits;
mod transactions;
mod update_with;
mod verbs;
