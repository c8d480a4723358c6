//! What users can rely on, tried on every database and every tier.

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

mod verbs;
