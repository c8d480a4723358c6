//! A child process in a directory of its own, and the promise that neither outlives us.
//!
//! Invariants:
//! - The child is our direct child: its pid is exact, its death is noticed at once, it never stays
//!   a zombie.
//! - There is no moment at which our death could leave it behind: it starts as a shell that waits
//!   for a word from us, gets the word only after the watchdog knows its pid, and then becomes the
//!   server (`exec` keeps the pid).
//! - It leads its own process group, so that Ctrl-C in the terminal reaches us and not it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::account::Account;
use crate::stop::Stop;
use crate::watchdog::Watchdog;

/// Waits for the word, then becomes the program. Without the word (we died first) it ends.
const GATE: &str = r#"read -r word && exec "$@" </dev/null"#;

const POLL: Duration = Duration::from_millis(5);

/// How long a server may take for a clean end before it is killed. A killed test server loses
/// nothing.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How many bytes of its log an error quotes.
const LOG_TAIL_BYTES: usize = 2000;

/// What came of starting a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    Ready,
    PortTaken,
}

/// A temporary directory and at most one process at a time, both gone when this is dropped or when
/// we die.
#[derive(Debug)]
pub struct Guarded {
    name: &'static str,
    account: Account,
    running: Option<Running>,
    // Fields drop in this order: the watchdog receives `done` only when everything is done.
    directory: TempDir,
    watchdog: Watchdog,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stop: Stop,
    paused: bool,
}

impl Guarded {
    /// Makes the directory; no process runs yet.
    ///
    /// # Errors
    /// If the directory or the watchdog cannot be made.
    pub fn new(name: &'static str) -> Result<Self> {
        Self::owned_by(Account::Ours, name)
    }

    pub(crate) fn owned_by(account: Account, name: &'static str) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("cached-repo-{name}-"))
            .tempdir()
            .context("creating a temporary directory")?;
        account.own(directory.path())?;
        let watchdog = Watchdog::new(directory.path())?;
        Ok(Self {
            name,
            account,
            running: None,
            watchdog,
            directory,
        })
    }

    /// The directory; it is removed with its contents.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process's id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// A command for [`spawn`](Self::spawn); add arguments, environment and outputs as to any
    /// other. Its standard input will be empty.
    #[must_use]
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", GATE, "cached-repo-gate"])
            .arg(program)
            .stdin(Stdio::piped())
            .process_group(0);
        command
    }

    /// Starts a [`command`](Self::command).
    ///
    /// # Errors
    /// If a process runs here already, or the new one cannot be started.
    pub fn spawn(&mut self, mut command: Command, stop: Stop) -> Result<()> {
        if self.running.is_some() {
            bail!("{} runs already; stop it first", self.name);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let gate = child.stdin.take();
        let pid = child.id();
        self.running = Some(Running {
            child,
            stop,
            paused: false,
        });
        self.watchdog.watch(pid, stop.name())?;
        let mut gate = gate.context("not a command made by `Guarded::command`")?;
        writeln!(gate, "go").with_context(|| format!("starting {}", self.name))
    }

    /// Whether and how the process has ended; `None` while it runs.
    ///
    /// # Errors
    /// If there is no process, or the system cannot tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let running = self
            .running
            .as_mut()
            .with_context(|| format!("{} was not started", self.name))?;
        let ended = running
            .child
            .try_wait()
            .with_context(|| format!("waiting for {}", self.name))?;
        if ended.is_some() {
            self.running = None;
            self.watchdog.forget()?;
        }
        Ok(ended)
    }

    /// Sends `SIGINT` to the process and its group.
    pub fn interrupt(&mut self) {
        self.send(Signal::SIGINT);
    }

    /// Asks the process to end, and kills it if it has not within 15 seconds. Does nothing if there
    /// is none.
    ///
    /// # Errors
    /// If the system cannot tell whether it ended.
    pub fn stop(&mut self) -> Result<()> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let stop = running.stop;
        if let Some(signal) = stop.signal() {
            self.send(signal);
        }
        self.send(Signal::SIGCONT);
        let deadline = Instant::now() + STOP_LIMIT;
        while stop != Stop::Kill && Instant::now() < deadline {
            if self.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        self.kill()
    }

    /// Kills the process and waits for its end. Does nothing if there is none.
    ///
    /// # Errors
    /// If the system cannot tell whether it ended.
    pub fn kill(&mut self) -> Result<()> {
        self.send(Signal::SIGKILL);
        if let Some(mut running) = self.running.take() {
            running
                .child
                .wait()
                .with_context(|| format!("waiting for {}", self.name))?;
            self.watchdog.forget()?;
        }
        Ok(())
    }

    /// Stops the process (`SIGSTOP`); returns when it really stands still. It keeps its sockets,
    /// and answers nothing.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&mut self) -> Result<()> {
        let running = self
            .running
            .as_mut()
            .with_context(|| format!("{} is not running", self.name))?;
        if running.paused {
            return Ok(());
        }
        let pid = pid_of(&running.child)?;
        signal::kill(pid, Signal::SIGSTOP).with_context(|| format!("pausing {}", self.name))?;
        // The signal is delivered when its thread is next scheduled; only this says that it has
        // been.
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => running.paused = true,
            other => {
                self.running = None;
                self.watchdog.forget()?;
                bail!("{} died while being paused: {other:?}", self.name);
            }
        }
        Ok(())
    }

    /// Lets a paused process go on (`SIGCONT`).
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&mut self) -> Result<()> {
        let running = self
            .running
            .as_mut()
            .with_context(|| format!("{} is not running", self.name))?;
        signal::kill(pid_of(&running.child)?, Signal::SIGCONT)
            .with_context(|| format!("resuming {}", self.name))?;
        running.paused = false;
        Ok(())
    }

    /// A command for a server: runs in the directory, under the account, and writes to the log.
    pub(crate) fn server_command(&self, program: &Path) -> Result<Command> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .context("opening the log")?;
        let mut command = Self::command(program);
        command
            .current_dir(self.directory())
            // A starting MariaDB removes every temporary table that it finds: in a shared /tmp,
            // those of another test's server.
            .env("TMPDIR", self.directory())
            // The messages we look for are English.
            .env("LC_ALL", "C")
            .stdout(log.try_clone().context("opening the log")?)
            .stderr(log);
        self.account.run(&mut command);
        Ok(command)
    }

    /// Runs a preparing command (`initdb`) to its end.
    pub(crate) fn run(&mut self, command: Command, stop: Stop, limit: Duration) -> Result<()> {
        self.spawn(command, stop)?;
        let deadline = Instant::now() + limit;
        loop {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(
                    "preparing {} failed ({status}); its log ends:\n{}",
                    self.name,
                    self.log_tail()
                ),
                None if Instant::now() >= deadline => {
                    self.kill()?;
                    bail!(
                        "preparing {} took over {limit:?}; its log ends:\n{}",
                        self.name,
                        self.log_tail()
                    );
                }
                None => thread::sleep(POLL),
            }
        }
    }

    /// Starts a server and polls `is_ready`, which gets the server's pid, until it says yes.
    pub(crate) fn launch(
        &mut self,
        command: Command,
        stop: Stop,
        limit: Duration,
        mut is_ready: impl FnMut(u32) -> bool,
    ) -> Result<Launch> {
        // The log of an earlier attempt must not speak for this one.
        File::create(self.log_file()).context("emptying the log")?;
        self.spawn(command, stop)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                let log = self.log_tail();
                if log.contains("Address already in use") {
                    return Ok(Launch::PortTaken);
                }
                bail!(
                    "{} ended while starting ({status}); its log ends:\n{log}",
                    self.name
                );
            }
            if self.pid().is_some_and(&mut is_ready) {
                return Ok(Launch::Ready);
            }
            if Instant::now() >= deadline {
                self.kill()?;
                bail!(
                    "{} was not ready within {limit:?}; its log ends:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// To the whole group: a server's helpers, a runner's compilers.
    fn send(&self, signal: Signal) {
        if let Some(running) = &self.running
            && let Ok(group) = pid_of(&running.child)
        {
            match signal::killpg(group, signal) {
                // It ended by itself and waits to be reaped.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => eprintln!("{}: cannot send {signal}: {error}", self.name),
            }
        }
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("log")
    }

    fn log_tail(&self) -> String {
        match fs::read(self.log_file()) {
            Ok(log) => String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..])
                .into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "(no log)".to_owned(),
            Err(error) => format!("(unreadable: {error})"),
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(
        i32::try_from(child.id()).context("a pid beyond i32")?,
    ))
}
