//! A database transaction that several repositories share.
//!
//! Invariants:
//! - While a savepoint is open, statements go there and are refused here.
//! - A transaction that the database has rolled back by itself, or in which a statement was given
//!   up while it ran, is doomed: nothing of it may be committed.
//!
//! Does not know what its statements changed: that is the journal's.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, TransactionTrait};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::error::sql_state;

/// A database transaction, until it ends.
pub(crate) struct OpenTransaction {
    /// `None` once it has ended. Locked for a statement until it is known what a failure has cost:
    /// the next one might commit by itself.
    conn: Mutex<Option<DatabaseTransaction>>,
    backend: DbBackend,
    /// The transaction around this savepoint.
    parent: Option<Arc<Self>>,
    doomed: AtomicBool,
    /// A savepoint is open.
    nested: AtomicBool,
    /// That savepoint was dropped, and is being undone.
    undoing: AtomicBool,
    ended: AtomicBool,
    resumed: Notify,
}

impl OpenTransaction {
    pub(crate) fn new(conn: DatabaseTransaction, parent: Option<Arc<Self>>) -> Self {
        Self {
            backend: conn.get_database_backend(),
            conn: Mutex::new(Some(conn)),
            parent,
            doomed: AtomicBool::new(false),
            nested: AtomicBool::new(false),
            undoing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            resumed: Notify::new(),
        }
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Begins a nested transaction. Until it ends, statements of this one are refused.
    pub(crate) async fn savepoint(&self) -> Result<DatabaseTransaction, DbErr> {
        let conn = self.conn.lock().await;
        let conn = conn.as_ref().ok_or_else(ended)?;
        self.ready().await?;
        // One that fails midway may have rolled this one back.
        let running = Running(self);
        let nested = conn.begin().await?;
        running.finished();
        self.nested.store(true, Ordering::SeqCst);
        Ok(nested)
    }

    /// Takes the connection for one statement.
    pub(super) async fn lock(&self) -> Result<Locked<'_>, DbErr> {
        let conn = self.conn.lock().await;
        if conn.is_none() {
            return Err(ended());
        }
        self.ready().await?;
        Ok(Locked {
            conn,
            running: Running(self),
        })
    }

    /// Whether it can go on now.
    pub(crate) fn check(&self) -> Result<(), DbErr> {
        if self.doomed.load(Ordering::SeqCst) {
            let why = "the transaction was given up after an earlier error; roll it back";
            return Err(DbErr::Custom(why.into()));
        }
        if self.has_nested() {
            let why = "a nested transaction is open; use it, or end it first";
            return Err(DbErr::Custom(why.into()));
        }
        Ok(())
    }

    /// Whether a savepoint is open.
    pub(crate) fn has_nested(&self) -> bool {
        self.nested.load(Ordering::SeqCst)
    }

    /// Nothing of it may be committed any more.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::SeqCst);
    }

    /// The savepoint has ended: statements of this transaction may go on.
    pub(crate) fn resume(&self) {
        self.undoing.store(false, Ordering::SeqCst);
        self.nested.store(false, Ordering::SeqCst);
        self.resumed.notify_waiters();
    }

    /// Whether it can go on, once a savepoint that was dropped has been undone.
    pub(crate) async fn ready(&self) -> Result<(), DbErr> {
        if self.undoing.load(Ordering::SeqCst) {
            self.idle().await;
        }
        self.check()
    }

    /// The savepoint was dropped: statements wait until it has been undone.
    pub(crate) fn wait_for_nested(&self) {
        self.undoing.store(true, Ordering::SeqCst);
    }

    /// Waits until no savepoint is open.
    pub(crate) async fn idle(&self) {
        loop {
            let resumed = self.resumed.notified();
            if !self.has_nested() {
                return;
            }
            resumed.await;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Takes the connection away from the repositories, after the statements that run.
    pub(crate) async fn end(&self) -> Option<DatabaseTransaction> {
        let conn = self.conn.lock().await.take();
        self.ended.store(true, Ordering::SeqCst);
        conn
    }

    /// Rolls back at once if no statement and no savepoint is open; says whether it did.
    pub(crate) fn try_drop(&self) -> bool {
        if self.has_nested() {
            return false;
        }
        match self.conn.try_lock() {
            Ok(mut conn) => {
                drop(conn.take());
                self.ended.store(true, Ordering::SeqCst);
                true
            }
            Err(_) => false,
        }
    }

    /// Dooms what a failed statement may have rolled back.
    async fn failed(&self, error: &DbErr, conn: &DatabaseTransaction) {
        match self.backend {
            // It refuses everything after an error, and answers a COMMIT with a rollback.
            DbBackend::Postgres => self.doom(),
            // They roll all of it back on a deadlock, and then commit each statement by itself; so
            // they may for errors that have no SQLSTATE of their own, as MariaDB does when a row has
            // changed since the snapshot (1020).
            DbBackend::MySql => {
                if sql_state(error).is_some_and(|state| state == "40001" || state == "HY000") {
                    self.doom_all();
                }
            }
            // A trigger's RAISE(ROLLBACK), ON CONFLICT ROLLBACK and a full disk roll all of it back,
            // and then each statement commits by itself. Only a BEGIN tells: inside a transaction it
            // is an error. Otherwise it begins one for the ROLLBACK that is to come.
            DbBackend::Sqlite => {
                if conn.execute_unprepared("BEGIN").await.is_ok() {
                    self.doom_all();
                }
            }
            _ => self.doom_all(),
        }
    }

    /// Dooms it and the transactions around it.
    fn doom_all(&self) {
        let mut transaction = Some(self);
        while let Some(doomed) = transaction {
            doomed.doom();
            transaction = doomed.parent.as_deref();
        }
    }
}

/// The connection while one statement runs. Dropped before the statement has finished, it dooms
/// the transaction: nobody knows what the statement did.
pub(super) struct Locked<'a> {
    conn: MutexGuard<'a, Option<DatabaseTransaction>>,
    running: Running<'a>,
}

impl Locked<'_> {
    pub(super) fn connection(&self) -> Result<&DatabaseTransaction, DbErr> {
        self.conn.as_ref().ok_or_else(ended)
    }

    /// The statement has returned.
    pub(super) async fn finished<T>(self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if let (Err(error), Some(conn)) = (&result, &*self.conn) {
            self.running.0.failed(error, conn).await;
        }
        self.running.finished();
        result
    }
}

/// A statement that runs; if it is given up before it has finished, so is its transaction.
struct Running<'a>(&'a OpenTransaction);

impl Running<'_> {
    fn finished(self) {
        std::mem::forget(self);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.doom();
    }
}

fn ended() -> DbErr {
    DbErr::Custom("the transaction has already ended".into())
}

impl fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction").finish_non_exhaustive()
    }
}
