//! Cleaning up after a process that cannot do it itself, because it was killed.
//!
//! `PR_SET_PDEATHSIG` would need unsafe code and is Linux only. A pipe does it too: the kernel
//! closes our end however we die, and a shell on the other end notices.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

const SCRIPT: &str = include_str!("watchdog.sh");

/// A shell that waits for our death. See `watchdog.sh`.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "cached-repo-watchdog"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // A group of its own, or Ctrl-C in the terminal and a test runner's time-out would end
            // it with us.
            .process_group(0)
            .spawn()
            .context("starting the watchdog shell")?;
        Ok(Self { shell })
    }

    /// From now on, our death ends this process group too.
    pub(crate) fn watch(&mut self, group: u32, signal: &str) -> Result<()> {
        self.tell(&format!("{group} {signal}"))
    }

    /// The group is gone; its number may soon be someone else's.
    pub(crate) fn forget(&mut self) -> Result<()> {
        self.tell("-")
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let pipe = self
            .shell
            .stdin
            .as_mut()
            .context("the watchdog has no pipe")?;
        writeln!(pipe, "{line}").context("the watchdog shell is gone")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // If someone killed the watchdog there is nothing left to tell it, only to reap. `wait`
        // closes the pipe.
        let _ = self.tell("done");
        let _ = self.shell.wait();
    }
}
