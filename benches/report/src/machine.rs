//! On what it was measured.

use std::{fs, process::Command, thread};

/// What is known of the machine, the compiler, and the versions of `programs` that were used: each
/// is asked with `--version`.
#[must_use]
pub fn describe(programs: &[(&str, &str)]) -> Vec<(String, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let machine = [
        ("cpu", cpu()),
        ("cores", Some(cores.to_string())),
        ("kernel", says("uname", "-sr")),
        ("rustc", says("rustc", "--version")),
    ];
    let programs = programs
        .iter()
        .map(|&(what, program)| (what, says(program, "--version")));
    machine
        .into_iter()
        .chain(programs)
        .map(|(what, value)| {
            let value = value.unwrap_or_else(|| "unknown".to_owned());
            (what.to_owned(), value)
        })
        .collect()
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn says(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
