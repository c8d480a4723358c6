//! A Redis of the test's own.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binary;
use crate::port;
use crate::process::{Guarded, Launch};
use crate::stop::Stop;

/// Valkey is Redis under another name; some distributions ship only that.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

const START_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A private Redis on a loopback port, without persistence. Dropping it kills it and removes its
/// directory, also when it is paused.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use cached_repo_harness::Redis;
/// let mut redis = Redis::builder().arg("maxmemory", "4mb").start()?;
/// println!("listening on {}", redis.url());
/// redis.pause()?; // clients hang
/// redis.resume()?;
/// redis.restart()?; // the same port, empty
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Redis {
    guarded: Guarded,
    program: PathBuf,
    arguments: Vec<OsString>,
    port: u16,
}

/// Settings for a [`Redis`]; nothing happens until [`start`](Self::start).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisBuilder {
    port: Option<u16>,
    arguments: Vec<OsString>,
}

impl Redis {
    /// Starts a Redis with default settings on a free port.
    ///
    /// # Errors
    /// If `redis-server` is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// For other settings.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port, the same for the life of this value.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.guarded.directory()
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.guarded.pid()
    }

    /// Stops the process where it stands (`SIGSTOP`): connections stay open and new ones are
    /// accepted by the kernel, but nothing is answered. A network that swallows packets looks like
    /// this.
    ///
    /// # Errors
    /// If the server is not running.
    pub fn pause(&mut self) -> Result<()> {
        self.guarded.pause()
    }

    /// Ends a [`pause`](Self::pause); what was sent meanwhile is answered now.
    ///
    /// # Errors
    /// If the server is not running.
    pub fn resume(&mut self) -> Result<()> {
        self.guarded.resume()
    }

    /// Kills the server (`SIGKILL`) and waits for its end: connections are reset, new ones refused.
    /// The directory stays.
    ///
    /// # Errors
    /// If the system cannot tell whether it ended.
    pub fn kill(&mut self) -> Result<()> {
        self.guarded.kill()
    }

    /// Kills the server if it runs, and starts it again on the same port. It comes back empty.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        match self.launch(self.port)? {
            Launch::Ready => Ok(()),
            Launch::PortTaken => bail!("someone took the killed Redis's port {}", self.port),
        }
    }

    /// Ends the server and removes its directory, as dropping does, but reports what went wrong.
    ///
    /// # Errors
    /// If the system cannot tell whether it ended.
    pub fn stop(mut self) -> Result<()> {
        self.guarded.stop()
    }

    pub(crate) fn program() -> Option<PathBuf> {
        binary::find(&PROGRAMS)
    }

    fn launch(&mut self, port: u16) -> Result<Launch> {
        let mut command = self.guarded.server_command(&self.program)?;
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
                "--protected-mode",
                "no",
            ])
            .arg("--dir")
            .arg(self.guarded.directory())
            // Last, so that a test's own setting wins.
            .args(&self.arguments);
        self.guarded
            .launch(command, Stop::Kill, START_LIMIT, |pid| answers(port, pid))
    }
}

impl RedisBuilder {
    /// Listens on this port. Default: a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds a directive of `redis.conf`, such as `arg("maxmemory", "4mb")`. Default: none.
    pub fn arg(mut self, directive: &str, value: &str) -> Self {
        self.arguments.push(format!("--{directive}").into());
        self.arguments.push(value.into());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// If `redis-server` is not installed or does not start, or a port that was asked for is taken.
    pub fn start(self) -> Result<Redis> {
        let program = Redis::program()
            .context("redis-server is not installed; `cargo xtask test` installs it")?;
        let guarded = Guarded::new("redis")?;
        let mut redis = Redis {
            guarded,
            program,
            arguments: self.arguments,
            port: 0,
        };
        redis.port = match self.port {
            None => port::on_free_port(|port| redis.launch(port))?,
            Some(port) => match redis.launch(port)? {
                Launch::Ready => port,
                Launch::PortTaken => bail!("port {port} is taken"),
            },
        };
        Ok(redis)
    }
}

/// Whether the Redis on this port answers and is the process we started, not one that took the port
/// before it.
fn answers(port: u16, pid: u32) -> bool {
    let Ok(reply) = ask(port, "INFO server\r\n") else {
        return false;
    };
    // A server with a password does not say who it is; its request for the password is proof
    // enough.
    reply.starts_with("-NOAUTH") || reply.contains(&format!("process_id:{pid}\r\n"))
}

/// Sends one inline command and reads until the server closes.
fn ask(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(stream, "{command}QUIT\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}
