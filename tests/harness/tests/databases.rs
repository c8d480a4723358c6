//! The private databases start under root and otherwise, answer, and leave nothing behind.
//!
//! That a real driver can log in and create databases there is shown by every integration test of
//! the workspace.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use cached_repo_harness::{MariaDb, Postgres};

const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Runs a client that comes with the server; its standard output.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn assert_gone(port: u16, directory: &Path) {
    assert!(!directory.exists());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

/// Goal: the account of the url may create databases, the durability switches are off, and dropping
/// cleans up.
#[test]
fn postgres_starts_lets_us_create_databases_and_is_gone_after_drop() -> Result<()> {
    let postgres = Postgres::start()?;
    let psql = |sql: &str| {
        output(
            Command::new("psql")
                .arg(postgres.url())
                .args(["-XAtc", sql]),
        )
    };
    psql("CREATE DATABASE ours")?;
    assert_eq!(
        psql("SELECT count(*) FROM pg_database WHERE datname = 'ours'")?.trim(),
        "1"
    );
    assert_eq!(psql("SHOW fsync")?.trim(), "off");
    assert_eq!(psql("SHOW max_connections")?.trim(), "300");

    let (port, directory) = (postgres.port(), postgres.directory().to_owned());
    drop(postgres);
    assert_gone(port, &directory);
    Ok(())
}

/// Goal: a test can have the server it needs, also against the harness's own settings.
#[test]
fn postgres_takes_settings_of_the_test() -> Result<()> {
    let postgres = Postgres::builder()
        .setting("track_commit_timestamp", "on")
        .setting("max_connections", "17")
        .start()?;
    for (setting, value) in [("track_commit_timestamp", "on"), ("max_connections", "17")] {
        let shown = output(
            Command::new("psql")
                .arg(postgres.url())
                .args(["-XAtc", &format!("SHOW {setting}")]),
        )?;
        assert_eq!(shown.trim(), value);
    }
    Ok(())
}

/// Goal: as above, for MariaDB.
#[test]
fn mariadb_starts_lets_us_create_databases_and_is_gone_after_drop() -> Result<()> {
    let mariadb = MariaDb::start()?;
    let port = mariadb.port().to_string();
    let sql = |sql: &str| {
        let client = [
            "--no-defaults",
            "--protocol=tcp",
            "-h127.0.0.1",
            "-uroot",
            "-P",
            &port,
            "-Ne",
            sql,
        ];
        output(Command::new("mariadb").args(client))
    };
    sql("CREATE DATABASE ours")?;
    assert_eq!(sql("SHOW DATABASES LIKE 'ours'")?.trim(), "ours");
    assert_eq!(
        sql("SELECT @@max_connections, @@innodb_flush_log_at_trx_commit")?.trim(),
        "300\t0"
    );

    let (port, directory) = (mariadb.port(), mariadb.directory().to_owned());
    drop(mariadb);
    assert_gone(port, &directory);
    Ok(())
}

/// Goal: two servers of one kind live side by side, as they do when tests run in parallel.
#[test]
fn two_databases_of_one_kind_do_not_meet() -> Result<()> {
    let (one, other) = (MariaDb::start()?, MariaDb::start()?);
    assert_ne!(one.port(), other.port());
    for port in [one.port(), other.port()] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.read_exact(&mut [0; 5])?;
    }
    one.stop()?;
    other.stop()
}
