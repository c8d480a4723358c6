//! MariaDB: `audit` is a system-versioned table with transaction-precise history, so that
//! `mysql.transaction_registry` says when a transaction was committed.
//!
//! No trigger fires for the rows that a foreign key deletes or changes. So the trigger of the row that
//! they refer to writes their changes down, before they happen: it holds the lock of that row, so none
//! comes, and locks them before it draws a `seq`. A `seq` is drawn row by row
//! (`innodb-autoinc-lock-mode`).
//!
//! MariaDB 10.11 forgets to register a transaction in which a savepoint or a statement was rolled back
//! last. Of its changes it is known when they were written, and no commit was earlier.

use anyhow::Result;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, SqlxMySqlConnector,
    sqlx::{
        AssertSqlSafe, Executor,
        error::DatabaseError,
        mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions},
    },
};

use super::{ACQUIRE_TIMEOUT, MAX_CONNECTIONS, SETUP};
use crate::{
    entities::Table,
    settings::{IDLE_TRANSACTION_TIMEOUT, STATEMENT_TIMEOUT},
};

/// The user that the workers are.
pub(super) const WORKER: &str = "worker";
/// How the connections of one worker start with: it does not wait for locks, but is refused.
const IMPATIENT: &str = "w1.";
const LOCK_WAIT_TIMEOUT: u16 = 1205;

const AUDIT: &str = "
CREATE TABLE audit (
    seq bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tbl varchar(16) NOT NULL,
    id bigint NOT NULL,
    version bigint,
    value varchar(255),
    parent bigint,
    application varchar(64) NOT NULL,
    written timestamp(6) NOT NULL,
    xid bigint unsigned GENERATED ALWAYS AS ROW START,
    gone bigint unsigned GENERATED ALWAYS AS ROW END,
    PERIOD FOR SYSTEM_TIME (xid, gone)
) ENGINE=InnoDB WITH SYSTEM VERSIONING";

pub(super) const OPEN_CONNECTIONS: &str = "SELECT count(*) AS n FROM information_schema.processlist
    WHERE db = database() AND user = 'worker'";

pub(super) const AUDITED: &str = "SELECT tbl, id, version, value, parent, application,
        CAST(xid AS char) AS xid,
        CAST(unix_timestamp(commit_timestamp) * 1000000 AS signed) AS at,
        CAST(unix_timestamp(written) * 1000000 AS signed) AS written
    FROM audit LEFT JOIN mysql.transaction_registry ON transaction_id = xid ORDER BY seq";

pub(super) fn server_settings() -> Vec<String> {
    vec![
        format!("--max-statement-time={}", STATEMENT_TIMEOUT.as_secs_f64()),
        format!(
            "--idle-transaction-timeout={}",
            IDLE_TRANSACTION_TIMEOUT.as_secs()
        ),
        "--innodb-autoinc-lock-mode=2".into(),
    ]
}

pub(super) async fn connect(url: &str, application: &str) -> Result<DatabaseConnection> {
    let settings = match application {
        SETUP => ", SESSION max_statement_time = 0",
        worker if worker.starts_with(IMPATIENT) => ", SESSION innodb_lock_wait_timeout = 0",
        _ => "",
    };
    let first = format!("SET @application = '{application}'{settings}");
    let pool = MySqlPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection that broke while it was idle shall break a statement.
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let first = first.clone();
            Box::pin(async move { conn.execute(AssertSqlSafe(first)).await.map(drop) })
        })
        .connect_with(url.parse::<MySqlConnectOptions>()?)
        .await?;
    Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
}

/// Creates a database with an audit, and the workers' user.
pub(super) async fn create(port: u16, name: &str) -> Result<DatabaseConnection> {
    let server = format!("mysql://root@127.0.0.1:{port}");
    let admin = connect(&format!("{server}/mysql"), SETUP).await?;
    for sql in [
        format!("CREATE DATABASE {name}"),
        format!("CREATE USER IF NOT EXISTS '{WORKER}'@'127.0.0.1' IDENTIFIED BY ''"),
        format!("GRANT ALL PRIVILEGES ON {name}.* TO '{WORKER}'@'127.0.0.1'"),
    ] {
        admin.execute_unprepared(&sql).await?;
    }
    admin.close().await?;
    let conn = connect(&format!("{server}/{name}"), SETUP).await?;
    conn.execute_unprepared(AUDIT).await?;
    Ok(conn)
}

pub(super) fn triggers(table: Table) -> Vec<String> {
    let name = table.name();
    let version = if table.is_versioned() {
        "NEW.version"
    } else {
        "0"
    };
    let parent = table
        .parent()
        .map_or("NULL".into(), |(_, column)| format!("NEW.{column}"));
    let written = |event: &str| {
        format!(
            "CREATE TRIGGER {name}_{event} AFTER {event} ON {name} FOR EACH ROW
                 INSERT INTO audit (application, written, tbl, id, version, value, parent)
                 VALUES (@application, sysdate(6), '{name}', NEW.id, {version}, NEW.value, {parent})"
        )
    };
    let mut triggers = vec![
        written("INSERT"),
        written("UPDATE"),
        format!(
            "CREATE TRIGGER {name}_DELETE AFTER DELETE ON {name} FOR EACH ROW
                 INSERT INTO audit (application, written, tbl, id) VALUES (@application, sysdate(6), '{name}', OLD.id)"
        ),
    ];
    let unset = |remarks: &str| {
        format!(
            "INSERT INTO audit (application, written, tbl, id, version, value)
             SELECT @application, sysdate(6), 'remark', remark.id, remark.version, remark.value FROM {remarks};"
        )
    };
    // Joins, because the rows of a subquery would not be locked.
    let others = match table {
        Table::Post => {
            let remarks = "remark WHERE post_id = OLD.id";
            format!(
                "SELECT count(*) INTO n FROM {remarks} FOR UPDATE; {}",
                unset(remarks)
            )
        }
        Table::Owner => {
            let posts = "post WHERE owner_id = OLD.id";
            let remarks =
                "post JOIN remark ON remark.post_id = post.id WHERE post.owner_id = OLD.id";
            format!(
                "SELECT count(*) INTO n FROM {posts} FOR UPDATE;
                 SELECT count(*) INTO n FROM {remarks} FOR UPDATE;
                 INSERT INTO audit (application, written, tbl, id) SELECT @application, sysdate(6), 'post', id FROM {posts};
                 {}",
                unset(remarks)
            )
        }
        _ => return triggers,
    };
    triggers.push(format!(
        "CREATE TRIGGER {name}_others BEFORE DELETE ON {name} FOR EACH ROW
         BEGIN DECLARE n bigint; {others} END"
    ));
    triggers
}

/// The statement waited for a lock in vain; SQLSTATE does not say so.
pub(super) fn is_lock_wait_timeout(answer: &dyn DatabaseError) -> bool {
    let answer = answer.try_downcast_ref::<MySqlDatabaseError>();
    answer.is_some_and(|answer| answer.number() == LOCK_WAIT_TIMEOUT)
}
