//! Private Redis, PostgreSQL and MariaDB servers for the tests.
//!
//! Two ways to a server:
//! - the **shared** ones, which `cargo xtask test` starts once and names in the environment:
//!   [`redis_url`], [`postgres_url`], [`mariadb_url`]. Take a [`unique`] namespace or database name
//!   there, and never flush.
//! - one **of the test's own**, to pause, kill and restart as it likes: [`Redis`], [`Postgres`],
//!   [`MariaDb`]. Between it and its client, a [`Proxy`] plays a bad network.
//!
//! Invariants: every server listens on loopback only, in a directory of its own, and both are gone
//! when its value is dropped and when the process that started it dies, even by `SIGKILL` (see
//! [`Guarded`]). No server is called ready before it has answered in its own protocol, and before
//! we know that the answer was ours.
//!
//! Deliberately absent: database drivers. The protocols are spoken by hand, just enough to ask "are
//! you there?", so that `xtask`, which needs this crate, compiles in seconds. Unix only.

mod account;
mod binary;
mod env;
mod mariadb;
mod name;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod servers;
mod stop;
mod watchdog;

pub use env::{MARIADB_URL, POSTGRES_URL, REDIS_URL, mariadb_url, postgres_url, redis_url};
pub use mariadb::{MariaDb, MariaDbBuilder};
pub use name::unique;
pub use port::free_port;
pub use postgres::{Postgres, PostgresBuilder};
pub use process::Guarded;
pub use proxy::{Proxy, Strike, Trigger};
pub use redis::{Redis, RedisBuilder};
pub use servers::{ServerKind, Servers};
pub use stop::Stop;
