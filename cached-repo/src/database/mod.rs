//! The database as the engine sees it: one connection type for SeaORM, whatever is behind it.
//!
//! Invariants:
//! - A statement that fails or is given up inside a transaction marks that transaction, so that
//!   nothing of it is committed by mistake.
//!
//! Does not know the cache.

mod transaction;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, Statement, entity::prelude::async_trait::async_trait, sqlx,
};

pub(crate) use self::transaction::OpenTransaction;

/// A connection for SeaORM, whatever is behind it.
#[derive(Clone, Copy)]
pub(crate) enum Executor<'a> {
    /// Every statement commits by itself.
    Pool(&'a DatabaseConnection),
    /// A transaction around a single write.
    Own(&'a DatabaseTransaction),
    /// The user's transaction.
    Shared(&'a OpenTransaction),
}

/// Runs a method on whatever is behind an executor.
macro_rules! on_connection {
    ($executor:expr, $conn:ident => $call:expr) => {
        match $executor {
            Executor::Pool($conn) => $call,
            Executor::Own($conn) => $call,
            Executor::Shared(transaction) => {
                let guard = transaction.lock().await?;
                let $conn = guard.connection()?;
                let result = $call;
                guard.finished(result)
            }
        }
    };
}

#[async_trait]
impl ConnectionTrait for Executor<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Pool(conn) => conn.get_database_backend(),
            Self::Own(conn) => conn.get_database_backend(),
            Self::Shared(transaction) => transaction.backend(),
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

/// What the database itself answered: an SQLSTATE, or SQLite's result code.
fn sql_state(error: &DbErr) -> Option<String> {
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

/// Whether the database itself answered that it did not do it. A statement that commits by itself
/// has then written nothing, unless the answer was that the server is in trouble.
pub(crate) fn is_refusal(error: &DbErr) -> bool {
    match sql_state(error).as_deref() {
        // SQLSTATE: connection, system and internal errors, shutdown, completion unknown, and
        // what MySQL has no class for.
        Some(state) if state.len() == 5 => {
            let uncertain = ["08", "58", "XX", "57P", "40003", "HY000"];
            !uncertain.iter().any(|class| state.starts_with(class))
        }
        // SQLite's result codes; the low byte of an I/O error is 10.
        Some(code) => code.parse::<u32>().is_ok_and(|code| code & 0xff != 10),
        None => false,
    }
}

/// Whether there was no connection to run a statement on, so that no other statement would fare
/// better.
pub(crate) fn is_connection_failure(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            matches!(
                **error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            )
        }
        _ => false,
    }
}
