//! The database as the engine sees it: one connection type for SeaORM, whatever is behind it.
//!
//! Invariants:
//! - A statement that fails or is given up inside a transaction marks that transaction, so that
//!   nothing of it is committed by mistake.
//! - No statement ends the user's transaction behind its back.
//!
//! Does not know the cache.

mod control;
mod error;
#[cfg(feature = "redis")]
mod identity;
mod transaction;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, entity::prelude::async_trait::async_trait,
};

#[cfg(feature = "redis")]
pub(crate) use self::identity::identity;
pub(crate) use self::{
    error::{is_connection_failure, is_refusal, is_transient},
    transaction::OpenTransaction,
};

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
    ($executor:expr, $sql:expr, $conn:ident => $call:expr) => {
        match $executor {
            Executor::Pool($conn) => $call,
            Executor::Own($conn) => $call,
            Executor::Shared(transaction) => {
                control::check($sql, transaction.backend())?;
                let guard = transaction.lock().await?;
                let $conn = guard.connection()?;
                let result = $call;
                guard.finished(result).await
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
        on_connection!(self, &statement.sql, conn => conn.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        on_connection!(self, sql, conn => conn.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        on_connection!(self, &statement.sql, conn => conn.query_one_raw(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        on_connection!(self, &statement.sql, conn => conn.query_all_raw(statement).await)
    }
}
