//! `cargo xtask test`: every test of the workspace, with private servers to run against.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use cached_repo_harness::{Guarded, Servers};

use crate::install;
use crate::runner::{self, Outcome};

/// The crate that is built with the least features of SeaORM, and so in a workspace of its own.
const LEAST: [&str; 6] = [
    "test",
    "--locked",
    "--manifest-path",
    "tests/least/Cargo.toml",
    "--target-dir",
    "target/least",
];

/// The program that runs the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Nextest,
    CargoTest,
}

pub(crate) fn run(root: &Path, filters: &[&str]) -> Result<Outcome> {
    runner::catch_interrupts()?;
    with_servers(root, filters)
}

/// For callers that have called [`runner::catch_interrupts`] already.
pub(crate) fn with_servers(root: &Path, filters: &[&str]) -> Result<Outcome> {
    served(|environment| {
        let cargo = |arguments: Vec<&str>| {
            let title = format!("cargo {}", arguments.join(" "));
            let mut command = runner::cargo(root, arguments);
            command.envs(environment.iter().map(|(variable, url)| (variable, url)));
            runner::run(&title, command)
        };
        cargo(arguments(Runner::detect(root), filters))?.and_then(|| match filters {
            [] => cargo(vec!["test", "--workspace", "--doc", "--all-features"])?
                .and_then(|| cargo(LEAST.to_vec())),
            _ => Ok(Outcome::Passed),
        })
    })
}

/// `cargo xtask with -- COMMAND…`: any command with the servers' addresses in its environment.
pub(crate) fn with(root: &Path, program: &str, arguments: &[&str]) -> Result<Outcome> {
    runner::catch_interrupts()?;
    served(|environment| {
        let mut command = Guarded::command(Path::new(program));
        command.args(arguments).current_dir(root);
        command.envs(environment.iter().map(|(variable, url)| (variable, url)));
        runner::run(program, command)
    })
}

/// Starts the servers, does the work, and stops them whatever became of it.
fn served(work: impl FnOnce(&[(&'static str, String)]) -> Result<Outcome>) -> Result<Outcome> {
    install::missing_servers()?;
    println!("xtask: starting redis, postgresql and mariadb");
    let servers = Servers::start().context("starting the servers")?;
    let environment = servers.environment();
    for (variable, url) in &environment {
        println!("xtask: {variable}={url}");
    }
    let outcome = work(&environment);
    println!("xtask: stopping the servers");
    // The work's own outcome comes first, whatever becomes of the servers.
    let stopped = servers.stop().context("stopping the servers");
    let outcome = outcome?;
    stopped?;
    Ok(outcome)
}

impl Runner {
    fn detect(root: &Path) -> Self {
        let mut probe = Command::new(runner::cargo_program());
        probe.args(["nextest", "--version"]).current_dir(root);
        probe
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match probe.status() {
            Ok(status) if status.success() => Self::Nextest,
            _ => Self::CargoTest,
        }
    }
}

/// What to tell cargo. Both runners build the examples too.
fn arguments<'a>(runner: Runner, filters: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = match runner {
        Runner::Nextest => vec!["nextest", "run", "--all-features"],
        Runner::CargoTest => vec!["test", "--all-features"],
    };
    // To cargo, `--workspace` wins over `-p`.
    if !filters
        .iter()
        .any(|filter| filter.starts_with("-p") || filter.starts_with("--package"))
    {
        arguments.push("--workspace");
    }
    // Leaves out the doctests, which have their own step; a filter may choose its own targets.
    if runner == Runner::CargoTest && filters.is_empty() {
        arguments.push("--all-targets");
    }
    arguments.extend(filters);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a full run covers the workspace and every feature with either runner.
    #[test]
    fn without_filters_the_whole_workspace_is_tested() {
        assert_eq!(
            arguments(Runner::Nextest, &[]),
            ["nextest", "run", "--all-features", "--workspace"]
        );
        assert_eq!(
            arguments(Runner::CargoTest, &[]),
            ["test", "--all-features", "--workspace", "--all-targets"]
        );
    }

    /// Goal: asking for one package runs that package only.
    #[test]
    fn a_package_filter_is_not_overruled() {
        for filter in [&["-p", "one"][..], &["-pone"], &["--package=one"]] {
            let arguments = arguments(Runner::Nextest, filter);
            assert!(!arguments.contains(&"--workspace"), "{arguments:?}");
            assert!(arguments.ends_with(filter), "{arguments:?}");
        }
        assert!(arguments(Runner::Nextest, &["some_test"]).contains(&"--workspace"));
    }
}
