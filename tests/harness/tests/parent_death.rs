//! A server does not outlive the process that started it, however that process ends.
//!
//! This test program starts itself again to have a process to kill: as `child_process`, it starts a
//! Redis and waits.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cached_repo_harness::{Postgres, Redis};

/// The variable that makes this program the `child_process`, and says how it ends.
const ROLE: &str = "CACHED_REPO_HARNESS_TEST_CHILD";

/// Precedes what the child reports, among the test runner's own lines.
const REPORT: &str = "child-report ";

const CLEAN_UP_LIMIT: Duration = Duration::from_secs(20);

/// Not a test: the process that the tests below start and kill. It passes at once in an ordinary
/// run.
#[test]
fn child_process() -> Result<()> {
    let Ok(role) = env::var(ROLE) else {
        return Ok(());
    };
    let hold = |port: u16, directory: &Path| -> Result<()> {
        println!("\n{REPORT}{port} {}", directory.display());
        std::io::stdin().read_to_end(&mut Vec::new())?; // until we are told or killed
        Ok(())
    };
    if role == "postgres" {
        let postgres = Postgres::start()?;
        return hold(postgres.port(), postgres.directory());
    }
    let mut redis = Redis::start()?;
    match role.as_str() {
        "paused" => redis.pause()?,
        "killed" => redis.kill()?,
        _ => {}
    }
    hold(redis.port(), redis.directory())?;
    // `exit` runs no destructors.
    std::process::exit(0);
}

/// A child process that holds a server.
struct Holder {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl Holder {
    fn start(role: &str) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(["--exact", "child_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        for line in output.lines() {
            if let Some(report) = line?.strip_prefix(REPORT) {
                let (port, directory) = report.split_once(' ').context("a malformed report")?;
                let holder = Self {
                    port: port.parse()?,
                    directory: directory.into(),
                    process,
                };
                ensure!(
                    holder.directory.exists(),
                    "no directory while the holder lives"
                );
                ensure!(
                    role != "running" || holder.connects(),
                    "no server while the holder lives"
                );
                return Ok(holder);
            }
        }
        anyhow::bail!("the child ended without a report: {:?}", process.wait()?)
    }

    fn connects(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    fn await_clean_up(&self) -> Result<()> {
        let deadline = Instant::now() + CLEAN_UP_LIMIT;
        while self.directory.exists() || self.connects() {
            ensure!(
                Instant::now() < deadline,
                "{} or port {} is still there",
                self.directory.display(),
                self.port
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Goal: `kill -9`, the out-of-memory killer and a test runner's time-out leave nothing, in any
/// state of the server.
#[test]
fn a_killed_parent_takes_its_server_and_files_along() -> Result<()> {
    for role in ["running", "paused", "killed", "postgres"] {
        let mut holder = Holder::start(role)?;
        holder.process.kill()?;
        holder.process.wait()?;
        holder.await_clean_up().context(role)?;
    }
    Ok(())
}

/// Goal: a process that exits without running destructors (a server in a `static`, an `abort`)
/// leaves nothing either.
#[test]
fn a_parent_that_exits_without_destructors_takes_its_server_along() -> Result<()> {
    let mut holder = Holder::start("running")?;
    drop(holder.process.stdin.take());
    holder.process.wait()?;
    holder.await_clean_up()
}
