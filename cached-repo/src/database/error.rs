//! What an error of the database says: whether the database answered, and whether it could be
//! reached.
//!
//! A statement that the database refused has written nothing, so its block is released. One without
//! an answer has an unknown outcome, so its block stays. Only sqlx's own error tells them apart: this
//! is why the crate needs `sea-orm/sqlx-dep`.

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// What the database itself answered: an SQLSTATE, or SQLite's result code.
pub(super) fn sql_state(error: &DbErr) -> Option<String> {
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

/// Whether the same statement or transaction may succeed a moment later, and has written nothing:
/// after a deadlock, a serialization failure, a busy SQLite, or without a connection.
pub(crate) fn is_transient(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return true,
        _ => {}
    }
    match sql_state(error).as_deref() {
        // SQLSTATE: serialization failure, deadlock, lock not available, too many connections, and a
        // server that is starting or shutting down.
        Some(state) if state.len() == 5 => {
            matches!(
                state,
                "40001" | "40P01" | "55P03" | "53300" | "57P01" | "57P03"
            )
        }
        // SQLite: busy, locked.
        Some(code) => code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_reached_the_database_may_be_tried_again() {
        let no_connection = DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout);
        assert!(is_transient(&no_connection));
        assert!(is_connection_failure(&no_connection));
        let custom = DbErr::Custom("mine".into());
        assert!(!is_transient(&custom) && !is_refusal(&custom));
    }
}
