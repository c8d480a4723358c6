//! `cargo xtask model`: explores every interleaving of the coherence protocol.
//!
//! ```text
//! model            every case holds
//! model --deep     the large cases too
//! model --mutate   every known mistake is caught
//! ```

mod cases;
mod explore;
mod mutation;
mod world;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    cases::{CASES, DEEP},
    explore::{System, Verdict, explore},
    mutation::Mutation,
    world::{Case, Step, World},
};

/// More than any case has; beyond it memory runs out.
const MOST_STATES: usize = 60_000_000;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let sound = match arguments.as_slice() {
        [] => check(CASES)?,
        ["--deep"] => check(CASES)? & check(DEEP)?,
        ["--mutate"] => mutate()?,
        _ => bail!("usage: cargo xtask model [--deep | --mutate]"),
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Explores the cases; says whether all of them hold.
fn check(cases: &'static [Case]) -> Result<bool> {
    let mut all = true;
    let mut total = 0;
    for case in cases {
        let began = Instant::now();
        let (states, verdict) = match explore(World::new(case, Mutation::None), MOST_STATES) {
            Verdict::Holds { states } => (states, "holds"),
            Verdict::TooLarge { states } => (states, "is too large"),
            Verdict::Violated { states, path, why } => {
                print_path(case, Mutation::None, &path, &why);
                (states, "is violated")
            }
        };
        all &= verdict == "holds";
        total += states;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{states:>10} states {seconds:>6.1} s  {:<45} {verdict}",
            case.name
        );
    }
    println!(
        "{total} states in {} cases: {}",
        cases.len(),
        if all { "all hold" } else { "NOT all hold" }
    );
    Ok(all)
}

/// Tries every mutation on the cases until one catches it; says whether all were caught.
fn mutate() -> Result<bool> {
    let mut survivors = 0;
    for (mutation, what) in Mutation::ALL {
        let caught =
            CASES.iter().find_map(
                |case| match explore(World::new(case, mutation), MOST_STATES) {
                    Verdict::Violated { path, why, .. } => Some((case, path, why)),
                    Verdict::Holds { .. } | Verdict::TooLarge { .. } => None,
                },
            );
        match caught {
            Some((case, path, why)) => {
                println!("caught: {what}, by `{}` in {} steps", case.name, path.len());
                print_path(case, mutation, &path, &why);
            }
            None => {
                survivors += 1;
                println!("SURVIVED: {what}");
            }
        }
    }
    println!("{} mutations, {survivors} survived", Mutation::ALL.len());
    Ok(survivors == 0)
}

/// Prints an interleaving, step by step.
fn print_path(case: &'static Case, mutation: Mutation, path: &[Step], why: &str) {
    let mut world = World::new(case, mutation);
    println!("    {:<28} {world}", "start");
    for step in path {
        world.take(*step);
        println!("    {:<28} {world}", format!("{step:?}"));
    }
    println!("    => {why}");
}
