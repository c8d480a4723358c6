//! `cargo xtask model`: explores every interleaving of the coherence protocol.
//!
//! ```text
//! model              every case holds
//! model --deep       the large cases too
//! model --only TEXT  the cases whose name contains the text
//! model --mutate     every known mistake is caught
//! model --mutate TEXT    those whose description contains the text
//! ```

mod cases;
mod epoch;
mod explore;
mod index;
mod mutation;
mod near;
mod world;

use std::{fmt, process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    cases::{CASES, DEEP, EPOCH_CASES, INDEX_CASES, NEAR_CASES},
    explore::{System, Verdict, explore},
    mutation::{Concern, Mutation},
    world::World,
};

/// More than any case has; beyond it memory runs out.
const MOST_STATES: usize = 60_000_000;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let sound = match arguments.as_slice() {
        [] => check(false, "")?,
        ["--deep"] => check(true, "")?,
        ["--only", text] => check(true, text)?,
        ["--mutate"] => mutate("")?,
        ["--mutate", text] => mutate(text)?,
        _ => bail!("usage: cargo xtask model [--deep | --only TEXT | --mutate [TEXT]]"),
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The result of exploring a case.
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

/// The cases for this mutation whose name contains a text, each explored when it is first needed.
fn exploring(
    concern: Concern,
    deep: bool,
    only: &str,
    mutation: Mutation,
) -> Box<dyn Iterator<Item = Explored> + '_> {
    match concern {
        Concern::Row => {
            let more = if deep { DEEP } else { &[] };
            let cases = CASES.iter().chain(more);
            let cases = cases.filter(move |case| case.name.contains(only));
            Box::new(cases.map(move |case| explored(case.name, World::new(case, mutation))))
        }
        Concern::Index => Box::new(
            (INDEX_CASES.iter())
                .filter(move |case| case.name.contains(only))
                .map(move |case| explored(case.name, index::World::new(case, mutation))),
        ),
        Concern::Near => Box::new(
            (NEAR_CASES.iter())
                .filter(move |case| case.name.contains(only))
                .map(move |case| explored(case.name, near::World::new(case, mutation))),
        ),
        Concern::Epoch => Box::new(
            (EPOCH_CASES.iter())
                .filter(move |case| case.name.contains(only))
                .map(move |case| explored(case.name, epoch::World::new(case, mutation))),
        ),
    }
}

/// Explores the cases; returns whether all of them hold.
fn check(deep: bool, only: &str) -> Result<bool> {
    let (mut all, mut cases, mut total) = (true, 0, 0);
    let mut began = Instant::now();
    let concerns = [Concern::Row, Concern::Index, Concern::Near, Concern::Epoch];
    let every = concerns.map(|concern| exploring(concern, deep, only, Mutation::None));
    for Explored { name, states, end } in every.into_iter().flatten() {
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
    Ok(all && cases > 0)
}

/// Tries every mutation whose description contains a text on the cases until one catches it; returns
/// whether all were caught.
fn mutate(only: &str) -> Result<bool> {
    let mut survivors = 0;
    let mutations = Mutation::ALL.into_iter();
    let mutations: Vec<_> = mutations.filter(|(_, what)| what.contains(only)).collect();
    for (mutation, what) in &mutations {
        let mut cases = exploring(mutation.concern(), false, "", *mutation);
        let caught = cases.find_map(|explored| match explored.end {
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
    println!("{} mutations, {survivors} survived", mutations.len());
    Ok(survivors == 0 && !mutations.is_empty())
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
