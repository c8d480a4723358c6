//! Transactions: many writes, one COMMIT, and caches that learn only of what committed.
//!
//! ```text
//! statements … ─ block every key ─ COMMIT ─ publish every key
//!      │               │              └ outcome unknown: the blocks stay until they lapse
//!      └ each notes     └ refused, or too late: roll back and release
//!        what it changed
//! ```
//! Invariants:
//! - No row reaches the cache before the blocks, so a rollback before them leaves no trace. (A
//!   conflict met on the way invalidates its key at once, as outside; that needs no undoing.)
//! - A key is noted before its statement is sent, so that a statement that was given up or whose
//!   answer could not be read is published all the same.
//! - After an error that cost the database's transaction, a statement that was given up, or while a
//!   savepoint is open, nothing is committed: a COMMIT could be answered with "done" all the same.
//! - No COMMIT is sent after a block may have lapsed, by this process's monotonic clock.
//! - From the blocks on, a task of its own sees it through, whatever becomes of the caller.
//! - The changes of a rolled-back savepoint are not published: its journal goes with it.
//!
//! Reads in a transaction go to the database, see its own writes, and never fill the cache.

use std::{fmt, sync::Arc};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    entity::prelude::async_trait::async_trait, sea_query::IntoValueTuple,
};

use crate::{
    CachedEntity, IntoId,
    database::Executor,
    error::{CommitError, TransactionError},
    invalidation::Journal,
    registry::Registry,
    session::{self, Session},
    write::{self, Committed},
};

/// A database transaction whose writes reach the cache when, and only when, it commits.
///
/// [`Repository::on`](crate::Repository::on) gives a repository inside it. It is a SeaORM
/// connection too, for statements of your own; name the rows that those change with
/// [`invalidate`](Self::invalidate), and raise the versions of versioned ones. Statements that would end or divide the transaction are refused:
/// `COMMIT`, `ROLLBACK`, `SAVEPOINT` and the like, on MySQL and MariaDB also DDL, at which they commit.
/// Dropping it rolls back.
///
/// A write that is not made [`on`](crate::Repository::on) the transaction waits for the rows that it has
/// locked. In the closure of [`transaction`](crate::CachedDb::transaction) that is logged as a warning; for
/// the rest set the database's `lock_timeout`, or `innodb_lock_wait_timeout`.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    session: Arc<Session>,
    registry: Arc<Registry>,
}

impl Transaction {
    pub(crate) fn over(
        conn: DatabaseTransaction,
        parent: Option<Arc<Session>>,
        registry: &Arc<Registry>,
    ) -> Self {
        Self {
            session: Arc::new(Session::new(conn, parent)),
            registry: Arc::clone(registry),
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn executor(&self) -> Executor<'_> {
        Executor::Shared(&self.session.transaction)
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs `work` in a nested transaction, a savepoint: what it wrote is undone, in the database
    /// and for the cache, if it returns `Err`.
    ///
    /// # Errors
    /// As for [`CachedDb::transaction`](crate::CachedDb::transaction).
    pub async fn transaction<T, E>(
        &self,
        work: impl AsyncFnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        let tx = self.begin().await.map_err(TransactionError::Begin)?;
        tx.see_through(work).await
    }

    /// Begins a nested transaction, a savepoint. End it before you use this one again.
    ///
    /// # Errors
    /// When the database does not begin one.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let conn = self.session.transaction.savepoint().await?;
        Ok(Transaction::over(
            conn,
            Some(Arc::clone(&self.session)),
            &self.registry,
        ))
    }

    pub(crate) async fn see_through<T, E>(
        self,
        work: impl AsyncFnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        match session::inside(&self.session, &self.registry.context, work(&self)).await {
            Ok(value) => {
                self.commit().await.map_err(TransactionError::Commit)?;
                Ok(value)
            }
            Err(error) => {
                // Without a COMMIT the server rolls back, asked or not.
                let _ = self.rollback().await;
                Err(TransactionError::Work(error))
            }
        }
    }

    /// Notes that a statement of your own changes a row; the cache learns of it at the commit.
    pub fn invalidate<M: CachedEntity>(&self, id: impl IntoId<M>) {
        let id = id.into_id().into_value_tuple();
        write::note_invalidation(self.registry.entity::<M>().context(), &self.session, id);
    }

    /// Notes that statements of your own may change any row of an entity. From before the COMMIT, which
    /// over Redis then waits 0.3 seconds, until the transaction has ended, every process reads the
    /// entity from the database.
    pub fn invalidate_all<M: CachedEntity>(&self) {
        let registered = self.registry.entity::<M>();
        write::note_invalidation_of_all(registered.context(), &self.session);
    }

    /// Blocks, commits and publishes: one round trip before the COMMIT and one after it, whatever
    /// the number of rows.
    ///
    /// # Errors
    /// Why it did not commit, or may not have.
    pub async fn commit(self) -> Result<Committed, CommitError> {
        if let Err(source) = self.session.transaction.ready().await {
            // A nested transaction that is still open keeps this one until it ends.
            return Err(CommitError::RolledBack { source });
        }
        let conn = self
            .session
            .transaction
            .end()
            .await
            .ok_or(CommitError::Ended)?;
        // A statement that still ran in another task may have failed meanwhile.
        if let Err(source) = self.session.transaction.check() {
            // Without a COMMIT the server rolls back, asked or not.
            let _ = self.undo(conn).await;
            return Err(CommitError::RolledBack { source });
        }
        let journal = std::mem::take(&mut *self.session.journal());
        let context = Arc::clone(&self.registry.context);
        let session = Arc::clone(&self.session);
        self.hold_parent();
        let tasks = context.tasks.clone();
        let committed = tasks.spawn(async move {
            match session.parent() {
                Some(parent) => release(conn, journal, parent).await,
                None => write::commit(&context, journal, conn).await,
            }
        });
        committed.await.unwrap_or(Err(CommitError::Aborted))
    }

    /// Rolls back. The cache has been told of no change.
    ///
    /// # Errors
    /// When the database does not answer; it rolls back all the same.
    pub async fn rollback(self) -> Result<(), DbErr> {
        if self.session.transaction.has_nested() {
            // Dropping it now waits for the nested transaction, and then rolls back.
            return Ok(());
        }
        match self.session.transaction.end().await {
            Some(conn) => self.undo(conn).await,
            None => Ok(()),
        }
    }

    /// Rolls back in a task of its own: a caller that gives up waiting does not leave the
    /// transaction around a savepoint waiting for its end, and locking its rows, for ever.
    async fn undo(&self, conn: DatabaseTransaction) -> Result<(), DbErr> {
        self.hold_parent();
        let session = Arc::clone(&self.session);
        let tasks = &self.registry.context.tasks;
        let undone = tasks.spawn(async move { undo(conn, session.parent()).await });
        let aborted = |_| Err(DbErr::Custom("the rollback was aborted".into()));
        undone.await.unwrap_or_else(aborted)
    }

    /// From now on this savepoint ends by itself: what comes next in the transaction around it
    /// waits, rather than being refused.
    fn hold_parent(&self) {
        if let Some(parent) = self.session.parent() {
            parent.transaction.wait_for_nested();
        }
    }
}

/// Ends a savepoint whose changes stay.
async fn release(
    conn: DatabaseTransaction,
    journal: Journal,
    parent: &Session,
) -> Result<Committed, CommitError> {
    // Whatever becomes of it, the parent invalidates what was changed; it stores the rows only if
    // it is known that they stay.
    parent.journal().forewarn(&journal);
    let released = conn.commit().await;
    match &released {
        Ok(()) => parent.journal().absorb(journal),
        Err(_) => parent.transaction.doom(),
    }
    parent.transaction.resume();
    released.map_err(|source| CommitError::RolledBack { source })?;
    Ok(Committed { is_pending: false })
}

/// Rolls back, to the savepoint if it is one.
async fn undo(conn: DatabaseTransaction, parent: Option<&Arc<Session>>) -> Result<(), DbErr> {
    let undone = conn.rollback().await;
    if let Some(parent) = parent {
        if undone.is_err() {
            parent.transaction.doom();
        }
        parent.transaction.resume();
    }
    undone
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.session.transaction.has_ended() {
            return;
        }
        // A repository made with `on` may outlive us; the transaction must not.
        if self.session.parent().is_none() && self.session.transaction.try_drop() {
            return;
        }
        // A savepoint is undone for certain before its parent goes on, and a transaction whose
        // savepoint is open is undone after it.
        if let Some(parent) = self.session.parent() {
            parent.transaction.wait_for_nested();
        }
        let session = Arc::clone(&self.session);
        self.registry.context.tasks.runtime().spawn(async move {
            session.transaction.idle().await;
            if let Some(conn) = session.transaction.end().await {
                // Without a COMMIT the server rolls back, asked or not.
                let _ = undo(conn, session.parent()).await;
            }
        });
    }
}

/// For statements of your own; see [`Transaction::invalidate`].
#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.executor().get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.executor().execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.executor().execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.executor().query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.executor().query_all_raw(statement).await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.session.journal().keys.len();
        f.debug_struct("Transaction")
            .field("changed_rows", &changed)
            .finish_non_exhaustive()
    }
}
