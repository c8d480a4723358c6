//! PostgreSQL: `pg_xact_commit_timestamp` says when a transaction was committed.
//!
//! Triggers also fire for the rows that a foreign key deletes or changes.

use anyhow::Result;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use super::{ACQUIRE_TIMEOUT, Engine, MAX_CONNECTIONS, SETUP};
use crate::{
    entities::Table,
    settings::{IDLE_TRANSACTION_TIMEOUT, STATEMENT_TIMEOUT},
};

const AUDIT: &str = "
CREATE TABLE audit (
    seq bigserial PRIMARY KEY,
    tbl text NOT NULL,
    id bigint NOT NULL,
    version bigint,
    value text,
    parent bigint,
    application text NOT NULL DEFAULT current_setting('application_name'),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO audit (tbl, id) VALUES (TG_TABLE_NAME, OLD.id);
    ELSE
        INSERT INTO audit (tbl, id, version, value, parent) VALUES
            (TG_TABLE_NAME, NEW.id, coalesce((to_jsonb(NEW) ->> 'version')::bigint, 0), NEW.value,
             coalesce(to_jsonb(NEW) ->> 'owner_id', to_jsonb(NEW) ->> 'post_id')::bigint);
    END IF;
    RETURN NULL;
END $$;";

pub(super) const OPEN_CONNECTIONS: &str = "SELECT count(*) AS n FROM pg_stat_activity
    WHERE datname = current_database() AND application_name <> 'setup'
    AND backend_type = 'client backend'";

pub(super) const AUDITED: &str = "SELECT tbl, id, version, value, parent, application,
        xid::text AS xid,
        (extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) * 1000000)::bigint AS at
    FROM audit ORDER BY seq";

pub(super) fn server_settings() -> Vec<String> {
    vec![
        "track_commit_timestamp=on".into(),
        "deadlock_timeout=50ms".into(),
    ]
}

pub(super) async fn connect(url: &str, application: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(format!("{url}?application_name={application}"));
    options
        .max_connections(MAX_CONNECTIONS)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection that broke while it was idle shall break a statement.
        .test_before_acquire(false)
        .sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

/// Creates a database with an audit.
pub(super) async fn create(port: u16, name: &str) -> Result<DatabaseConnection> {
    let server = Engine::Postgres.url(port);
    let admin = connect(&format!("{server}/postgres"), SETUP).await?;
    let (timeout, idle) = (
        STATEMENT_TIMEOUT.as_millis(),
        IDLE_TRANSACTION_TIMEOUT.as_secs(),
    );
    for sql in [
        format!("CREATE DATABASE {name}"),
        format!("ALTER DATABASE {name} SET statement_timeout = '{timeout}ms'"),
        format!("ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '{idle}s'"),
    ] {
        admin.execute_unprepared(&sql).await?;
    }
    admin.close().await?;
    let conn = connect(&format!("{server}/{name}"), SETUP).await?;
    conn.execute_unprepared("SET statement_timeout = 0").await?;
    conn.execute_unprepared(AUDIT).await?;
    Ok(conn)
}

pub(super) fn triggers(table: Table) -> Vec<String> {
    vec![format!(
        "CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON {}
             FOR EACH ROW EXECUTE FUNCTION audit_row()",
        table.name()
    )]
}
