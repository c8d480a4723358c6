//! `cargo xtask ci`: everything that must pass, cheapest first. `.ci/run` and the GitHub workflow
//! call this and nothing else.

use std::path::Path;

use anyhow::Result;

use crate::runner::{self, Outcome};
use crate::{chaos, model, test, tidy};

const FMT: &[&str] = &["fmt", "--all", "--check"];

const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--all-features",
    "--",
    "-D",
    "warnings",
];

/// The workspace build turns every feature on; this keeps the crate honest without any.
const CLIPPY_BARE: &[&str] = &[
    "clippy",
    "--package",
    "cached-repo",
    "--no-default-features",
    "--",
    "-D",
    "warnings",
];

const DOC: &[&str] = &["doc", "--workspace", "--no-deps", "--all-features"];

/// What a build without features does with what others have stored.
const TEST_BARE: &[&str] = &[
    "test",
    "--package",
    "cached-repo",
    "--no-default-features",
    "--lib",
];

/// The fuzz targets are a workspace of their own; `cargo fuzz` needs it to build.
const FUZZ: &[&str] = &["build", "--manifest-path", "fuzz/Cargo.toml", "--locked"];

pub(crate) fn run(root: &Path) -> Result<Outcome> {
    runner::catch_interrupts()?;
    cargo(root, FMT)?
        .and_then(|| tidy::run(root))?
        .and_then(|| cargo(root, CLIPPY))?
        .and_then(|| cargo(root, CLIPPY_BARE))?
        .and_then(|| cargo(root, TEST_BARE))?
        .and_then(|| cargo(root, DOC))?
        .and_then(|| test::with_servers(root, &[]))?
        .and_then(|| cargo(root, FUZZ))?
        .and_then(|| model::explore(root, &[]))?
        .and_then(|| model::explore(root, &["--mutate"]))?
        .and_then(|| chaos::play(root, chaos::SHORT[0]))?
        .and_then(|| chaos::play(root, chaos::SHORT[1]))
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    let mut command = runner::cargo(root, arguments.iter().copied());
    command.env("RUSTDOCFLAGS", "-D warnings");
    runner::run(&format!("cargo {}", arguments.join(" ")), command)
}
