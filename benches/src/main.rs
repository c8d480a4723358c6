//! `cargo xtask bench [name …]`: cached-repo and its peers, measured side by side.
//!
//! Ours and the peers run in turn in one process, over the same servers, round after round, so that
//! whatever the machine does besides it does to all of them. See BENCHMARKS.md for how to read the
//! figures.
//!
//! - [`stage`] is where it happens, [`city`] the rows, [`keys`] which of them are asked for;
//! - [`peers`] are those that are compared, [`load`] puts load on them;
//! - [`cases`] say what is measured, [`cached_repo_report`] prints it.

// A case's future holds those of everyone who is compared.
#![recursion_limit = "256"]

mod cases;
mod city;
mod keys;
mod load;
mod peers;
mod stage;

use std::{path::Path, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use cached_repo_report::{Figure, describe};

use crate::{
    cases::{Case, SPIN, near, spin, stampede},
    stage::Stage,
};

const RESULTS: &str = "target/bench/results.json";
/// What a name that does not exist exits with.
const USAGE_EXIT_CODE: u8 = 2;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // No runtime: its threads would be counted.
    if let [SPIN, work, iterations, ref servers @ ..] = arguments[..] {
        spin(work, iterations, servers)?;
        return Ok(ExitCode::SUCCESS);
    }
    run(&arguments)
}

#[tokio::main]
async fn run(arguments: &[&str]) -> Result<ExitCode> {
    if let [stampede::CHILD, database_url, redis_url] = *arguments {
        stampede::child(database_url, redis_url).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [near::HOARD, keeper, database_url, redis_url] = *arguments {
        near::hoard(keeper, database_url, redis_url).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let cases = cases::all();
    if let Some(unknown) = unknown(&cases, arguments) {
        eprintln!("no figure's name begins with `{unknown}`; these there are:");
        for figure in cases.iter().flat_map(|case| &case.figures) {
            eprintln!("  {figure}");
        }
        return Ok(ExitCode::from(USAGE_EXIT_CODE));
    }
    measure(&cases, arguments).await?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(cases: &[Case], names: &[&str]) -> Result<()> {
    let machine = describe(&[("postgresql", "postgres"), ("redis", "redis-server")]);
    for (what, value) in &machine {
        println!("# {what}: {value}");
    }
    let stage = Stage::new()?;
    let mut figures: Vec<Figure> = Vec::new();
    for case in cases.iter().filter(|case| is_wanted(case, names)) {
        let began = Instant::now();
        let measured = (case.run)(&stage)
            .await
            .with_context(|| format!("measuring {}", case.name))?;
        for figure in measured {
            ensure!(
                case.figures.contains(&figure.name),
                "{} does not announce {}",
                case.name,
                figure.name
            );
            if names.is_empty() || begins_with_any(&figure.name, names) {
                println!("{figure}");
                figures.push(figure);
            }
        }
        println!("# {} took {:.1?}", case.name, began.elapsed());
    }
    cached_repo_report::write(Path::new(RESULTS), &machine, &figures)?;
    println!("# written to {RESULTS}");
    Ok(())
}

/// Whether a figure of the case is asked for; no names ask for all.
fn is_wanted(case: &Case, names: &[&str]) -> bool {
    names.is_empty()
        || case
            .figures
            .iter()
            .any(|figure| begins_with_any(figure, names))
}

fn begins_with_any(figure: &str, names: &[&str]) -> bool {
    names.iter().any(|name| figure.starts_with(name))
}

/// The first of the names that no figure begins with.
fn unknown<'a>(cases: &[Case], names: &[&'a str]) -> Option<&'a str> {
    let mut names = names.iter().copied();
    names.find(|name| !cases.iter().any(|case| is_wanted(case, &[name])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> Vec<String> {
        let cases = cases::all().into_iter();
        let wanted = cases.filter(|case| is_wanted(case, names));
        wanted.map(|case| case.name).collect()
    }

    /// Goal: the name of a bar, or the beginning of several, runs what gives them and nothing else.
    #[test]
    fn a_name_chooses_the_cases_that_give_it() {
        assert_eq!(wanted(&["shared_hit_256_vs_cached"]), ["shared_hit_256"]);
        assert_eq!(
            wanted(&["shared_hit_256", "cold_rows"]),
            ["shared_hit_256", "shared_hit_256_uniform", "cold_256"]
        );
        assert_eq!(wanted(&[]).len(), cases::all().len());
    }

    /// Goal: a misspelt name is reported, and not taken for "nothing to do".
    #[test]
    fn a_name_that_does_not_exist_is_found_out() {
        let cases = cases::all();
        assert_eq!(unknown(&cases, &["save_1", "safe_1"]), Some("safe_1"));
        assert_eq!(unknown(&cases, &["save_1"]), None);
    }
}
