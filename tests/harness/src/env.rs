//! The shared servers, as the tests see them: three variables that `cargo xtask test` sets.
//!
//! Set them by hand to run the tests against servers of your own.

use std::env;

/// Names the shared Redis.
pub const REDIS_URL: &str = "CACHED_REPO_REDIS_URL";

/// Names the shared PostgreSQL; the account may create databases.
pub const POSTGRES_URL: &str = "CACHED_REPO_POSTGRES_URL";

/// Names the shared MariaDB; the account may create databases.
pub const MARIADB_URL: &str = "CACHED_REPO_MARIADB_URL";

/// The shared Redis. Use a [`unique`](crate::unique) namespace, and never flush: other tests run
/// beside yours.
///
/// # Panics
/// If the tests were not started by `cargo xtask test`. A test without its server must fail, not
/// pass by skipping.
#[must_use]
pub fn redis_url() -> String {
    required(REDIS_URL)
}

/// The shared PostgreSQL, on its `postgres` database. Create a database of your own under a
/// [`unique`](crate::unique) name.
///
/// # Panics
/// Like [`redis_url`].
#[must_use]
pub fn postgres_url() -> String {
    required(POSTGRES_URL)
}

/// The shared MariaDB, on its `mysql` database. Create a database of your own under a
/// [`unique`](crate::unique) name.
///
/// # Panics
/// Like [`redis_url`].
#[must_use]
pub fn mariadb_url() -> String {
    required(MARIADB_URL)
}

fn required(variable: &str) -> String {
    match env::var(variable) {
        Ok(url) => url,
        Err(_) => panic!(
            "{variable} is not set: run the tests with `cargo xtask test`, which starts the servers"
        ),
    }
}
