//! What can go wrong, one enum per operation, folding into [`Error`].
//!
//! A cache that fails a read is not an error: the database answers, and the failure is counted.

use percent_encoding::percent_decode_str;
use sea_orm::DbErr;

use crate::{database::is_transient, protocol::Key, tier::TierError};

/// A read that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database failed.
    #[error("loading `{entity}` from the database failed: {source}")]
    Database {
        /// The entity's name.
        entity: String,
        /// What SeaORM said.
        source: DbErr,
    },
    /// Too many loads were under way for too long, and nothing was asked: the cache is down or
    /// cold, and the database does not keep up. Try again later; see
    /// [`Config::max_loads`](crate::Config::max_loads) and
    /// [`Config::load_queue_timeout`](crate::Config::load_queue_timeout).
    #[error("too many loads are under way; `{entity}` was not read, try again later")]
    Overloaded {
        /// The entity's name.
        entity: String,
    },
    /// The task that loaded the row ended without a result: it panicked, or its runtime is being
    /// shut down.
    #[error("the load of `{entity}` was aborted; try again")]
    Aborted {
        /// The entity's name.
        entity: String,
    },
    /// The tokio runtime on which the [`CachedDb`](crate::CachedDb) was built has ended, and with it
    /// all background work. Build another one on a runtime that outlives its users.
    #[error("`{entity}` was not read: the runtime on which its `CachedDb` was built has ended")]
    RuntimeEnded {
        /// The entity's name.
        entity: String,
    },
}

/// A write that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Someone else wrote the row first. Nothing was written; the cache was repaired, so reading
    /// the row again shows the new state.
    #[error(
        "`{entity}` {id} has version {found}, not {expected}: someone wrote it first; \
         read it again and repeat the change, or use `update_with`"
    )]
    VersionConflict {
        /// The entity's name.
        entity: String,
        /// The primary key.
        id: String,
        /// The version the caller had read.
        expected: i128,
        /// The version the database has.
        found: i128,
    },
    /// There is no such row. Nothing was written.
    #[error("`{entity}` {id} does not exist")]
    NotFound {
        /// The entity's name.
        entity: String,
        /// The primary key.
        id: String,
    },
    /// A write of a versioned entity without the version the caller had read.
    #[error(
        "the version of `{entity}` is not set: start from a row that was read, or use `update_with`"
    )]
    VersionNotSet {
        /// The entity's name.
        entity: String,
    },
    /// A write that names no row.
    #[error("the primary key of `{entity}` is not set")]
    KeyNotSet {
        /// The entity's name.
        entity: String,
    },
    /// The cache does not answer, and the policy is to refuse. Nothing was written.
    #[error("the cache is unavailable and `on_cache_failure` is `refuse`; nothing was written")]
    CacheUnavailable {
        /// What the cache said.
        source: TierError,
    },
    /// The write took so long that what protects its row in the cache might have lapsed. It was
    /// rolled back; try again.
    #[error("writing `{entity}` took longer than `block_ttl` allows; rolled back, try again")]
    TooLate {
        /// The entity's name.
        entity: String,
    },
    /// The database refused, or could not be reached. Nothing was written. (In a transaction, a
    /// statement whose row could not be read may have done its work all the same.)
    #[error("writing `{entity}` failed: {source}")]
    Database {
        /// The entity's name.
        entity: String,
        /// What SeaORM said.
        source: DbErr,
    },
    /// The statement was sent and has no answer that could be read: the row may have been written.
    #[error("writing `{entity}` may have happened: {source}")]
    Unknown {
        /// The entity's name.
        entity: String,
        /// What SeaORM said.
        source: DbErr,
    },
    /// The row was written (in a transaction: not committed yet), and the model's `after_save` or `after_delete` then failed.
    #[error("`{entity}` was written, but its hook failed: {source}")]
    AfterHook {
        /// The entity's name.
        entity: String,
        /// What the hook said.
        source: DbErr,
    },
    /// The task that wrote ended without a result: a hook panicked, or the runtime was shut down.
    /// The row may have been written.
    #[error("the write of `{entity}` was aborted and may have happened")]
    Aborted {
        /// The entity's name.
        entity: String,
    },
    /// As [`ReadError::RuntimeEnded`]. Nothing was written.
    #[error("`{entity}` was not written: the runtime on which its `CachedDb` was built has ended")]
    RuntimeEnded {
        /// The entity's name.
        entity: String,
    },
    /// The row that was to be changed could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl WriteError {
    /// The primary key as a person writes it; the columns of a composite one with commas between them.
    pub(crate) fn id_text(key: &Key) -> String {
        let text = key.as_str();
        let id = text.rsplit_once(':').map_or(text, |(_, id)| id);
        percent_decode_str(id).decode_utf8_lossy().into_owned()
    }

    /// Whether the row may have been written although this is an error.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. } | Self::AfterHook { .. } | Self::Aborted { .. }
        )
    }

    /// Whether someone else wrote the row first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::VersionConflict { .. })
    }

    /// Whether there is no such row.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether nothing was written, and the same call may succeed a moment later: after a deadlock, a
    /// serialization failure, a lost connection, an overload. After a [conflict](Self::is_conflict),
    /// read the row again first. Inside a transaction, repeat the transaction.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooLate { .. } | Self::CacheUnavailable { .. } => true,
            Self::Database { source, .. } => is_transient(source),
            Self::Read(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl ReadError {
    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Aborted { .. } => true,
            Self::Database { source, .. } => is_transient(source),
            Self::RuntimeEnded { .. } => false,
        }
    }
}

/// An invalidation, or a cache-aside fill, that did not reach the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The cache does not answer. An invalidation is queued and replayed, and until then
    /// this process reads the rows in question from the database.
    #[error("the cache is unavailable: {0}")]
    Unavailable(#[from] TierError),
    /// The row could not be read from the database to find its index entries. The whole entity was
    /// invalidated instead.
    #[error("reading the row to invalidate failed, so its whole entity was invalidated: {source}")]
    Database {
        /// What SeaORM said.
        source: DbErr,
    },
    /// A row of another key than the lease's.
    #[error("the row's key is {found}, the lease is for {expected}")]
    OtherRow {
        /// The key of the lease.
        expected: String,
        /// The key of the row.
        found: String,
    },
}

/// A transaction that did not commit, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An error before made it impossible, or a nested transaction is still open. It was rolled
    /// back, or is when the nested one ends.
    #[error("rolled back: {source}")]
    RolledBack {
        /// The reason.
        source: DbErr,
    },
    /// The database refused the COMMIT: a deferred constraint, a serialization failure. It was
    /// rolled back.
    #[error("the database refused the commit: {source}")]
    Refused {
        /// What SeaORM said.
        source: DbErr,
    },
    /// It has ended already. Nothing was written.
    #[error("the transaction has already ended")]
    Ended,
    /// The cache does not answer, and the policy is to refuse. It was rolled back.
    #[error("the cache is unavailable and `on_cache_failure` is `refuse`; rolled back")]
    CacheUnavailable {
        /// What the cache said.
        source: TierError,
    },
    /// Blocking the keys took so long that a block might have lapsed. It was rolled
    /// back; try again.
    #[error("blocking the keys took longer than `block_ttl` allows; rolled back, try again")]
    TooLate,
    /// COMMIT was sent and got no answer: it may have happened.
    #[error("the outcome of the COMMIT is unknown: {source}")]
    Unknown {
        /// What SeaORM said.
        source: DbErr,
    },
    /// The task that committed ended without a result: its runtime was shut down. It may have
    /// committed.
    #[error("the commit was aborted and may have happened")]
    Aborted,
}

impl CommitError {
    /// Whether it may have committed although this is an error.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Aborted)
    }

    /// Whether nothing was written, and the same transaction may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::CacheUnavailable { .. } | Self::TooLate => true,
            Self::RolledBack { source } | Self::Refused { source } => is_transient(source),
            Self::Ended | Self::Unknown { .. } | Self::Aborted => false,
        }
    }
}

/// What became of [`CachedDb::transaction`](crate::CachedDb::transaction) when it did not commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// The database did not begin it.
    #[error("the transaction did not begin: {0}")]
    Begin(DbErr),
    /// The work failed, and it was rolled back.
    #[error(transparent)]
    Work(E),
    /// It did not commit, or may not have.
    #[error(transparent)]
    Commit(CommitError),
}

impl<E> TransactionError<E> {
    /// Whether it may have committed although this is an error.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        matches!(self, Self::Commit(error) if error.may_have_committed())
    }

    /// Whether nothing was written, and the same transaction may succeed a moment later: `of_work`
    /// says so for an error of the work itself.
    #[must_use]
    pub fn is_retryable(&self, of_work: impl FnOnce(&E) -> bool) -> bool {
        match self {
            Self::Begin(source) => is_transient(source),
            Self::Work(error) => of_work(error),
            Self::Commit(error) => error.is_retryable(),
        }
    }
}

/// A [`CachedDb`](crate::CachedDb) that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting makes no sense.
    #[error("`{setting}` must be {expected}")]
    Invalid {
        /// The setting's name in [`Config`](crate::Config).
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The namespace belongs to another database.
    #[error(
        "the namespace `{namespace}` is used for the database `{database}` in this Redis: choose \
         another, or if that database has become this one, flush it"
    )]
    OtherDatabase {
        /// The namespace.
        namespace: String,
        /// The database that uses it.
        database: String,
    },
    /// Redis is required, and cannot be used.
    #[error("Redis cannot be used: {source}")]
    Unavailable {
        /// Why.
        source: TierError,
    },
    /// The Redis settings make no sense.
    #[cfg(feature = "redis")]
    #[error("the `redis` settings are wrong: {0}")]
    Redis(#[from] deadpool_redis::CreatePoolError),
}

/// Anything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The cache did not answer.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A transaction did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    /// Whether something may have been written although this is an error.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        match self {
            Self::Write(error) => error.may_have_committed(),
            Self::Commit(error) => error.may_have_committed(),
            Self::Read(_) | Self::Cache(_) | Self::Config(_) => false,
        }
    }

    /// Whether someone else wrote the row first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Write(error) if error.is_conflict())
    }

    /// Whether there is no such row.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Write(error) if error.is_not_found())
    }

    /// Whether nothing was written, and the same call may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(error) => error.is_retryable(),
            Self::Write(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            Self::Cache(_) | Self::Config(_) => false,
        }
    }
}
