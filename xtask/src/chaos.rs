//! `cargo xtask chaos`: processes over real servers, faults between them, and a checker.

use std::path::Path;

use anyhow::Result;

use crate::install;
use crate::runner::{self, Outcome};

/// What CI runs: ten seconds, of one seed, on each database.
pub(crate) const SHORT: [&[&str]; 2] = [
    &["--seed", "1", "--seconds", "10"],
    &["--seed", "1", "--seconds", "10", "--database", "mariadb"],
];

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    runner::catch_interrupts()?;
    play(root, arguments)
}

/// For callers that have called [`runner::catch_interrupts`] already.
///
/// The program starts servers of its own: it kills and empties them.
pub(crate) fn play(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    install::missing_servers()?;
    let mut cargo = vec!["run", "--quiet", "--package", "cached-repo-chaos", "--"];
    cargo.extend(arguments);
    let title = ["chaos", &arguments.join(" ")].join(" ");
    runner::run(title.trim_end(), runner::cargo(root, cargo))
}
