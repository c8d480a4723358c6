//! On what it was measured.

use std::{fs, process::Command, thread};

use serde_json::Value;

/// What is known of the machine and the servers' versions.
pub(crate) fn describe() -> Vec<(String, Value)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    [
        ("cpu", cpu()),
        ("cores", Some(cores.to_string())),
        ("kernel", says("uname", &["-sr"])),
        ("rustc", says("rustc", &["--version"])),
        ("postgresql", says("postgres", &["--version"])),
        ("redis", says("redis-server", &["--version"])),
    ]
    .into_iter()
    .map(|(what, value)| {
        let value = value.unwrap_or_else(|| "unknown".to_owned());
        (what.to_owned(), Value::from(value))
    })
    .collect()
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn says(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
