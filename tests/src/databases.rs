//! A database per test, and a list of the statements that it received.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cached_repo_harness as harness;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend};

/// The databases that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, through SeaORM's MySQL backend.
    MariaDb,
    /// SQLite, in a file.
    Sqlite,
}

/// The statements that a connection has sent, in order. `BEGIN` and `COMMIT` are not among them:
/// SeaORM does not report them.
#[derive(Clone, Debug, Default)]
pub struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    /// Takes the list; it starts again empty.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Takes the first word of each statement; the list starts again empty.
    #[must_use]
    pub fn verbs(&self) -> Vec<String> {
        let verb = |sql: String| sql.split_whitespace().next().unwrap_or_default().to_owned();
        self.take().into_iter().map(verb).collect()
    }
}

/// Makes an empty database and connects to it; the directory is that of SQLite's file.
pub(crate) async fn create(
    backend: Backend,
) -> (DatabaseConnection, Statements, Option<tempfile::TempDir>) {
    let name = harness::unique("test");
    let (url, directory) = match backend {
        Backend::Postgres => {
            let server = harness::postgres_url();
            let admin = Database::connect(&server).await.unwrap();
            admin
                .execute_unprepared(&format!("CREATE DATABASE {name}"))
                .await
                .unwrap();
            admin.close().await.unwrap();
            (replace_database(&server, &name), None)
        }
        Backend::MariaDb => {
            let server = harness::mariadb_url();
            let admin = Database::connect(&server).await.unwrap();
            admin
                .execute_unprepared(&format!("CREATE DATABASE {name}"))
                .await
                .unwrap();
            admin.close().await.unwrap();
            (replace_database(&server, &name), None)
        }
        Backend::Sqlite => {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("test.sqlite");
            (
                format!("sqlite://{}?mode=rwc", file.display()),
                Some(directory),
            )
        }
    };
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(8)
        .acquire_timeout(Duration::from_secs(20))
        .sqlx_logging(false);
    let mut conn = Database::connect(options).await.unwrap();
    if conn.get_database_backend() == DbBackend::Sqlite {
        conn.execute_unprepared("PRAGMA journal_mode = WAL")
            .await
            .unwrap();
    }
    let statements = Statements::default();
    let list = Arc::clone(&statements.0);
    conn.set_metric_callback(move |info| list.lock().unwrap().push(info.statement.sql.clone()));
    (conn, statements, directory)
}

/// Replaces the path of a server's URL.
fn replace_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}
