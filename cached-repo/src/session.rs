//! Where a repository's statements go: to a connection of the pool, or all to one transaction,
//! with the journal of what they change.
//!
//! Does not block, commit or publish: that is [`crate::write`]'s.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::{
    context::{Context, EntityContext},
    database::{Executor, OpenTransaction},
    invalidation::Journal,
};

/// Where a repository's statements go.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Each to a connection of the pool.
    Pool,
    /// All to one transaction.
    Transaction(Arc<Session>),
}

impl Scope {
    /// The connection to hand to SeaORM.
    pub(crate) fn executor<'a>(&'a self, pool: &'a DatabaseConnection) -> Executor<'a> {
        match self {
            Self::Pool => Executor::Pool(pool),
            Self::Transaction(session) => Executor::Shared(&session.transaction),
        }
    }

    pub(crate) fn is_transaction(&self) -> bool {
        matches!(self, Self::Transaction(_))
    }
}

tokio::task_local! {
    /// The transaction whose closure this task runs, and its `CachedDb`.
    static INSIDE: (Arc<Session>, Arc<Context>);
}

/// Runs the closure of a transaction.
pub(crate) async fn inside<F: Future>(
    session: &Arc<Session>,
    context: &Arc<Context>,
    work: F,
) -> F::Output {
    let transaction = (Arc::clone(session), Arc::clone(context));
    INSIDE.scope(transaction, work).await
}

/// Logs a warning if a write inside the closure of a transaction does not belong to the transaction: it
/// would wait for ever for a row that the transaction has locked.
pub(crate) fn warn_if_inside(context: &EntityContext) {
    let is_past = INSIDE.try_with(|(session, of)| {
        Arc::ptr_eq(of, &context.shared) && !session.transaction.has_ended()
    });
    if is_past.unwrap_or(false) {
        tracing::warn!(
            entity = context.entity.name,
            "a write inside the closure of a transaction does not belong to it, and waits for its \
             locks: use the repository that `on(tx)` gives"
        );
    }
}

/// A transaction, shared by its repositories, and the journal of its changes.
pub(crate) struct Session {
    pub(crate) transaction: Arc<OpenTransaction>,
    journal: Mutex<Journal>,
    /// The transaction around this savepoint.
    parent: Option<Arc<Session>>,
}

impl Session {
    pub(crate) fn new(conn: DatabaseTransaction, parent: Option<Arc<Self>>) -> Self {
        let around = parent
            .as_ref()
            .map(|parent| Arc::clone(&parent.transaction));
        Self {
            transaction: Arc::new(OpenTransaction::new(conn, around)),
            journal: Mutex::default(),
            parent,
        }
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// What it has changed so far.
    pub(crate) fn journal(&self) -> parking_lot::MutexGuard<'_, Journal> {
        self.journal.lock()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("changed_keys", &self.journal().keys.len())
            .finish_non_exhaustive()
    }
}
