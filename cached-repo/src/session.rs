//! Where a repository's statements go: to a connection of the pool, or all to one transaction.
//!
//! A transaction's session also keeps the journal of what it has changed, by key, for the cache to
//! be told when it commits.
//!
//! Does not block, commit or publish: that is [`crate::write`]'s.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, Statement, TransactionTrait,
    entity::prelude::async_trait::async_trait, sqlx,
};
use tokio::sync::{Notify, RwLock};

use crate::{
    config::OnCacheFailure,
    protocol::{Key, Version, state::Value},
    telemetry::EntityStats,
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
            Self::Transaction(session) => Executor::Shared(session),
        }
    }
}

/// A transaction, shared by its repositories.
pub(crate) struct Session {
    /// Gone once the transaction has ended.
    conn: RwLock<Option<DatabaseTransaction>>,
    backend: DbBackend,
    journal: Mutex<Journal>,
    /// The transaction around this savepoint.
    parent: Option<Arc<Session>>,
    /// Nothing may be committed any more: the database has rolled back by itself, or a statement
    /// was given up while it ran, and nobody knows what it did.
    doomed: AtomicBool,
    /// A savepoint is open, and statements go there.
    nested: AtomicBool,
    /// That savepoint was dropped, and is being undone.
    undoing: AtomicBool,
    ended: AtomicBool,
    resumed: Notify,
}

impl Session {
    pub(crate) fn new(conn: DatabaseTransaction, parent: Option<Arc<Self>>) -> Self {
        Self {
            backend: conn.get_database_backend(),
            conn: RwLock::new(Some(conn)),
            journal: Mutex::default(),
            parent,
            doomed: AtomicBool::new(false),
            nested: AtomicBool::new(false),
            undoing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            resumed: Notify::new(),
        }
    }

    /// Begins a nested transaction. Until it has ended, statements of this one are refused.
    pub(crate) async fn savepoint(&self) -> Result<DatabaseTransaction, DbErr> {
        // Alone: a statement that ran beside it might end up inside the savepoint.
        let conn = self.conn.write().await;
        let conn = conn.as_ref().ok_or_else(ended)?;
        self.ready().await?;
        // One that fails midway may have rolled this one back.
        let running = Running(self);
        let nested = conn.begin().await?;
        running.finished();
        self.nested.store(true, Ordering::SeqCst);
        Ok(nested)
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
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

    /// Takes the transaction away from its repositories, after the statements that run.
    pub(crate) async fn end(&self) -> Option<DatabaseTransaction> {
        let conn = self.conn.write().await.take();
        self.ended.store(true, Ordering::SeqCst);
        conn
    }

    /// Rolls back at once if no statement and no savepoint is open; says whether it did.
    pub(crate) fn try_drop(&self) -> bool {
        if self.has_nested() {
            return false;
        }
        match self.conn.try_write() {
            Ok(mut conn) => {
                drop(conn.take());
                self.ended.store(true, Ordering::SeqCst);
                true
            }
            Err(_) => false,
        }
    }

    /// Learns from a statement that failed.
    fn failed(&self, error: &DbErr) {
        // PostgreSQL refuses everything after an error, and answers a COMMIT with a rollback.
        // MySQL and MariaDB roll all of it back on a deadlock, and then commit each statement by
        // itself; so they may for errors that have no SQLSTATE of their own, as MariaDB does when
        // a row has changed since the snapshot (1020).
        let deadlock =
            || sql_state(error).is_some_and(|state| state == "40001" || state == "HY000");
        match self.backend {
            DbBackend::Postgres => self.doom(),
            DbBackend::MySql if deadlock() => {
                let mut session = Some(self);
                while let Some(doomed) = session {
                    doomed.doom();
                    session = doomed.parent.as_deref();
                }
            }
            _ => {}
        }
    }

    /// What it has changed so far.
    pub(crate) fn journal(&self) -> parking_lot::MutexGuard<'_, Journal> {
        self.journal.lock()
    }
}

/// What a transaction has changed, by key.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    pub(crate) keys: HashMap<Key, Change>,
    /// Rows that statements of the user's own have changed: what they are found by now is to be
    /// read before the COMMIT.
    pub(crate) unread: HashMap<Key, Arc<dyn Reread>>,
    /// Prefixes of entities any row of which may have changed.
    pub(crate) entities: HashSet<Arc<str>>,
}

/// A row that is to be read again, of whatever entity.
pub(crate) trait Reread: Send + Sync {
    /// The keys of what the row is found by, and how they change.
    fn found_by<'a>(
        &'a self,
        conn: Executor<'a>,
    ) -> BoxFuture<'a, Result<Vec<(Key, Change)>, DbErr>>;
}

/// What is to be published of one key.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) prefix: Arc<str>,
    pub(crate) stats: Arc<EntityStats>,
    pub(crate) on_failure: OnCacheFailure,
    /// Whether it is of a hint rather than of a row.
    pub(crate) of_hint: bool,
    /// How many statements wrote it.
    pub(crate) writes: u64,
    /// Nothing below may be stored.
    pub(crate) floor: Version,
    /// Statements of the user's own may change the row, so that no row may be stored.
    pub(crate) raw: bool,
    /// The row as it was last written, if it may be stored.
    pub(crate) put: Option<Put>,
}

/// A row to be stored.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) version: Version,
    pub(crate) inserted: bool,
    pub(crate) value: Value,
}

impl Change {
    /// Adds what came later.
    pub(crate) fn absorb(&mut self, later: Self) {
        self.writes += later.writes;
        self.floor = self.floor.max(later.floor);
        self.raw |= later.raw;
        self.put = later.put.filter(|_| !self.raw);
    }

    /// The version below which nothing may be stored once it is published.
    pub(crate) fn known(&self) -> Version {
        self.put
            .as_ref()
            .map_or(self.floor, |put| put.version.max(self.floor))
    }
}

impl Journal {
    /// Adds what came later.
    pub(crate) fn note(&mut self, key: Key, later: Change) {
        match self.keys.entry(key) {
            Entry::Occupied(mut earlier) => earlier.get_mut().absorb(later),
            Entry::Vacant(vacant) => {
                vacant.insert(later);
            }
        }
    }

    /// Adds what a savepoint is about to keep: nothing of it is put yet, and nothing was written.
    pub(crate) fn forewarn(&mut self, nested: &Self) {
        for (key, change) in &nested.keys {
            let warning = Change {
                put: None,
                writes: 0,
                ..change.clone()
            };
            self.note(key.clone(), warning);
        }
        self.unread.extend(nested.unread.clone());
        self.entities.extend(nested.entities.iter().cloned());
    }

    /// Adds what a savepoint has kept.
    pub(crate) fn absorb(&mut self, nested: Self) {
        for (key, change) in nested.keys {
            self.note(key, change);
        }
    }
}

/// A connection for SeaORM, whatever is behind it.
#[derive(Clone, Copy)]
pub(crate) enum Executor<'a> {
    /// Every statement commits by itself.
    Pool(&'a DatabaseConnection),
    /// A transaction around a single write.
    Own(&'a DatabaseTransaction),
    /// The user's transaction.
    Shared(&'a Session),
}

/// Runs a method on whatever is behind an executor.
macro_rules! on_connection {
    ($executor:expr, $conn:ident => $call:expr) => {
        match $executor {
            Executor::Pool($conn) => $call,
            Executor::Own($conn) => $call,
            Executor::Shared(session) => match &*session.conn.read().await {
                Some($conn) => {
                    session.ready().await?;
                    let running = Running(session);
                    let result = $call;
                    running.finished();
                    result.inspect_err(|error| session.failed(error))
                }
                None => Err(ended()),
            },
        }
    };
}

#[async_trait]
impl ConnectionTrait for Executor<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Pool(conn) => conn.get_database_backend(),
            Self::Own(conn) => conn.get_database_backend(),
            Self::Shared(session) => session.backend,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        on_connection!(self, conn => conn.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        on_connection!(self, conn => conn.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        on_connection!(self, conn => conn.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        on_connection!(self, conn => conn.query_all_raw(statement).await)
    }
}

/// A statement that runs; if it is given up before it has finished, so is its transaction.
struct Running<'a>(&'a Session);

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

/// What the database itself answered: an SQLSTATE, or SQLite's result code.
pub(crate) fn sql_state(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) =
        error
    else {
        return None;
    };
    match &**error {
        sqlx::Error::Database(answer) => answer.code().map(Into::into),
        _ => None,
    }
}

fn ended() -> DbErr {
    DbErr::Custom("the transaction has already ended".into())
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("changed_rows", &self.journal().keys.len())
            .finish_non_exhaustive()
    }
}
