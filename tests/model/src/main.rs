//! `cargo xtask model`: explores every interleaving of the coherence protocol.
//!
//! ```text
//! model            every case holds
//! model --deep     the large cases too
//! model --mutate   every known mistake is caught
//! ```

mod cases;
mod explore;
mod index;
mod mutation;
mod world;

use std::{fmt, process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    cases::{CASES, DEEP, INDEX_CASES},
    explore::{System, Verdict, explore},
    mutation::Mutation,
    world::{Case, World},
};

/// More than any case has; beyond it memory runs out.
const MOST_STATES: usize = 60_000_000;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let sound = match arguments.as_slice() {
        [] => check(&[CASES])?,
        ["--deep"] => check(&[CASES, DEEP])?,
        ["--mutate"] => mutate()?,
        _ => bail!("usage: cargo xtask model [--deep | --mutate]"),
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What exploring a case came to.
struct Explored {
    name: &'static str,
    states: usize,
    end: End,
}

enum End {
    Holds,
    TooLarge,
    /// The shortest interleaving, ready to be printed.
    Violated {
        steps: usize,
        story: String,
    },
}

/// Explores one case of either kind.
fn explored<S>(name: &'static str, start: S) -> Explored
where
    S: System<Step: fmt::Debug> + fmt::Display,
{
    let (states, end) = match explore(start.clone(), MOST_STATES) {
        Verdict::Holds { states } => (states, End::Holds),
        Verdict::TooLarge { states } => (states, End::TooLarge),
        Verdict::Violated { states, path, why } => {
            let steps = path.len();
            let story = story(start, &path, &why);
            (states, End::Violated { steps, story })
        }
    };
    Explored { name, states, end }
}

/// Every case of every run, and more cases of rows, each explored when it is asked for.
fn exploring(rows: &[&'static [Case]], mutation: Mutation) -> impl Iterator<Item = Explored> {
    let rows: Vec<_> = rows.iter().flat_map(|cases| cases.iter()).collect();
    let rows = rows
        .into_iter()
        .map(move |case| explored(case.name, World::new(case, mutation)));
    let indexes = INDEX_CASES
        .iter()
        .map(move |case| explored(case.name, index::World::new(case, mutation)));
    rows.chain(indexes)
}

/// Explores the cases; says whether all of them hold.
fn check(rows: &[&'static [Case]]) -> Result<bool> {
    let (mut all, mut cases, mut total) = (true, 0, 0);
    let mut began = Instant::now();
    for Explored { name, states, end } in exploring(rows, Mutation::None) {
        let verdict = match &end {
            End::Holds => "holds",
            End::TooLarge => "is too large",
            End::Violated { story, .. } => {
                print!("{story}");
                "is violated"
            }
        };
        all &= matches!(end, End::Holds);
        cases += 1;
        total += states;
        let seconds = began.elapsed().as_secs_f64();
        began = Instant::now();
        println!("{states:>10} states {seconds:>6.1} s  {name:<45} {verdict}");
    }
    println!(
        "{total} states in {cases} cases: {}",
        if all { "all hold" } else { "NOT all hold" }
    );
    Ok(all)
}

/// Tries every mutation on the cases until one catches it; says whether all were caught.
fn mutate() -> Result<bool> {
    let mut survivors = 0;
    for (mutation, what) in Mutation::ALL {
        // What concerns hints is not to be seen in a row.
        let rows: &[&'static [Case]] = match mutation {
            Mutation::HintNotBlocked | Mutation::HintBelieved => &[],
            _ => &[CASES],
        };
        let caught = exploring(rows, mutation).find_map(|explored| match explored.end {
            End::Violated { steps, story } => Some((explored.name, steps, story)),
            End::Holds | End::TooLarge => None,
        });
        match caught {
            Some((case, steps, story)) => {
                println!("caught: {what}, by `{case}` in {steps} steps");
                print!("{story}");
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

/// An interleaving, step by step.
fn story<S>(start: S, path: &[S::Step], why: &str) -> String
where
    S: System<Step: fmt::Debug> + fmt::Display,
{
    let mut world = start;
    let mut story = format!("    {:<28} {world}\n", "start");
    for step in path {
        world.take(*step);
        story += &format!("    {:<28} {world}\n", format!("{step:?}"));
    }
    story + &format!("    => {why}\n")
}
