//! How a transaction's COMMIT is sent: between the blocks of all it changed and their publication.
//!
//! Does not run the transaction's statements.

use std::{mem, sync::Arc};

use sea_orm::{DatabaseTransaction, DbErr};
use tokio::time::Instant;

use super::{
    claim::{Claim, Refusal},
    commit::database_refused,
};
use crate::{
    TierError,
    db::Core,
    session::{Executor, Journal},
};

/// A transaction that did not commit, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An error before made it impossible, or a nested transaction is still open. It was rolled
    /// back, or is when the nested one ends.
    #[error("rolled back: {source}")]
    RolledBack {
        /// What stands in the way.
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
    /// The cache cannot be told, and the policy is to refuse. It was rolled back.
    #[error("the cache is unavailable and `on_cache_failure` is `refuse`; rolled back")]
    CacheUnavailable {
        /// What the cache said.
        source: TierError,
    },
    /// More writes are in flight on one of its rows than the cache keeps track of. It was rolled
    /// back; try again.
    #[error("too many writes are in flight on {key}; rolled back, try again")]
    Contended {
        /// The key.
        key: String,
    },
    /// Telling the cache took so long that the row's protection might have lapsed. It was rolled
    /// back; try again.
    #[error("telling the cache took longer than `block` allows; rolled back, try again")]
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

impl From<Refusal> for CommitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Contended(key) => Self::Contended {
                key: key.to_string(),
            },
            Refusal::Unavailable(source) => Self::CacheUnavailable { source },
        }
    }
}

/// Blocks, commits and publishes.
pub(super) async fn commit(
    core: &Arc<Core>,
    mut journal: Journal,
    conn: DatabaseTransaction,
) -> Result<(), CommitError> {
    if let Err(source) = reread(&mut journal, &conn).await {
        return give_up(conn, None, CommitError::RolledBack { source }).await;
    }
    let mut claim = Claim::on(core, journal);
    if let Err(refusal) = claim.block().await {
        return give_up(conn, Some(claim), refusal.into()).await;
    }
    if Instant::now() >= claim.deadline() {
        return give_up(conn, Some(claim), CommitError::TooLate).await;
    }
    match send(conn, &claim).await {
        Ok(()) => {
            // What could not be told is owed.
            let _ = claim.publish().await;
            Ok(())
        }
        Err(source) if database_refused(&source) => {
            claim.release().await;
            Err(CommitError::Refused { source })
        }
        Err(source) => {
            claim.leave().await;
            Err(CommitError::Unknown { source })
        }
    }
}

/// Notes what the rows that were changed past the library are found by now.
async fn reread(journal: &mut Journal, conn: &DatabaseTransaction) -> Result<(), DbErr> {
    for row in mem::take(&mut journal.unread).into_values() {
        for (key, change) in row.found_by(Executor::Own(conn)).await? {
            journal.note(key, change);
        }
    }
    Ok(())
}

async fn send(conn: DatabaseTransaction, claim: &Claim) -> Result<(), DbErr> {
    if claim.is_empty() {
        return conn.commit().await;
    }
    let in_time = tokio::time::timeout_at(claim.deadline(), conn.commit()).await;
    in_time.unwrap_or_else(|_| Err(DbErr::Custom("no answer to COMMIT within `block`".into())))
}

async fn give_up(
    conn: DatabaseTransaction,
    claim: Option<Claim>,
    error: CommitError,
) -> Result<(), CommitError> {
    // Without a COMMIT the server rolls back, asked or not.
    let _ = conn.rollback().await;
    if let Some(claim) = claim {
        claim.release().await;
    }
    Err(error)
}
