//! Running other commands so that an interrupt ends them first and us after.
//!
//! Invariants:
//! - Ctrl-C and SIGTERM reach only us, and we pass on exactly one SIGINT: the command leads its own
//!   process group, and a runner that gets two stops waiting for its children.
//! - Whoever holds servers hears of an interrupt as [`Outcome::Interrupted`] and gets to drop them.
//!   While no command runs there is nobody to tell, and we exit at once; the harness's watchdogs
//!   clean up then.

use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cached_repo_harness::{Guarded, Stop};

/// What a shell reports for a command that ended by SIGINT.
const INTERRUPTED_EXIT_CODE: u8 = 130;

const POLL: Duration = Duration::from_millis(20);

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);
static COMMAND_RUNS: AtomicBool = AtomicBool::new(false);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(u8),
    Interrupted,
}

impl Outcome {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::Failed(code) => ExitCode::from(code),
            Self::Interrupted => ExitCode::from(INTERRUPTED_EXIT_CODE),
        }
    }

    /// The first outcome that is not `Passed`; what follows it is not run.
    pub(crate) fn and_then(self, next: impl FnOnce() -> Result<Self>) -> Result<Self> {
        match self {
            Self::Passed => next(),
            other => Ok(other),
        }
    }
}

/// From now on Ctrl-C, SIGTERM and SIGHUP go through here. Call it once.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        let earlier = INTERRUPTS.fetch_add(1, Ordering::SeqCst);
        // The second interrupt kills the command, see `run`; the third is for a bug of ours.
        if !COMMAND_RUNS.load(Ordering::SeqCst) || earlier >= 2 {
            eprintln!("xtask: interrupted");
            process::exit(i32::from(INTERRUPTED_EXIT_CODE));
        }
    })
    .context("catching Ctrl-C")
}

/// A cargo command that speaks to our terminal, for [`run`].
pub(crate) fn cargo<'a>(root: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Guarded::command(&cargo_program());
    command.args(arguments).current_dir(root);
    command
}

/// The cargo that runs us, so that `cargo +toolchain xtask` stays with its toolchain.
pub(crate) fn cargo_program() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Says what it runs, and runs it to its end.
pub(crate) fn run(title: &str, command: Command) -> Result<Outcome> {
    println!("xtask: {title}");
    let mut guarded = Guarded::new("xtask")?;
    COMMAND_RUNS.store(true, Ordering::SeqCst);
    let outcome = wait(&mut guarded, command);
    COMMAND_RUNS.store(false, Ordering::SeqCst);
    outcome.with_context(|| format!("running {title}"))
}

fn wait(guarded: &mut Guarded, command: Command) -> Result<Outcome> {
    guarded.spawn(command, Stop::Interrupt)?;
    let mut passed_on = 0;
    loop {
        // One that just missed the command before counts here too.
        let interrupts = INTERRUPTS.load(Ordering::SeqCst);
        if let Some(status) = guarded.try_wait()? {
            // A status without a code is a death by signal.
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1);
            return Ok(match (interrupts, code) {
                (1.., _) => Outcome::Interrupted,
                (0, 0) => Outcome::Passed,
                (0, code) => Outcome::Failed(code),
            });
        }
        match (passed_on, interrupts) {
            (0, 1..) => {
                eprintln!("xtask: interrupted; again to kill");
                guarded.interrupt();
                passed_on = 1;
            }
            (1, 2..) => {
                guarded.kill()?;
                return Ok(Outcome::Interrupted);
            }
            _ => {}
        }
        thread::sleep(POLL);
    }
}
