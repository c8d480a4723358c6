//! Instructions by `valgrind --tool=callgrind`, which repeat on a noisy machine: this program runs
//! itself under it, once with N iterations and once with 2 N, and what differs is the iterations.

use std::{
    env,
    hint::black_box,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cached_repo::internals::{Entry, KeySpace};
use cached_repo_report::Figure;

use super::{Case, codec, near};
use crate::city;

/// The first argument of a run under callgrind; what to do, how often and with what follow.
pub(crate) const SPIN: &str = "--spin";

const ITERATIONS: u64 = 10_000;

/// So many iterations of something, with these servers.
type Work = fn(u64, &[&str]) -> Result<()>;

/// What is counted.
const WORK: [(&str, Work); 3] = [
    ("decode", decode),
    ("key_text", key_text),
    (near::HIT, near::spin),
];

pub(super) fn cases() -> Vec<Case> {
    // A near hit needs servers, and is a case of its own.
    WORK[..2]
        .iter()
        .map(|&(work, _)| {
            let name = format!("{work}_instructions");
            Case::new(name.clone(), vec![name.clone()], move |_| {
                let name = name.clone();
                Box::pin(async move { count(name, work, &[]) })
            })
        })
        .collect()
}

/// The instructions of an iteration.
pub(super) fn count(name: String, work: &str, servers: &[&str]) -> Result<Vec<Figure>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("note: {name} is left out: valgrind is not installed");
        return Ok(Vec::new());
    }
    let once = counted(work, ITERATIONS, servers)?;
    let twice = counted(work, 2 * ITERATIONS, servers)?;
    let each = (twice - once) as f64 / ITERATIONS as f64;
    Ok(vec![Figure::exact(name, "instructions", each.round())])
}

fn counted(work: &str, iterations: u64, servers: &[&str]) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([SPIN, work, &iterations.to_string()])
        .args(servers)
        .stdin(Stdio::null())
        .output()
        .context("running valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.with_context(|| format!("valgrind counted nothing:\n{said}"))?;
    Ok(count.trim().parse()?)
}

/// What a run under callgrind does.
pub(crate) fn spin(work: &str, iterations: &str, servers: &[&str]) -> Result<()> {
    let Some((_, run)) = WORK.into_iter().find(|(name, _)| *name == work) else {
        bail!("nothing is called `{work}`");
    };
    run(iterations.parse()?, servers)
}

/// From the bytes of Redis to a row: header, checksum, columns.
fn decode(iterations: u64, _: &[&str]) -> Result<()> {
    let city = city::all()?.swap_remove(0);
    let entry = codec::sealed(&city)?;
    let bytes = Bytes::from(entry.to_bytes());
    for _ in 0..iterations {
        let entry = Entry::from_bytes(black_box(&bytes))?;
        black_box(codec::unsealed(&entry)?);
    }
    Ok(())
}

fn key_text(iterations: u64, _: &[&str]) -> Result<()> {
    let space = KeySpace::new("bench", "city");
    for id in 0..iterations {
        black_box(space.row(black_box(1_000_000 + id as i64)));
    }
    Ok(())
}
