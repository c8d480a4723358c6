//! The tables, and the audit of every state their rows were ever committed in.
//!
//! A trigger writes each change of a row into `audit`, in the same transaction: the audit has all
//! committed changes, and only those. `seq` orders the states of one row as they were committed: an
//! AFTER trigger draws it while its transaction holds the row's lock (an INSERT: after the unique
//! index has let it in), and the transaction keeps the lock until its end; the next transaction
//! that changes the row draws later. It does not order the states of two rows.
//!
//! `pg_xact_commit_timestamp` says when: the wall clock just before the commit became visible.

use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, Schema,
    Statement,
};

use crate::{
    clock::{Moment, WallClock},
    entities::{Key, Seen, Subject, TEAMS, Table, account, note, on_table},
    settings::{ROWS, STATEMENT_TIMEOUT},
};

/// What the database must be started with, by name and value.
pub(crate) const SERVER_SETTINGS: [(&str, &str); 2] = [
    ("track_commit_timestamp", "on"),
    ("deadlock_timeout", "50ms"),
];

const AUDIT: &str = "
CREATE TABLE audit (
    seq bigserial PRIMARY KEY,
    tbl text NOT NULL,
    id bigint NOT NULL,
    version bigint,
    value text,
    application text NOT NULL DEFAULT current_setting('application_name'),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO audit (tbl, id) VALUES (TG_TABLE_NAME, OLD.id);
    ELSE
        INSERT INTO audit (tbl, id, version, value) VALUES
            (TG_TABLE_NAME, NEW.id, coalesce((to_jsonb(NEW) ->> 'version')::bigint, 0), NEW.value);
    END IF;
    RETURN NULL;
END $$;";

/// One committed change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audited {
    pub(crate) key: Key,
    /// `None`: it was deleted.
    pub(crate) state: Option<Seen>,
    /// Whose connection it was.
    pub(crate) application: String,
    pub(crate) xid: u64,
    /// It became visible then, or a little later.
    pub(crate) committed: Moment,
}

/// Connects to a database; a worker's `application` names it in the audit.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn connect(url: &str, application: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(format!("{url}?application_name={application}"));
    options
        .max_connections(8)
        .min_connections(0)
        .acquire_timeout(Duration::from_secs(1))
        // A connection that broke while it was idle shall break a statement.
        .test_before_acquire(false)
        .sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

/// Creates a database with the tables, the audit, and rows under two thirds of the keys.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn create(server: &str, name: &str) -> Result<DatabaseConnection> {
    let admin = connect(&format!("{server}/postgres"), "setup").await?;
    let timeout = STATEMENT_TIMEOUT.as_millis();
    for sql in [
        format!("CREATE DATABASE {name}"),
        format!("ALTER DATABASE {name} SET statement_timeout = '{timeout}ms'"),
        format!("ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '3s'"),
    ] {
        admin.execute_unprepared(&sql).await?;
    }
    admin.close().await?;
    let conn = connect(&format!("{server}/{name}"), "setup").await?;
    conn.execute_unprepared("SET statement_timeout = 0").await?;
    conn.execute_unprepared(AUDIT).await?;
    let schema = Schema::new(DbBackend::Postgres);
    conn.execute(&schema.create_table_from_entity(account::Entity))
        .await?;
    conn.execute(&schema.create_table_from_entity(note::Entity))
        .await?;
    for table in Table::ALL {
        let table = table.name();
        let version = if table == "account" { ", version" } else { "" };
        let one = if version.is_empty() { "" } else { ", 1" };
        let value = format!("'setup-{table}-' || id || '-' || id % {TEAMS}");
        conn.execute_unprepared(&format!(
            "CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON {table}
                 FOR EACH ROW EXECUTE FUNCTION audit_row();
             INSERT INTO {table} (id, value, team{version})
                 SELECT id, {value}, id % {TEAMS}{one} FROM generate_series(1, {ROWS}) AS id
                 WHERE id % 3 <> 0"
        ))
        .await?;
    }
    Ok(conn)
}

/// Waits until no worker's connection is left: what they sent has been carried out.
///
/// # Errors
/// When one stays, or the database does not answer.
pub(crate) async fn until_quiet(conn: &DatabaseConnection, limit: Duration) -> Result<()> {
    let deadline = Moment::now().plus(limit);
    loop {
        let sql = "SELECT count(*) AS n FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name <> 'setup'
                   AND backend_type = 'client backend'";
        let row = conn.query_one_raw(statement(sql)).await?;
        let connections: i64 = row.context("a count")?.try_get("", "n")?;
        if connections == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            Moment::now() < deadline,
            "{connections} connections of workers are still open {limit:?} after their end"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every committed change, the changes of one row in the order of their commits.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn audit(conn: &DatabaseConnection, wall: WallClock) -> Result<Vec<Audited>> {
    let sql = "SELECT tbl, id, version, value, application, xid::text AS xid,
                   (extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) * 1000000)::bigint AS at
               FROM audit ORDER BY seq";
    let rows = conn.query_all_raw(statement(sql)).await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("", "tbl")?;
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            let value: Option<String> = row.try_get("", "value")?;
            let version: Option<i64> = row.try_get("", "version")?;
            let xid: String = row.try_get("", "xid")?;
            let at: i64 = row.try_get("", "at")?;
            Ok(Audited {
                key: Key {
                    table: table.with_context(|| format!("an unknown table {name}"))?,
                    id: row.try_get("", "id")?,
                },
                state: value
                    .zip(version)
                    .map(|(value, version)| Seen { version, value }),
                application: row.try_get("", "application")?,
                xid: xid.parse()?,
                committed: wall.moment(u64::try_from(at)?),
            })
        })
        .collect()
}

/// Every row as it is now.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn rows(conn: &DatabaseConnection) -> Result<Vec<(Key, Seen)>> {
    let mut all = Vec::new();
    for table in Table::ALL {
        on_table!(table, M => {
            for row in <M as sea_orm::ModelTrait>::Entity::find().all(conn).await? {
                all.push((Key { table, id: row.id }, row.seen()));
            }
        });
    }
    Ok(all)
}

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}
