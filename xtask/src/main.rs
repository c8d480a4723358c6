//! The project's own commands: `cargo xtask <command>`.
//!
//! This file knows the commands' names and turns their outcome into an exit code; each command has
//! a file of its own.

mod bench;
mod chaos;
mod ci;
mod compile;
mod install;
mod layers;
mod model;
mod runner;
mod test;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::runner::Outcome;

const USAGE: &str = "\
usage: cargo xtask <command>

commands:
  test [-- ARGS]  install missing servers, start private ones, run all tests and doctests;
                  ARGS go to the test runner (nextest if it is there, else cargo test), as in
                  `cargo xtask test -- -p cached-repo-harness`, and leave out the doctests
  with -- COMMAND start the same servers, name them in the environment, run the command
  model [--deep | --only TEXT | --mutate [TEXT]]
                  explore every interleaving of the coherence protocol; --deep takes the large
                  cases too, --mutate checks that every known mistake is caught; TEXT picks some
  chaos [--seed N] [--seconds S] [--database postgres | mariadb]
        [--without-blocks | --without-leases | --without-invalidate-all]
                  processes over real servers, with faults between them: delays, cuts, held
                  commands, kill -9, a cache that forgets; a checker decides whether what they
                  saw was promised; --without-… leaves a part of the protocol out, which must be
                  seen
  bench [NAME …]  ours and the peers side by side: one line per figure whose name begins with a
                  NAME, of all without; also as JSON in target/bench/results.json
  bench compile [--library PATH] [--entities N] [--rounds N] [--only dev|release]
                  the build time and binary size of a program with us and with SeaORM alone; takes
                  minutes, is not part of `bench`; also as JSON in target/bench/compile.json
  ci              fmt, tidy, clippy, docs, fuzz target, test, model, chaos: what CI runs
  tidy [--layers] check the house rules that no other tool knows; --layers: only which module
                  imports which, with all that the import circles are made of
";

/// What a wrong command line exits with, as shells and most tools do.
const USAGE_EXIT_CODE: u8 = 2;

fn main() -> ExitCode {
    match run() {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Outcome> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = project_root()?;
    match arguments.as_slice() {
        ["test"] => test::run(&root, &[]),
        ["test", "--", filters @ ..] => test::run(&root, filters),
        ["with", "--", program, arguments @ ..] => test::with(&root, program, arguments),
        ["model", arguments @ ..] => model::run(&root, arguments),
        ["chaos", arguments @ ..] => chaos::run(&root, arguments),
        ["bench", "compile", arguments @ ..] => compile::run(&root, arguments),
        ["bench", names @ ..] => bench::run(&root, names),
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["tidy", "--layers"] => layers::run(&root),
        ["help" | "-h" | "--help"] => {
            print!("{USAGE}");
            Ok(Outcome::Passed)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(Outcome::Failed(USAGE_EXIT_CODE))
        }
    }
}

/// Where the workspace is; commands work from any directory in it.
fn project_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent")?;
    if !root.join("Cargo.lock").is_file() {
        bail!(
            "{} is not the workspace any more; build xtask again",
            root.display()
        );
    }
    Ok(root.to_owned())
}
