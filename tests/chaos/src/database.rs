//! The tables, and the audit of every state their rows were ever committed in.
//!
//! Triggers write each change of a row into `audit`, in the same transaction: the audit has all
//! committed changes, and only those. `seq` orders the states of one row as they were committed: it is
//! drawn while its transaction holds the row's lock (an INSERT: after the unique index has let it in),
//! and the transaction keeps the lock until its end; the next transaction that changes the row draws
//! later. It does not order the states of two rows.
//!
//! The database also says when: the wall clock just before the commit became visible. How each does
//! that is in [`postgres`] and [`mariadb`].

mod mariadb;
mod postgres;

use std::time::Duration;

use anyhow::{Context, Result};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, RuntimeErr, Schema,
    Statement,
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Moment, WallClock},
    entities::{Key, PARENTS, Seen, Subject, TEAMS, Table, on_table, value_of},
    settings::{COMMIT_SLACK, ROWS},
};

/// Whose connections make the tables and the first rows.
pub(crate) const SETUP: &str = "setup";
/// How many connections a process may have, and how long it waits for one.
const MAX_CONNECTIONS: u32 = 8;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which database a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Engine {
    Postgres,
    MariaDb,
}

impl Engine {
    /// What the server must be started with.
    pub(crate) fn server_settings(self) -> Vec<String> {
        match self {
            Self::Postgres => postgres::server_settings(),
            Self::MariaDb => mariadb::server_settings(),
        }
    }

    /// The server's URL, without a database, for workers.
    pub(crate) fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}"),
            Self::MariaDb => format!("mysql://{}@127.0.0.1:{port}", mariadb::WORKER),
        }
    }

    fn backend(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::MariaDb => DbBackend::MySql,
        }
    }

    fn statement(self, sql: &str) -> Statement {
        Statement::from_string(self.backend(), sql)
    }

    /// A statement that fails.
    pub(crate) fn refused_statement(self) -> &'static str {
        match self {
            Self::Postgres => "SELECT 1 / 0",
            Self::MariaDb => "SELECT nothing FROM nowhere",
        }
    }

    /// Whether a plain SELECT in a transaction shows the state of the transaction's first one.
    pub(crate) fn reads_from_snapshots(self) -> bool {
        self == Self::MariaDb
    }

    /// Whether INSERT returns the row, so that the library inserts with one statement.
    pub(crate) fn returns_inserted_rows(self) -> bool {
        self == Self::Postgres
    }
}

/// One committed change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audited {
    pub(crate) key: Key,
    /// `None`: it was deleted.
    pub(crate) state: Option<Seen>,
    /// Whose connection it was.
    pub(crate) application: String,
    pub(crate) xid: u64,
    /// It was committed no earlier.
    pub(crate) committed: Moment,
    /// By then every statement saw it; [`Moment::NEVER`] if the database does not know when it was
    /// committed.
    pub(crate) visible: Moment,
}

/// Connects to a database; a worker's `application` names it in the audit.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn connect(
    engine: Engine,
    url: &str,
    application: &str,
) -> Result<DatabaseConnection> {
    match engine {
        Engine::Postgres => postgres::connect(url, application).await,
        Engine::MariaDb => mariadb::connect(url, application).await,
    }
}

/// Creates a database with the tables, the audit, and rows under two thirds of the keys.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn create(engine: Engine, port: u16, name: &str) -> Result<DatabaseConnection> {
    let conn = match engine {
        Engine::Postgres => postgres::create(port, name).await?,
        Engine::MariaDb => mariadb::create(port, name).await?,
    };
    let schema = Schema::new(engine.backend());
    for table in Table::ALL {
        on_table!(table, M => {
            let entity = <<M as sea_orm::ModelTrait>::Entity as Default>::default();
            conn.execute(&schema.create_table_from_entity(entity)).await?;
        });
    }
    for table in Table::ALL {
        let triggers = match engine {
            Engine::Postgres => postgres::triggers(table),
            Engine::MariaDb => mariadb::triggers(table),
        };
        for trigger in triggers {
            conn.execute_unprepared(&trigger).await?;
        }
        conn.execute_unprepared(&first_rows(table)).await?;
    }
    Ok(conn)
}

/// The statement that inserts the first rows of a table.
fn first_rows(table: Table) -> String {
    let mut columns = vec!["value", "team"];
    if !table.has_generated_keys() {
        columns.push("id");
    }
    if table.is_versioned() {
        columns.push("version");
    }
    if let Some((_, column)) = table.parent() {
        columns.push(column);
    }
    let rows = (1..=ROWS).filter(|id| id % 3 != 0).map(|id| {
        // Of the rows that are referred to, those under even ids are there.
        let (parent, team) = (id % PARENTS / 2 + 1, id % TEAMS);
        let value = value_of(&format!("setup-{}-{id}", table.name()), Some(parent), team);
        let mut values = vec![format!("'{value}'"), team.to_string()];
        if !table.has_generated_keys() {
            values.push(id.to_string());
        }
        if table.is_versioned() {
            values.push("1".into());
        }
        if table.parent().is_some() {
            values.push(parent.to_string());
        }
        format!("({})", values.join(", "))
    });
    format!(
        "INSERT INTO {} ({}) VALUES {}",
        table.name(),
        columns.join(", "),
        rows.collect::<Vec<_>>().join(", ")
    )
}

/// Waits until no worker's connection is left: what they sent has been carried out.
///
/// # Errors
/// When one stays, or the database does not answer.
pub(crate) async fn until_quiet(
    engine: Engine,
    conn: &DatabaseConnection,
    limit: Duration,
) -> Result<()> {
    let sql = match engine {
        Engine::Postgres => postgres::OPEN_CONNECTIONS,
        Engine::MariaDb => mariadb::OPEN_CONNECTIONS,
    };
    let deadline = Moment::now().plus(limit);
    loop {
        let row = conn.query_one_raw(engine.statement(sql)).await?;
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
pub(crate) async fn audit(
    engine: Engine,
    conn: &DatabaseConnection,
    wall: WallClock,
) -> Result<Vec<Audited>> {
    let sql = match engine {
        Engine::Postgres => postgres::AUDITED,
        Engine::MariaDb => mariadb::AUDITED,
    };
    let rows = conn.query_all_raw(engine.statement(sql)).await?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("", "tbl")?;
            let table = Table::ALL.into_iter().find(|table| table.name() == name);
            let value: Option<String> = row.try_get("", "value")?;
            let version: Option<i64> = row.try_get("", "version")?;
            let parent: Option<i64> = row.try_get("", "parent")?;
            let xid: String = row.try_get("", "xid")?;
            let moment = |at: i64| Ok::<_, anyhow::Error>(wall.moment(u64::try_from(at)?));
            let at: Option<i64> = row.try_get("", "at")?;
            let (committed, visible) = match at {
                Some(at) => (moment(at)?, moment(at)?.plus(COMMIT_SLACK)),
                None => (moment(row.try_get("", "written")?)?, Moment::NEVER),
            };
            Ok(Audited {
                key: Key {
                    table: table.with_context(|| format!("an unknown table {name}"))?,
                    id: row.try_get("", "id")?,
                },
                state: value.zip(version).map(|(value, version)| Seen {
                    version,
                    value,
                    parent,
                }),
                application: row.try_get("", "application")?,
                xid: xid.parse()?,
                committed,
                visible,
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

/// Whether a statement that commits by itself has certainly changed nothing: a constraint, a deadlock, a
/// time-out, or there was no connection.
pub(crate) fn is_refused(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            error.as_database_error().is_some_and(|answer| {
                let states = ["23", "40", "57014", "70100"];
                let state = answer.code();
                state.is_some_and(|state| states.iter().any(|it| state.starts_with(it)))
                    || mariadb::is_lock_wait_timeout(answer)
            })
        }
        _ => false,
    }
}
