//! What a write does when the cache does not answer.
//!
//! Does not know settings or entities; both name this policy.

use serde::{Deserialize, Serialize};

/// What a write does when the cache does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnCacheFailure {
    /// Commit, queue the invalidation and replay it when the cache is back. Until then this
    /// process reads the rows in question from the database; other processes may serve them
    /// stale, for at most their TTL.
    #[default]
    Proceed,
    /// Fail with [`WriteError::CacheUnavailable`](crate::WriteError::CacheUnavailable) before
    /// anything is written; a transaction that has changed rows of repositories is rolled back with
    /// [`CommitError::CacheUnavailable`](crate::CommitError::CacheUnavailable).
    Refuse,
}
