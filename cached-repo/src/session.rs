//! Where a repository's statements go: to a connection of the pool, or all to one transaction.
//!
//! A transaction's session also keeps the journal of what it has changed, by key, for the cache to
//! be told when it commits.
//!
//! Does not block, commit or publish: that is [`crate::write`]'s.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionTrait, entity::prelude::async_trait::async_trait,
};
use tokio::{sync::RwLock, time::Instant};

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
            Self::Pool => Executor::Pool(pool, None),
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
}

impl Session {
    pub(crate) fn new(conn: DatabaseTransaction) -> Self {
        Self {
            backend: conn.get_database_backend(),
            conn: RwLock::new(Some(conn)),
            journal: Mutex::default(),
        }
    }

    /// Begins a nested transaction.
    pub(crate) async fn savepoint(&self) -> Result<DatabaseTransaction, DbErr> {
        match &*self.conn.read().await {
            Some(conn) => conn.begin().await,
            None => Err(ended()),
        }
    }

    /// Takes the transaction away from its repositories, after the statements that run.
    pub(crate) async fn end(&self) -> Option<DatabaseTransaction> {
        self.conn.write().await.take()
    }

    /// Rolls back at once if no statement runs; says whether one does.
    pub(crate) fn try_drop(&self) -> bool {
        match self.conn.try_write() {
            Ok(mut conn) => {
                drop(conn.take());
                true
            }
            Err(_) => false,
        }
    }

    /// What it has changed so far.
    pub(crate) fn journal(&self) -> parking_lot::MutexGuard<'_, Journal> {
        self.journal.lock()
    }
}

/// What a transaction has changed, by key.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) keys: HashMap<Key, Change>,
    /// Prefixes of entities any row of which may have changed.
    pub(crate) entities: HashSet<Arc<str>>,
}

/// What is to be published of one key.
pub(crate) struct Change {
    pub(crate) prefix: Arc<str>,
    pub(crate) stats: Arc<EntityStats>,
    pub(crate) on_failure: OnCacheFailure,
    /// Nothing below may be stored.
    pub(crate) floor: Version,
    /// The row as it was last written, if it may be stored.
    pub(crate) put: Option<Put>,
}

/// A row to be stored.
pub(crate) struct Put {
    pub(crate) version: Version,
    pub(crate) inserted: bool,
    pub(crate) value: Value,
}

impl Journal {
    /// Adds what came later.
    pub(crate) fn note(&mut self, key: Key, later: Change) {
        let floor = self
            .keys
            .get(&key)
            .map_or(later.floor, |earlier| earlier.floor.max(later.floor));
        self.keys.insert(key, Change { floor, ..later });
    }

    /// Adds what a savepoint changed; without its rows if it is not known to have held.
    pub(crate) fn absorb(&mut self, nested: Self, released: bool) {
        for (key, change) in nested.keys {
            let put = change.put.filter(|_| released);
            self.note(key, Change { put, ..change });
        }
        self.entities.extend(nested.entities);
    }
}

/// A connection for SeaORM, whatever is behind it.
#[derive(Clone, Copy)]
pub(crate) enum Executor<'a> {
    /// Every statement commits by itself; several are committed together no later than the given
    /// moment.
    Pool(&'a DatabaseConnection, Option<Instant>),
    /// A transaction around a single write.
    Own(&'a DatabaseTransaction),
    /// The user's transaction.
    Shared(&'a Session),
}

impl Executor<'_> {
    /// The same connection for a write that must be committed by `deadline`.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        match self {
            Self::Pool(conn, _) => Self::Pool(conn, Some(deadline)),
            other => other,
        }
    }
}

/// Runs a method on whatever is behind an executor.
macro_rules! on_connection {
    ($executor:expr, $conn:ident => $call:expr) => {
        match $executor {
            Executor::Pool($conn, _) => $call,
            Executor::Own($conn) => $call,
            Executor::Shared(session) => match &*session.conn.read().await {
                Some($conn) => $call,
                None => Err(ended()),
            },
        }
    };
}

#[async_trait]
impl ConnectionTrait for Executor<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Pool(conn, _) => conn.get_database_backend(),
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
