//! A PostgreSQL of the test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::account::Account;
use crate::binary;
use crate::port;
use crate::process::{Guarded, Launch};
use crate::stop::Stop;

const PREPARE_LIMIT: Duration = Duration::from_secs(120);
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A test server that loses its data in a crash loses nothing; every fsync saved is time.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "max_connections=300",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "jit=off",
    "shared_buffers=64MB",
    // In the data directory, and not in /dev/shm, which is small in containers and would keep what
    // a kill leaves.
    "dynamic_shared_memory_type=mmap",
    "logging_collector=off",
];

/// A private PostgreSQL on a loopback port, with `postgres` as a superuser without a password.
/// Dropping it ends it and removes its directory.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use cached_repo_harness::Postgres;
/// let postgres = Postgres::builder().setting("track_commit_timestamp", "on").start()?;
/// println!("listening on {}", postgres.url());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Postgres {
    guarded: Guarded,
    port: u16,
}

/// Settings for a [`Postgres`]; nothing happens until [`start`](Self::start).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct PostgresBuilder {
    settings: Vec<String>,
}

impl PostgresBuilder {
    /// Adds a setting of `postgresql.conf`. Default: none.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Makes a new cluster and starts it. Under root, it runs as `postgres` or `nobody`.
    ///
    /// # Errors
    /// If PostgreSQL's server programs are not installed or do not start.
    pub fn start(self) -> Result<Postgres> {
        let programs = Postgres::programs()
            .context("postgresql is not installed; `cargo xtask test` installs it")?;
        let mut guarded = Guarded::owned_by(Account::unprivileged("postgres")?, "postgres")?;
        prepare(&mut guarded, &programs)?;
        let port =
            port::on_free_port(|port| launch(&mut guarded, &programs, port, &self.settings))?;
        Ok(Postgres { guarded, port })
    }
}

impl Postgres {
    /// Starts a PostgreSQL with the tests' settings on a free port.
    ///
    /// # Errors
    /// If PostgreSQL's server programs are not installed or do not start.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// For other settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
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

    pub(crate) fn programs() -> Option<PathBuf> {
        binary::postgres_directory()
    }
}

fn prepare(guarded: &mut Guarded, programs: &Path) -> Result<()> {
    let mut initdb = guarded.server_command(&programs.join("initdb"))?;
    initdb
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .arg("--pgdata")
        .arg(data(guarded));
    guarded.run(initdb, Stop::Await, PREPARE_LIMIT)
}

fn launch(
    guarded: &mut Guarded,
    programs: &Path,
    port: u16,
    settings: &[String],
) -> Result<Launch> {
    let data = data(guarded);
    let mut postgres = guarded.server_command(&programs.join("postgres"))?;
    postgres
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string()])
        .arg("-k")
        .arg(guarded.directory());
    // The last one wins.
    for setting in SETTINGS
        .into_iter()
        .chain(settings.iter().map(String::as_str))
    {
        postgres.args(["-c", setting]);
    }
    guarded.launch(postgres, Stop::Quit, START_LIMIT, |pid| {
        listens(&data, pid) && logs_in(port).unwrap_or(false)
    })
}

fn data(guarded: &Guarded) -> PathBuf {
    guarded.directory().join("data")
}

/// Whether our own server has the port: its lock file names it and says `ready`, as `pg_ctl` checks
/// too.
fn listens(data: &Path, pid: u32) -> bool {
    const STATUS_LINE: usize = 7;
    let Ok(lock) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let lines: Vec<&str> = lock.lines().collect();
    lines
        .first()
        .is_some_and(|line| line.trim() == pid.to_string())
        && lines
            .get(STATUS_LINE)
            .is_some_and(|line| line.trim() == "ready")
}

/// Sends a start-up packet; true if the server lets `postgres` in.
fn logs_in(port: u16) -> Result<bool> {
    const PROTOCOL_3: i32 = 3 << 16;
    const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";
    const AUTHENTICATION_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];
    let mut packet = i32::try_from(PARAMETERS.len() + 8)?.to_be_bytes().to_vec();
    packet.extend(PROTOCOL_3.to_be_bytes());
    packet.extend(PARAMETERS);

    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(&packet)?;
    let mut reply = [0; AUTHENTICATION_OK.len()];
    stream.read_exact(&mut reply)?;
    Ok(reply == AUTHENTICATION_OK)
}
