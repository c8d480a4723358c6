//! How a transaction's COMMIT is sent: after the blocks of all it changed, and before their
//! publication.
//!
//! Does not run the transaction's statements.

use std::sync::Arc;

use sea_orm::{DatabaseTransaction, DbErr};
use tokio::time::Instant;

use super::{block_set::BlockSet, invalidate::read_unread};
use crate::{
    context::Context,
    database::{Executor, is_refusal},
    error::CommitError,
    invalidation::Journal,
};

/// Keys that are blocked before a COMMIT: more would take longer than the first block stands. Beyond,
/// entities are blocked as a whole.
const MAX_KEYS: usize = 50_000;

/// Rows that are read before a COMMIT, one by one, because raw SQL has changed them. Beyond, as above.
const MAX_UNREAD: usize = 1_000;

/// A transaction that has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The cache did not acknowledge all of it, so that invalidations are queued: other processes may
    /// still see the state before, for at most its TTL. Of a savepoint always `false`: nothing is
    /// published before the transaction around it commits.
    pub is_pending: bool,
}

/// Blocks, commits and publishes.
pub(crate) async fn commit(
    shared: &Arc<Context>,
    mut journal: Journal,
    conn: DatabaseTransaction,
) -> Result<Committed, CommitError> {
    journal.summarize_unread(MAX_UNREAD);
    if let Err(source) = read_unread(&mut journal, &Executor::Own(&conn)).await {
        return give_up(conn, None, CommitError::RolledBack { source }).await;
    }
    journal.summarize(MAX_KEYS);
    let mut blocks = BlockSet::new(shared, journal);
    if let Err(source) = blocks.block().await {
        return give_up(conn, Some(blocks), CommitError::CacheUnavailable { source }).await;
    }
    if Instant::now() >= blocks.deadline() {
        return give_up(conn, Some(blocks), CommitError::TooLate).await;
    }
    match send(conn, &blocks).await {
        Ok(()) => {
            // What the tier does not acknowledge is queued.
            let is_pending = blocks.publish().await.is_err();
            Ok(Committed { is_pending })
        }
        Err(source) if is_refusal(&source) => {
            blocks.release().await;
            Err(CommitError::Refused { source })
        }
        Err(source) => {
            blocks.abandon().await;
            Err(CommitError::Unknown { source })
        }
    }
}

async fn send(conn: DatabaseTransaction, blocks: &BlockSet) -> Result<(), DbErr> {
    if blocks.is_empty() {
        return conn.commit().await;
    }
    let in_time = tokio::time::timeout_at(blocks.deadline(), conn.commit()).await;
    in_time.unwrap_or_else(|_| {
        Err(DbErr::Custom(
            "no answer to COMMIT within `block_ttl`".into(),
        ))
    })
}

async fn give_up(
    conn: DatabaseTransaction,
    blocks: Option<BlockSet>,
    error: CommitError,
) -> Result<Committed, CommitError> {
    // Without a COMMIT the server rolls back, asked or not.
    let _ = conn.rollback().await;
    if let Some(blocks) = blocks {
        blocks.release().await;
    }
    Err(error)
}
