//! `cargo xtask bench [name …]`: ours and the peers side by side, built with optimisations.

use std::path::Path;

use anyhow::Result;

use crate::install;
use crate::runner::{self, Outcome};

/// The program starts servers of its own.
pub(crate) fn run(root: &Path, names: &[&str]) -> Result<Outcome> {
    runner::catch_interrupts()?;
    install::missing_servers()?;
    install::missing_valgrind();
    let mut cargo = vec![
        "run",
        "--release",
        "--quiet",
        "--package",
        "cached-repo-benches",
        "--",
    ];
    cargo.extend(names);
    let title = ["bench", &names.join(" ")].join(" ");
    runner::run(title.trim_end(), runner::cargo(root, cargo))
}
