//! How benchmarks report: figures with their rounds, one line per figure, JSON beside it.
//!
//! `cargo xtask bench` and `cargo xtask bench compile` share it. It measures nothing.

mod figure;
mod machine;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

pub use crate::{
    figure::{Contest, Figure, median},
    machine::describe,
};

/// Writes what was measured, and on what, as JSON.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, machine: &[(String, String)], figures: &[Figure]) -> Result<()> {
    let machine: Map<String, Value> = machine
        .iter()
        .map(|(what, value)| (what.clone(), Value::from(value.clone())))
        .collect();
    let results = json!({
        "machine": machine,
        "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
    });
    let writing = || format!("writing {}", path.display());
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory).with_context(writing)?;
    fs::write(path, serde_json::to_vec_pretty(&results)?).with_context(writing)
}
