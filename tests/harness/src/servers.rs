//! The three servers that the tests share.

use std::thread;

use anyhow::{Result, anyhow};

use crate::env::{MARIADB_URL, POSTGRES_URL, REDIS_URL};
use crate::{MariaDb, Postgres, Redis};

/// What the tests need installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// `redis-server` or `valkey-server`.
    Redis,
    /// `initdb` and `postgres`.
    Postgres,
    /// `mariadbd` and `mariadb-install-db`, or their older names.
    MariaDb,
}

impl ServerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Redis, Self::Postgres, Self::MariaDb];

    /// Whether its programs are here. It need not run: the tests start their own.
    #[must_use]
    pub fn is_installed(self) -> bool {
        match self {
            Self::Redis => Redis::program().is_some(),
            Self::Postgres => Postgres::programs().is_some(),
            Self::MariaDb => MariaDb::programs().is_some(),
        }
    }
}

/// One server of each kind, for all tests of a run. `cargo xtask test` holds it.
#[derive(Debug)]
pub struct Servers {
    redis: Redis,
    postgres: Postgres,
    mariadb: MariaDb,
}

impl Servers {
    /// Starts all three at once.
    ///
    /// # Errors
    /// If one does not start; those that did are stopped.
    pub fn start() -> Result<Self> {
        thread::scope(|scope| {
            let redis = scope.spawn(Redis::start);
            let postgres = scope.spawn(Postgres::start);
            let mariadb = scope.spawn(MariaDb::start);
            let (redis, postgres, mariadb) = (redis.join(), postgres.join(), mariadb.join());
            let panicked = |_| anyhow!("a starting thread panicked");
            Ok(Self {
                redis: redis.map_err(panicked)??,
                postgres: postgres.map_err(panicked)??,
                mariadb: mariadb.map_err(panicked)??,
            })
        })
    }

    /// The variables that [`redis_url`](crate::redis_url) and its siblings read.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            (REDIS_URL, self.redis.url()),
            (POSTGRES_URL, self.postgres.url()),
            (MARIADB_URL, self.mariadb.url()),
        ]
    }

    /// Ends all three and removes their files, as dropping does, but reports what went wrong.
    ///
    /// # Errors
    /// If the system cannot tell whether they ended.
    pub fn stop(self) -> Result<()> {
        let ends = [self.redis.stop(), self.postgres.stop(), self.mariadb.stop()];
        ends.into_iter().collect()
    }
}
