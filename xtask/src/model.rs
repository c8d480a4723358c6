//! `cargo xtask model`: the model checker, built with optimisations.

use std::path::Path;

use anyhow::Result;

use crate::runner::{self, Outcome};

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    runner::catch_interrupts()?;
    explore(root, arguments)
}

/// For callers that have called [`runner::catch_interrupts`] already.
pub(crate) fn explore(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    let mut cargo = vec![
        "run",
        "--release",
        "--quiet",
        "--package",
        "cached-repo-model",
        "--",
    ];
    cargo.extend(arguments);
    let title = ["model", &arguments.join(" ")].join(" ");
    runner::run(title.trim_end(), runner::cargo(root, cargo))
}
