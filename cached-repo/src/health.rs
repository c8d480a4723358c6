//! What a monitor should know of a [`CachedDb`](crate::CachedDb).

use crate::tier::TierError;

/// What [`CachedDb::health`](crate::CachedDb::health) says.
///
/// With a cache that cannot be used, reads ask the database, and writes follow
/// [`on_cache_failure`](crate::Config::on_cache_failure).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Why the cache cannot be used: no connection, a refused password or command, a namespace that
    /// belongs to another database. `None` if it can.
    pub problem: Option<TierError>,
    /// Invalidations that are queued until it can.
    pub pending_invalidations: usize,
}

impl Health {
    /// The cache can be used, and nothing is queued.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problem.is_none() && self.pending_invalidations == 0
    }
}
