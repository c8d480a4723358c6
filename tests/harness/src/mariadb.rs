//! A MariaDB of the test's own.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::account::Account;
use crate::binary;
use crate::port;
use crate::process::{Guarded, Launch};
use crate::stop::Stop;

/// The newer name first; older packages have only the second.
const SERVERS: [&str; 2] = ["mariadbd", "mysqld"];
const INSTALLERS: [&str; 2] = ["mariadb-install-db", "mysql_install_db"];

const PREPARE_LIMIT: Duration = Duration::from_secs(120);
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A test server that loses its data in a crash loses nothing; every flush saved is time.
const SETTINGS: [&str; 11] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=300",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=64M",
    "--sync-binlog=0",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_bin",
];

/// Run at every start, before the first connection is accepted.
const INIT_SQL: &str = "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
";

/// A private MariaDB on a loopback port, with `root` without a password. Dropping it kills it and
/// removes its directory.
#[derive(Debug)]
pub struct MariaDb {
    guarded: Guarded,
    port: u16,
}

/// Settings for a [`MariaDb`]; nothing happens until [`start`](Self::start).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MariaDbBuilder {
    arguments: Vec<String>,
}

/// What has to be installed.
#[derive(Debug)]
pub(crate) struct Programs {
    server: PathBuf,
    installer: PathBuf,
}

impl MariaDbBuilder {
    /// Adds an argument of the server, like `--max-statement-time=1`. Default: none.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Makes a new data directory and starts a server on it. Under root, it runs as `mysql` or
    /// `nobody`.
    ///
    /// # Errors
    /// If MariaDB's server programs are not installed or do not start.
    pub fn start(self) -> Result<MariaDb> {
        let programs = MariaDb::programs()
            .context("mariadb-server is not installed; `cargo xtask test` installs it")?;
        let mut guarded = Guarded::owned_by(Account::unprivileged("mysql")?, "mariadb")?;
        prepare(&mut guarded, &programs)?;
        let port =
            port::on_free_port(|port| launch(&mut guarded, &programs, port, &self.arguments))?;
        Ok(MariaDb { guarded, port })
    }
}

impl MariaDb {
    /// Starts a MariaDB with the tests' settings on a free port.
    ///
    /// # Errors
    /// If MariaDB's server programs are not installed or do not start.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// For other settings.
    pub fn builder() -> MariaDbBuilder {
        MariaDbBuilder::default()
    }

    /// `mysql://root@127.0.0.1:PORT/mysql`
    #[must_use]
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.guarded.directory()
    }

    /// Ends the server and removes its directory, as dropping does, but reports what went wrong.
    ///
    /// # Errors
    /// If the system cannot tell whether it ended.
    pub fn stop(mut self) -> Result<()> {
        self.guarded.stop()
    }

    pub(crate) fn programs() -> Option<Programs> {
        Some(Programs {
            server: binary::find(&SERVERS)?,
            installer: binary::find(&INSTALLERS)?,
        })
    }
}

fn prepare(guarded: &mut Guarded, programs: &Programs) -> Result<()> {
    fs::write(init_file(guarded), INIT_SQL).context("writing the init file")?;
    let mut install = guarded.server_command(&programs.installer)?;
    install
        // First, or it is not recognised: the system's my.cnf is about the system's server.
        .arg("--no-defaults")
        .args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ])
        .arg(option("--datadir=", &data(guarded)));
    guarded.run(install, Stop::Kill, PREPARE_LIMIT)
}

fn launch(
    guarded: &mut Guarded,
    programs: &Programs,
    port: u16,
    arguments: &[String],
) -> Result<Launch> {
    let pid_file = guarded.directory().join("pid");
    let mut mariadbd = guarded.server_command(&programs.server)?;
    mariadbd
        .arg("--no-defaults")
        // The last one wins.
        .args(SETTINGS)
        .args(arguments)
        .arg(format!("--port={port}"))
        .arg(option("--datadir=", &data(guarded)))
        .arg(option("--socket=", &guarded.directory().join("socket")))
        .arg(option("--pid-file=", &pid_file))
        .arg(option("--init-file=", &init_file(guarded)));
    guarded.launch(mariadbd, Stop::Kill, START_LIMIT, |pid| {
        listens(&pid_file, pid) && greets(port).unwrap_or(false)
    })
}

fn data(guarded: &Guarded) -> PathBuf {
    guarded.directory().join("data")
}

fn init_file(guarded: &Guarded) -> PathBuf {
    guarded.directory().join("init.sql")
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// Whether our own server has the port: it writes its pid file once it listens.
fn listens(pid_file: &Path, pid: u32) -> bool {
    fs::read_to_string(pid_file).is_ok_and(|content| content.trim() == pid.to_string())
}

/// Whether the server sends its greeting. It does so after the init file.
fn greets(port: u16) -> Result<bool> {
    const HEADER_BYTES: usize = 4;
    const PROTOCOL_10: u8 = 10;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut reply = [0; HEADER_BYTES + 1];
    stream.read_exact(&mut reply)?;
    Ok(reply[HEADER_BYTES] == PROTOCOL_10)
}
