//! The layers of the libraries: which module may import which, from one list for each crate.
//!
//! `graph` says which file depends on which, out of what `scan` reads. The rules are here:
//! - every file is in a layer, and depends on its own and earlier layers only;
//! - the groups of one layer do not see each other;
//! - no files depend on each other in a circle;
//! - an inherent `impl` is in the module that defines the type, or below it.

mod graph;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use self::graph::{Graph, is_in};
use self::scan::Crate;
use crate::runner::Outcome;
use crate::tidy;

/// The sources of each library and its layers.
///
/// A line is a layer, the lowest first. A name stands for a module and all below it that no longer
/// name stands for; `crate` is `lib.rs` alone. `|` parts groups that must not see each other.
const LIBRARIES: [(&str, &str); 2] = [
    (
        "cached-repo/src",
        "
        telemetry policy backoff tasks
        protocol
        clock places
        tier near
        database cached
        entity
        config error health
        invalidation
        catalog
        context session
        read | write
        registry
        transaction
        db
        repository
        __private internals crate
        ",
    ),
    (
        "cached-repo-derive/src",
        "
        diag
        syntax
        types
        ir
        resolve
        check
        fallback
        expand
        crate
        ",
    ),
];

/// `cargo xtask tidy --layers`: the problems, and in full what the circles are made of.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let mut problems = 0;
    for (sources, layers) in LIBRARIES {
        let graph = read(root, sources)?;
        for problem in check(&graph, sources, &Layers::parse(layers)?) {
            println!("{problem}");
            problems += 1;
        }
        for (files, _) in graph.circles() {
            println!("{sources}: a circle of {} files:", files.len());
            let mut files: Vec<usize> = files.into_iter().collect();
            files.sort_by_key(|file| graph.path(*file));
            for from in &files {
                println!("  {}", graph.path(*from));
                for to in &files {
                    if graph.edges.contains_key(&(*from, *to)) {
                        println!("    {}", because(&graph, *from, *to));
                    }
                }
            }
        }
    }
    println!("xtask: tidy: layers: {problems} problems");
    Ok(if problems == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed(1)
    })
}

/// The problems of all libraries.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (sources, layers) in LIBRARIES {
        let layers = Layers::parse(layers)?;
        problems.extend(check(&read(root, sources)?, sources, &layers));
    }
    Ok(problems)
}

fn read(root: &Path, sources: &str) -> Result<Graph> {
    let source = root.join(sources);
    let mut paths = Vec::new();
    tidy::collect(&source, &mut paths)?;
    let mut texts = BTreeMap::new();
    for path in paths {
        let name = path.strip_prefix(&source)?.iter();
        let name: Vec<_> = name.map(|part| part.to_string_lossy()).collect();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        texts.insert(name.join("/"), text);
    }
    Ok(Graph::of(Crate::read(&texts).context(sources.to_owned())?))
}

/// The layers of one crate: each name with the numbers of its layer and its group.
struct Layers<'a>(Vec<(&'a str, (usize, usize))>);

impl<'a> Layers<'a> {
    fn parse(list: &'a str) -> Result<Self> {
        let mut names: Vec<(&str, (usize, usize))> = Vec::new();
        for (layer, line) in list.lines().enumerate() {
            for (group, members) in line.split('|').enumerate() {
                for name in members.split_whitespace() {
                    if names.iter().any(|(other, _)| *other == name) {
                        bail!("`{name}` is in the list of layers twice");
                    }
                    names.push((name, (layer, group)));
                }
            }
        }
        Ok(Self(names))
    }

    /// Layer and group of a module: those of the longest name that it is in.
    fn place(&self, module: &str) -> Option<(usize, usize)> {
        let names = self.0.iter().filter(|(name, _)| is_in(module, name));
        names.max_by_key(|(name, _)| name.len()).map(|(_, at)| *at)
    }
}

fn check(graph: &Graph, sources: &str, layers: &Layers<'_>) -> Vec<String> {
    let files = &graph.found.files;
    let mut problems = Vec::new();
    for (name, _) in &layers.0 {
        if !files.iter().any(|file| is_in(&file.module, name)) {
            problems.push(format!(
                "{sources}: no module `{name}`; take it out of the list of layers"
            ));
        }
    }
    for file in files {
        if layers.place(&file.module).is_none() {
            problems.push(format!(
                "{sources}/{}: in no layer; add `{}` to the list in xtask/src/layers.rs",
                file.path, file.module
            ));
        }
    }
    for &(from, to) in graph.edges.keys() {
        let place = |file: usize| layers.place(&files[file].module);
        let (Some((layer, group)), Some((to_layer, to_group))) = (place(from), place(to)) else {
            continue;
        };
        let rule = if to_layer > layer {
            "depends on a later layer"
        } else if to_layer == layer && to_group != group {
            "depends on what its layer keeps apart"
        } else {
            continue;
        };
        let because = because(graph, from, to);
        problems.push(format!("{sources}/{}: {rule}: {because}", graph.path(from)));
    }
    for (at, line, name, definer) in &graph.foreign_impls {
        problems.push(format!(
            "{sources}/{}: `impl {name}`, line {line}, adds methods to a type of {}; move it there \
             or into a module below",
            graph.path(*at),
            graph.path(*definer)
        ));
    }
    for (files, circle) in graph.circles() {
        let steps = circle
            .windows(2)
            .map(|step| because(graph, step[0], step[1]));
        problems.push(format!(
            "{sources}/{}: in a circle of {} files: {}",
            graph.path(circle[0]),
            files.len(),
            steps.collect::<Vec<_>>().join(", ")
        ));
    }
    problems.sort();
    problems
}

/// `read/a.rs → write/b.rs (use crate::write::X, line 12; 3 more)`
fn because(graph: &Graph, from: usize, to: usize) -> String {
    let edge = &graph.edges[&(from, to)];
    let more = match edge.count {
        1 => String::new(),
        count => format!("; {} more", count - 1),
    };
    format!(
        "{} → {} ({}, line {}{more})",
        graph.path(from),
        graph.path(to),
        edge.reason,
        edge.line
    )
}
