//! The sizes and times of a run.
//!
//! The protocol's times are a tenth of their defaults, so that every edge (a lease that lapses, a
//! block, a floor, a TTL) is crossed many times in ten seconds.

use std::time::Duration;

use cached_repo::{Config, OnCacheFailure};
use serde::{Deserialize, Serialize};

/// A lease: how long a load may take.
pub(crate) const LEASE: Duration = Duration::from_millis(300);
/// A block: how long a write may take.
pub(crate) const BLOCK: Duration = Duration::from_millis(600);
/// How long a floor is kept.
pub(crate) const KEEP: Duration = Duration::from_millis(1500);
/// How long a row is served.
pub(crate) const TTL: Duration = Duration::from_millis(1500);
/// How long an absence is served.
pub(crate) const NEGATIVE_TTL: Duration = Duration::from_millis(800);
/// How long after its TTL a row is served while it is reloaded.
pub(crate) const STALE_TTL: Duration = Duration::from_millis(400);
/// How long a near cache serves a row: less than the shared tier does, and so much more than
/// [`NEAR_BOUND`] that an invalidation which is missed shows.
pub(crate) const NEAR_TTL: Duration = Duration::from_millis(1200);
/// How long the cache may take to answer.
pub(crate) const CACHE_TIMEOUT: Duration = Duration::from_millis(80);
/// How long the database works on one statement; as the documentation demands, less than a block.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_millis(450);
/// How long a transaction may stand still before the database ends it.
pub(crate) const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(3);

/// What a machine under load adds to the times of the protocol: a thread that is not scheduled, a
/// reply that is read late.
pub(crate) const SLACK: Duration = Duration::from_secs(1);
/// How exactly the database's stamps are known on the monotonic clock; a round in which the wall
/// clock was set by more proves nothing.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_millis(10);
/// The longest time in which nobody sees a commit after the database has stamped it.
pub(crate) const COMMIT_SLACK: Duration = Duration::from_millis(150);

/// The longest time for which a row may be served after a write that the protocol could not
/// protect: a reader that read the row just before the commit stores it while its lease or its
/// block stands, and then it lives as long as any row.
pub(crate) const BOUND: Duration = Duration::from_millis(
    (TTL.as_millis() + STALE_TTL.as_millis() + BLOCK.as_millis() + SLACK.as_millis()) as u64,
);

/// The longest time for which a near cache may serve a row after another process has announced a
/// change of it. A near hit relies on a heartbeat that was sent at most half a second and two
/// time-outs before it. Every announcement before that heartbeat arrived before it: Redis and the
/// connection keep their order. A machine under load makes the read begin earlier, not later; so
/// only the error of the clocks is added.
pub(crate) const NEAR_BOUND: Duration =
    Duration::from_millis((500 + 2 * CACHE_TIMEOUT.as_millis() + CLOCK_SLACK.as_millis()) as u64);

/// Worker processes.
pub(crate) const WORKERS: usize = 4;
/// Tasks in each.
pub(crate) const TASKS: usize = 6;
/// Rows of each table, counted from 1; the lower ones are hotter. Where the database makes the keys,
/// so many of the newest are used.
pub(crate) const ROWS: i64 = 16;
/// A round is checked as a whole and then forgotten, so that hours fit into memory.
pub(crate) const ROUND: Duration = Duration::from_secs(15);

/// What a worker does when the cache cannot be blocked for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Policy {
    /// It writes all the same; the staleness in other processes is measured.
    Proceed,
    /// It does not write; reads in all processes keep the full promise.
    Refuse,
}

impl Policy {
    /// Of a worker: the last one proceeds.
    pub(crate) fn of(worker: usize) -> Self {
        if worker + 1 == WORKERS {
            Self::Proceed
        } else {
            Self::Refuse
        }
    }
}

/// The configuration of a worker's `CachedDb`.
pub(crate) fn config(namespace: &str, policy: Policy) -> Config {
    let mut config = Config::default();
    namespace.clone_into(&mut config.namespace);
    config.ttl = TTL;
    config.negative_ttl = NEGATIVE_TTL;
    config.near_ttl = NEAR_TTL;
    config.lease_ttl = LEASE;
    config.lease_wait = LEASE / 3;
    config.block_ttl = BLOCK;
    config.tombstone_ttl = KEEP;
    config.cache_timeout = CACHE_TIMEOUT;
    config.on_cache_failure = match policy {
        Policy::Proceed => OnCacheFailure::Proceed,
        Policy::Refuse => OnCacheFailure::Refuse,
    };
    config
}
