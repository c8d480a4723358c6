//! `cargo xtask chaos --seed N --seconds S [--database postgres|mariadb]`: processes, real servers, and
//! faults between them.
//!
//! ```text
//!   this process ── faults, by the seed ──▶ proxies, processes, cache
//!        │ starts                              │
//!        ▼                                     ▼
//!   4 workers × 6 tasks ── proxies each ── Redis, PostgreSQL or MariaDB (with an audit of every commit)
//!        │ write down what they do and see
//!        ▼
//!   histories + audit ── checker ── violations, staleness
//! ```
//! A run is a sequence of rounds. Each has a database and a namespace of its own, and ends in
//! quiet: every fault is over, every worker has ended, every TTL has passed, and a fresh process
//! reads every row through the cache. Then it is checked as a whole.
//!
//! - [`schedule`] says which faults happen when, [`stage`] carries them out;
//! - [`worker`] and [`verbs`] are what a worker process does, [`history`] what it writes down;
//! - [`database`] is the audit, [`checker`] decides.

mod checker;
mod clock;
mod database;
mod entities;
mod history;
mod schedule;
mod settings;
mod stage;
mod verbs;
mod worker;

use std::{
    collections::BTreeMap, iter::Peekable, path::Path, process::ExitCode, thread, time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    checker::{Evidence, Findings, Testimony},
    clock::{Moment, WallClock},
    database::Engine,
    schedule::Schedule,
    settings::{BOUND, CLOCK_SLACK, NEAR_BOUND, ROUND},
    stage::{Servers, Stage},
    worker::{Orders, Sabotage, VARIABLE},
};

const USAGE: &str = "usage: cargo xtask chaos --seed N --seconds S \
                     [--database postgres | mariadb] \
                     [--without-blocks | --without-leases | --without-invalidate-all]";

/// How long the verifier may take.
const VERIFY_LIMIT: Duration = Duration::from_secs(10);
/// How long the database may work on what the workers left behind.
const QUIET_LIMIT: Duration = Duration::from_secs(10);
/// Violations that are explained; the others are counted.
const MOST_EXPLAINED: usize = 5;

fn main() -> Result<ExitCode> {
    if let Some(orders) = std::env::var_os(VARIABLE) {
        let orders: Orders = serde_json::from_slice(orders.as_encoded_bytes())
            .with_context(|| format!("reading {VARIABLE}"))?;
        worker::run(orders)?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&Plan::parse(&arguments)?)
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    time: Duration,
    engine: Engine,
    sabotage: Sabotage,
}

impl Plan {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut plan = Self {
            seed: 1,
            time: Duration::from_secs(10),
            engine: Engine::Postgres,
            sabotage: Sabotage::None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().context(USAGE);
            let number = |text: &str| -> Result<u64> {
                text.parse()
                    .with_context(|| format!("{word}: `{text}` is no number"))
            };
            match *word {
                "--seed" => plan.seed = number(value()?)?,
                "--seconds" => plan.time = Duration::from_secs(number(value()?)?),
                "--database" => {
                    plan.engine = match value()? {
                        "postgres" => Engine::Postgres,
                        "mariadb" => Engine::MariaDb,
                        _ => bail!(USAGE),
                    }
                }
                "--without-blocks" => plan.sabotage = Sabotage::WithoutBlocks,
                "--without-leases" => plan.sabotage = Sabotage::WithoutLeases,
                "--without-invalidate-all" => plan.sabotage = Sabotage::WithoutInvalidateAll,
                _ => bail!(USAGE),
            }
        }
        ensure!(!plan.time.is_zero(), "--seconds 0 would show nothing");
        Ok(plan)
    }
}

/// The figures of all rounds.
#[derive(Debug, Default)]
struct Totals {
    findings: Findings,
    faults: BTreeMap<&'static str, u64>,
    rounds: u32,
    violations: usize,
}

fn run(plan: &Plan) -> Result<ExitCode> {
    let digest = Schedule::digest(plan.seed, plan.time);
    println!(
        "chaos: seed {}, schedule {digest:016x}, {:?}",
        plan.seed, plan.engine
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let mut servers = Servers::start(plan.engine)?;
    let mut schedule = Schedule::new(plan.seed).peekable();
    let mut totals = Totals::default();
    let mut offset = Duration::ZERO;
    while offset < plan.time && totals.violations == 0 {
        let length = ROUND.min(plan.time - offset);
        let time = (offset, length);
        round(
            plan,
            &runtime,
            &mut servers,
            &mut schedule,
            time,
            &mut totals,
        )?;
        offset += length;
    }
    summarize(&totals);
    Ok(if totals.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Plays the schedule from `offset` on for `length`, waits for quiet, and checks.
fn round(
    plan: &Plan,
    runtime: &tokio::runtime::Runtime,
    servers: &mut Servers,
    schedule: &mut Peekable<Schedule>,
    (offset, length): (Duration, Duration),
    totals: &mut Totals,
) -> Result<()> {
    totals.rounds += 1;
    let name = format!("chaos_{}", totals.rounds);
    let directory = tempfile::tempdir().context("creating a directory for the histories")?;
    let wall = WallClock::observe()?;
    let (engine, port) = (plan.engine, servers.database_port());
    let conn = runtime.block_on(database::create(engine, port, &name))?;

    let began = Moment::now();
    let until = began.plus(length);
    let mut stage = Stage::open(
        servers,
        &name,
        directory.path(),
        *plan,
        totals.rounds,
        until,
    )?;
    stage.play(schedule, began, offset)?;
    stage.close()?;
    runtime.block_on(database::until_quiet(engine, &conn, QUIET_LIMIT))?;
    thread::sleep(BOUND);
    stage.verify(VERIFY_LIMIT)?;

    let drift = wall.drift(WallClock::observe()?);
    ensure!(
        drift < CLOCK_SLACK,
        "the wall clock was set by {drift:?} during the round"
    );
    let mut evidence = Evidence {
        logs: testimonies(&stage, directory.path())?,
        audit: runtime.block_on(database::audit(engine, &conn, wall))?,
        losses: std::mem::take(&mut stage.losses),
        rows: runtime.block_on(database::rows(&conn))?,
        hung: std::mem::take(&mut stage.hung),
        events: std::mem::take(&mut stage.events),
    };
    for (name, count) in &stage.faults {
        *totals.faults.entry(name).or_default() += count;
    }
    drop(stage);
    runtime.block_on(conn.close())?;
    evidence.events.push((until, "the time is up".into()));

    let findings = checker::check(&evidence);
    for violation in findings.violations.iter().take(MOST_EXPLAINED) {
        println!("{}", checker::explain(&evidence, violation));
    }
    println!(
        "round {}: {} writes, {} reads, {} violations",
        totals.rounds,
        findings.operations,
        findings.reads,
        findings.violations.len()
    );
    totals.add(findings);
    Ok(())
}

fn testimonies(stage: &Stage<'_>, directory: &Path) -> Result<Vec<Testimony>> {
    let processes = stage.processes.iter();
    processes
        // One that was killed before it began has written nothing.
        .filter(|(process, _)| process.log_file(directory).exists())
        .map(|(process, policy)| {
            Ok(Testimony {
                process: *process,
                policy: *policy,
                records: history::read(&process.log_file(directory))?,
            })
        })
        .collect()
}

impl Totals {
    fn add(&mut self, found: Findings) {
        let sum = &mut self.findings;
        sum.operations += found.operations;
        sum.acknowledged += found.acknowledged;
        sum.failed += found.failed;
        sum.unknown += found.unknown;
        sum.reads += found.reads;
        sum.cached += found.cached;
        sum.claimed += found.claimed;
        sum.stale += found.stale;
        sum.stale_max = sum.stale_max.max(found.stale_max);
        sum.near.add(&found.near);
        sum.states += found.states;
        sum.cascaded += found.cascaded;
        sum.reincarnations += found.reincarnations;
        for (cause, count) in found.exposed {
            *sum.exposed.entry(cause).or_default() += count;
        }
        self.violations += found.violations.len();
    }
}

fn summarize(totals: &Totals) {
    let found = &totals.findings;
    let faults: u64 = totals.faults.values().sum();
    let list = |counts: Vec<String>| match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.join(", "),
    };
    let by_kind = totals
        .faults
        .iter()
        .map(|(name, count)| format!("{name} {count}"));
    println!("faults: {}", list(by_kind.collect()));
    println!(
        "writes: {} acknowledged, {} failed, {} unknown; {} states committed, {} with the deletion of \
         another row, {} on a row's earlier life",
        found.acknowledged,
        found.failed,
        found.unknown,
        found.states,
        found.cascaded,
        found.reincarnations
    );
    let exposed = found
        .exposed
        .iter()
        .map(|(cause, count)| format!("{cause:?} {count}").to_lowercase());
    println!("writes without protection: {}", list(exposed.collect()));
    let near = &found.near;
    let strict = found.reads - near.hits - near.absences;
    println!(
        "claimed={} of {strict} reads past the near caches ({:.2} %); bound of the others: {} ms",
        found.claimed,
        100.0 * found.claimed as f64 / strict.max(1) as f64,
        BOUND.as_millis()
    );
    println!(
        "from the cache: {} of {} reads; {} absences were perhaps near; bound of near reads: {} ms",
        found.cached,
        found.reads,
        near.absences,
        NEAR_BOUND.as_millis()
    );
    println!(
        "operations={} reads={} faults={faults} violations={} stale={} stale_max_ms={} \
         near_reads={} near_hits={} near_stale={} near_stale_max_ms={}",
        found.operations + found.reads,
        found.reads,
        totals.violations,
        found.stale,
        found.stale_max.as_millis(),
        near.reads,
        near.hits,
        near.stale,
        near.stale_max.as_millis()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the command line of the documentation is understood, and nothing else.
    #[test]
    fn the_command_line_is_a_plan() {
        let plan = Plan::parse(&["--seed", "7", "--seconds", "60", "--without-blocks"]).unwrap();
        assert_eq!((plan.seed, plan.time.as_secs()), (7, 60));
        assert_eq!(plan.sabotage, Sabotage::WithoutBlocks);
        assert_eq!(plan.engine, Engine::Postgres);
        let plan = Plan::parse(&["--database", "mariadb"]).unwrap();
        assert_eq!(plan.engine, Engine::MariaDb);
        for wrong in [
            &["--seed"][..],
            &["--seed", "x"],
            &["--database", "oracle"],
            &["--secs", "1"],
            &["--seconds", "0"],
        ] {
            assert!(Plan::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
