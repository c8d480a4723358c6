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
//! - What a rolled-back savepoint wrote is not published: its journal goes with it.
//!
//! Reads in a transaction go to the database, see its own writes, and never fill the cache.

use std::{fmt, sync::Arc};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TransactionTrait, entity::prelude::async_trait::async_trait,
};

pub use super::closing::CommitError;
use super::{closing, hand::invalidated_by_hand};
use crate::{
    CachedDb, CachedEntity, IntoId,
    session::{Executor, Journal, Session},
};

/// A database transaction whose writes reach the cache when, and only when, it commits.
///
/// [`Repository::on`](crate::Repository::on) gives a repository inside it. It is a SeaORM
/// connection too, for statements of your own; tell it what those change with
/// [`invalidate`](Self::invalidate). Dropping it rolls back.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    session: Arc<Session>,
    db: CachedDb,
}

/// What became of [`CachedDb::transaction`] when it did not commit.
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

impl CachedDb {
    /// Runs `work` in a transaction: committed if it returns `Ok`, rolled back if it returns
    /// `Err`, or if this future is dropped before the COMMIT.
    ///
    /// ```
    /// # mod user {
    /// #     use sea_orm::entity::prelude::*;
    /// #     #[derive(Clone, Debug, DeriveEntityModel, cached_repo::CachedEntity)]
    /// #     #[sea_orm(table_name = "user")]
    /// #     pub struct Model {
    /// #         #[sea_orm(primary_key)] pub id: i64,
    /// #         pub credit: i64,
    /// #         #[cached(version)] pub version: i64,
    /// #     }
    /// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    /// #     pub enum Relation {}
    /// #     impl ActiveModelBehavior for ActiveModel {}
    /// # }
    /// # async fn example(db: cached_repo::CachedDb, users: user::Repository)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use cached_repo::WriteError;
    /// use sea_orm::ActiveValue::Set;
    ///
    /// db.transaction(async |tx| -> Result<(), WriteError> {
    ///     let users = users.on(tx);
    ///     let from = users.find_by_id(1).await?.map_or(0, |user| user.credit);
    ///     users.update_with(1, |user| user.credit = Set(0)).await?;
    ///     users.update_with(2, |user| user.credit = Set(from)).await?;
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`TransactionError::Work`] with the error of `work`; else why it did not begin or commit.
    pub async fn transaction<T, E>(
        &self,
        work: impl AsyncFnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        let tx = self.begin().await.map_err(TransactionError::Begin)?;
        tx.see_through(work).await
    }

    /// Begins a transaction, to be ended by [`Transaction::commit`] or
    /// [`Transaction::rollback`].
    ///
    /// # Errors
    /// When the database does not begin one.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        let core = Arc::clone(self.core());
        // In a task of its own: dropped halfway, sqlx returns a connection to its pool that is
        // inside a transaction, and whatever is written over it next is lost
        // (<https://github.com/transact-rs/sqlx/issues/4393>).
        let begun = self
            .core()
            .tasks
            .spawn(async move { core.conn.begin().await });
        let aborted = |_| DbErr::Custom("the runtime was shut down".into());
        let conn = begun.await.map_err(aborted)??;
        Ok(Transaction::over(conn, None, self))
    }
}

impl Transaction {
    fn over(conn: DatabaseTransaction, parent: Option<Arc<Session>>, db: &CachedDb) -> Self {
        Self {
            session: Arc::new(Session::new(conn, parent)),
            db: db.clone(),
        }
    }

    pub(crate) fn db(&self) -> &CachedDb {
        &self.db
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs `work` in a nested transaction, a savepoint: what it wrote is undone, in the database
    /// and for the cache, if it returns `Err`.
    ///
    /// # Errors
    /// As for [`CachedDb::transaction`].
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
        let conn = self.session.savepoint().await?;
        Ok(Transaction::over(
            conn,
            Some(Arc::clone(&self.session)),
            &self.db,
        ))
    }

    async fn see_through<T, E>(
        self,
        work: impl AsyncFnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, TransactionError<E>> {
        match work(&self).await {
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
        invalidated_by_hand(&self.db.entity::<M>(), &self.session, id.into_id());
    }

    /// Notes that statements of your own may change any row of an entity.
    pub fn invalidate_all<M: CachedEntity>(&self) {
        let state = self.db.entity::<M>();
        self.session
            .journal()
            .entities
            .insert(Arc::clone(state.keys.prefix()));
    }

    /// Commits, and tells the cache: one round trip before the COMMIT and one after it, whatever
    /// the number of rows.
    ///
    /// # Errors
    /// Why it did not commit, or may not have.
    pub async fn commit(self) -> Result<(), CommitError> {
        if let Err(source) = self.session.ready().await {
            // A nested transaction that is still open keeps this one until it ends.
            return Err(CommitError::RolledBack { source });
        }
        let conn = self.session.end().await.ok_or(CommitError::Ended)?;
        // A statement that still ran in another task may have failed meanwhile.
        if let Err(source) = self.session.check() {
            // Without a COMMIT the server rolls back, asked or not.
            let _ = self.undo(conn).await;
            return Err(CommitError::RolledBack { source });
        }
        let journal = std::mem::take(&mut *self.session.journal());
        let core = Arc::clone(self.db.core());
        let session = Arc::clone(&self.session);
        self.hold_parent();
        let committed = core.tasks.spawn({
            let core = Arc::clone(&core);
            async move {
                match session.parent() {
                    Some(parent) => release(conn, journal, parent).await,
                    None => closing::commit(&core, journal, conn).await,
                }
            }
        });
        committed.await.unwrap_or(Err(CommitError::Aborted))
    }

    /// Rolls back. The cache is not concerned: it has been told of no change.
    ///
    /// # Errors
    /// When the database does not answer; it rolls back all the same.
    pub async fn rollback(self) -> Result<(), DbErr> {
        if self.session.has_nested() {
            // Dropping it now waits for the nested transaction, and then rolls back.
            return Ok(());
        }
        match self.session.end().await {
            Some(conn) => self.undo(conn).await,
            None => Ok(()),
        }
    }

    /// Rolls back in a task of its own: whoever gives up waiting for it does not leave the
    /// transaction around a savepoint waiting for its end, and locking its rows, for ever.
    async fn undo(&self, conn: DatabaseTransaction) -> Result<(), DbErr> {
        self.hold_parent();
        let session = Arc::clone(&self.session);
        let undone = self
            .db
            .core()
            .tasks
            .spawn(async move { undo(conn, session.parent()).await });
        let aborted = |_| Err(DbErr::Custom("the rollback was aborted".into()));
        undone.await.unwrap_or_else(aborted)
    }

    /// From now on this savepoint ends by itself: what comes next in the transaction around it
    /// waits, rather than being refused.
    fn hold_parent(&self) {
        if let Some(parent) = self.session.parent() {
            parent.wait_for_nested();
        }
    }
}

/// Ends a savepoint whose changes stay.
async fn release(
    conn: DatabaseTransaction,
    journal: Journal,
    parent: &Session,
) -> Result<(), CommitError> {
    // Whatever becomes of it, the parent invalidates what was changed; it stores the rows only if
    // it is known that they stay.
    parent.journal().forewarn(&journal);
    let released = conn.commit().await;
    match &released {
        Ok(()) => parent.journal().absorb(journal),
        Err(_) => parent.doom(),
    }
    parent.resume();
    released.map_err(|source| CommitError::RolledBack { source })
}

/// Rolls back, to the savepoint if it is one.
async fn undo(conn: DatabaseTransaction, parent: Option<&Arc<Session>>) -> Result<(), DbErr> {
    let undone = conn.rollback().await;
    if let Some(parent) = parent {
        if undone.is_err() {
            parent.doom();
        }
        parent.resume();
    }
    undone
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.session.has_ended() {
            return;
        }
        // A repository made with `on` may outlive us; the transaction must not.
        if self.session.parent().is_none() && self.session.try_drop() {
            return;
        }
        // A savepoint is undone for certain before its parent goes on, and a transaction whose
        // savepoint is open is undone after it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if let Some(parent) = self.session.parent() {
            parent.wait_for_nested();
        }
        let session = Arc::clone(&self.session);
        runtime.spawn(async move {
            session.idle().await;
            if let Some(conn) = session.end().await {
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
        Executor::Shared(&self.session).get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        Executor::Shared(&self.session).execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        Executor::Shared(&self.session)
            .execute_unprepared(sql)
            .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Executor::Shared(&self.session)
            .query_one_raw(statement)
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Executor::Shared(&self.session)
            .query_all_raw(statement)
            .await
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
