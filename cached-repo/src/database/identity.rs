//! Which database a connection leads to, so that two of them do not share a cache by accident.
//!
//! A replica of a database is the same database, and a restored copy is another one where the
//! database tells them apart: PostgreSQL does, by an object identifier.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

/// The name of the database and of what tells it from others; `None` if nothing does.
pub(crate) async fn identity(conn: &DatabaseConnection) -> Result<Option<String>, DbErr> {
    let backend = conn.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT current_database() || '/' || oid || '/' || coalesce(current_schema(), '') \
             FROM pg_database WHERE datname = current_database()"
        }
        DbBackend::MySql => "SELECT database()",
        DbBackend::Sqlite => "SELECT file FROM pragma_database_list WHERE name = 'main'",
        _ => return Ok(None),
    };
    let row = conn
        .query_one_raw(Statement::from_string(backend, sql))
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let identity: Option<String> = row.try_get_by_index(0)?;
    Ok(identity.filter(|identity| !identity.is_empty()))
}
