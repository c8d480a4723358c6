//! `cargo xtask tidy`: the house rules that no other tool knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layers;
use crate::runner::Outcome;

/// A library file longer than this has more than one subject.
const MAX_LINES: usize = 500;

/// What must not stay in the code. Split, so that this file keeps the rule too.
const FORBIDDEN: [&str; 3] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
];

/// How much a rule asks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The sources of the published crates.
    Library,
    /// Tests, examples and tools.
    Elsewhere,
}

pub(crate) fn run(root: &Path) -> Result<Outcome> {
    println!("xtask: tidy");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut problems = 0;
    for file in &files {
        let path = file.strip_prefix(root).unwrap_or(file);
        let bytes = fs::read(file).with_context(|| format!("reading {}", path.display()))?;
        for problem in check(path, place(path), &String::from_utf8_lossy(&bytes)) {
            eprintln!("{problem}");
            problems += 1;
        }
    }
    for problem in layers::problems(root)? {
        eprintln!("{problem}");
        problems += 1;
    }
    println!("xtask: tidy: {} files, {problems} problems", files.len());
    Ok(if problems == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed(1)
    })
}

/// The files that rules apply to: all Rust files, and whatever else the libraries are made of.
pub(crate) fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("reading {}", directory.display());
    for entry in directory.read_dir().with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().with_context(reading)?;
        if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "rs" || e == "lua") {
            files.push(path);
        }
    }
    Ok(())
}

fn place(path: &Path) -> Place {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    match (parts.next(), parts.next()) {
        (Some(package), Some(folder)) if package.starts_with("cached-repo") && folder == "src" => {
            Place::Library
        }
        _ => Place::Elsewhere,
    }
}

fn check(path: &Path, place: Place, text: &str) -> Vec<String> {
    let shown = path.display();
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let mut problems = Vec::new();
    if place == Place::Library {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            problems.push(format!(
                "{shown}: {lines} lines; split it, {MAX_LINES} is the limit"
            ));
        }
        if is_rust && !text.starts_with("//!") {
            problems.push(format!(
                "{shown}:1: begin with `//!`: what this module owns"
            ));
        }
    }
    if is_rust {
        for (index, line) in text.lines().enumerate() {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                problems.push(format!(
                    "{shown}:{}: `{word}` must not be committed",
                    index + 1
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), place(Path::new(path)), text)
    }

    /// Goal: the rules on length and module docs bind the libraries, and only them.
    #[test]
    fn a_library_file_is_short_and_says_what_it_owns() {
        let long = "//! Doc.\n".repeat(MAX_LINES + 1);
        assert_eq!(problems("cached-repo/src/read/flight.rs", &long).len(), 1);
        assert_eq!(
            problems("cached-repo-derive/src/lib.rs", "fn undocumented() {}").len(),
            1
        );
        assert_eq!(
            problems("cached-repo/src/tier/fill.lua", "-- no Rust doc here"),
            [""; 0]
        );
        assert_eq!(
            problems("tests/integration/long.rs", &long.replace('!', "")),
            [""; 0]
        );
    }

    /// Goal: unfinished work is found everywhere, with its line.
    #[test]
    fn unfinished_work_is_reported_with_its_line() {
        for word in FORBIDDEN {
            let text = format!("//! Doc.\n\n    {word}");
            let found = problems("tests/some.rs", &text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("tests/some.rs:3: "), "{found:?}");
        }
    }
}
