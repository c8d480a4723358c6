//! Which file of a crate depends on which, and the circles among them.
//!
//! A path counts for the file that defines what it leads to: re-exports, globs and renames are
//! followed. An inherent `impl` outside of the file that defines the type gives that file an
//! *implied* dependency as well, since whoever has the type can call the methods.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::scan::{Crate, Kind, Mention, Module, Name, Segments};

const ROOT: usize = 0;

#[derive(Debug)]
pub(super) struct Graph {
    pub(super) found: Crate,
    /// By the importing and the imported file.
    pub(super) edges: BTreeMap<(usize, usize), Edge>,
    /// Inherent impls outside of the module that defines the type: where, line, type, its file.
    pub(super) foreign_impls: Vec<(usize, usize, String, usize)>,
}

/// Why one file depends on another.
#[derive(Debug)]
pub(super) struct Edge {
    /// Says the first reason.
    pub(super) reason: String,
    pub(super) line: usize,
    pub(super) implied: bool,
    /// How many reasons there are.
    pub(super) count: usize,
}

/// What a path leads to: a module, or something that a file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(usize),
    DefinedIn(usize),
}

impl Graph {
    pub(super) fn of(found: Crate) -> Self {
        let mut edges = BTreeMap::new();
        let mut foreign_impls = Vec::new();
        for mention in &found.mentions {
            let from = found.modules[mention.module].file;
            for to in found.files_of(mention) {
                let path = mention.path.join("::");
                match mention.kind {
                    _ if from == to => {}
                    // A parent offers what its children define: nothing depends on that.
                    Kind::Reexport if found.is_below(to, from) => {}
                    Kind::Use | Kind::Reexport => {
                        add(&mut edges, (from, to), mention, format!("use {path}"));
                    }
                    Kind::Path => add(&mut edges, (from, to), mention, path),
                    Kind::InherentImpl => {
                        let reason = format!("impl {path} in {}", found.files[from].path);
                        add(&mut edges, (to, from), mention, reason);
                        if !found.is_below(from, to) {
                            foreign_impls.push((from, mention.line, path, to));
                        }
                    }
                }
            }
        }
        Self {
            found,
            edges,
            foreign_impls,
        }
    }

    pub(super) fn path(&self, file: usize) -> &str {
        &self.found.files[file].path
    }

    /// The files that depend on each other, each group with its shortest circle, which begins
    /// and ends with one file.
    ///
    /// A type's file and those that add methods to it are no circle by that alone.
    pub(super) fn circles(&self) -> Vec<(BTreeSet<usize>, Vec<usize>)> {
        let mut circles: Vec<(BTreeSet<usize>, Vec<usize>)> = Vec::new();
        for (&(from, to), edge) in &self.edges {
            let back = self.edges.get(&(to, from));
            if edge.implied || back.is_some_and(|back| back.implied) {
                continue;
            }
            let Some(mut circle) = self.way(to, from) else {
                continue;
            };
            circle.insert(0, from);
            match circles.iter_mut().find(|(files, _)| files.contains(&from)) {
                Some((_, shortest)) if circle.len() < shortest.len() => *shortest = circle,
                Some(_) => {}
                None => {
                    let files = (0..self.found.files.len()).filter(|&file| {
                        self.way(from, file).is_some() && self.way(file, from).is_some()
                    });
                    circles.push((files.collect(), circle));
                }
            }
        }
        circles
    }

    /// The shortest way along dependencies, both ends included.
    fn way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut reached = BTreeMap::from([(from, from)]);
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            if at == to {
                let mut way = vec![to];
                while way[way.len() - 1] != from {
                    way.push(reached[&way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            for &(_, there) in self.edges.range((at, 0)..(at + 1, 0)).map(|(edge, _)| edge) {
                reached.entry(there).or_insert_with(|| {
                    next.push_back(there);
                    at
                });
            }
        }
        None
    }
}

fn add(
    edges: &mut BTreeMap<(usize, usize), Edge>,
    edge: (usize, usize),
    mention: &Mention,
    reason: String,
) {
    let implied = mention.kind == Kind::InherentImpl;
    let line = mention.line;
    let edge = edges.entry(edge).or_insert_with(|| Edge {
        reason: reason.clone(),
        line,
        implied,
        count: 0,
    });
    if edge.implied && !implied {
        (edge.reason, edge.line, edge.implied) = (reason, line, false);
    }
    edge.count += 1;
}

impl Crate {
    /// Whether a file's module is a descendant of another's.
    fn is_below(&self, file: usize, ancestor: usize) -> bool {
        let (file, ancestor) = (&self.files[file].module, &self.files[ancestor].module);
        file != ancestor && (ancestor == "crate" || is_in(file, ancestor))
    }

    /// The files that define what is mentioned. A module by itself is no dependency: what is used
    /// of it is.
    fn files_of(&self, mention: &Mention) -> BTreeSet<usize> {
        let targets = self.resolve(mention.module, &mention.path, &mut Vec::new());
        let files = targets.into_iter().filter_map(|target| match target {
            Target::DefinedIn(file) => Some(file),
            Target::Module(_) => None,
        });
        files.collect()
    }

    /// What a path in a module leads to; nothing if that is another crate's, a local or a generic.
    /// `seen` holds the imports that are being followed, which may lead to themselves.
    fn resolve<'a>(
        &'a self,
        from: usize,
        path: &'a Segments,
        seen: &mut Vec<&'a Segments>,
    ) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else {
            return Vec::new();
        };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(ROOT)],
            "self" | "super" => vec![Target::Module(from)],
            name => self.lookup(from, name, seen),
        };
        let rest = if first == "super" { path } else { rest };
        for segment in rest {
            targets = targets
                .into_iter()
                .flat_map(|target| match (target, segment.as_str()) {
                    (Target::Module(module), "super") => self.modules[module]
                        .parent
                        .map(Target::Module)
                        .into_iter()
                        .collect(),
                    (Target::Module(module), "*") => self.offers(module, seen),
                    (Target::Module(module), name) => {
                        let found = self.lookup(module, name, seen);
                        if found.is_empty() {
                            // A macro made it, or it is another crate's and re-exported here.
                            vec![Target::DefinedIn(self.modules[module].file)]
                        } else {
                            found
                        }
                    }
                    // A variant, a method or another associated item.
                    (defined, _) => vec![defined],
                })
                .collect();
        }
        targets
    }

    /// What a glob brings in: what a module defines and what it re-exports.
    fn offers<'a>(&'a self, module: usize, seen: &mut Vec<&'a Segments>) -> Vec<Target> {
        let mut targets = vec![Target::DefinedIn(self.modules[module].file)];
        for name in self.modules[module].names.values().flatten() {
            if let Name::Reexport(path) = name {
                targets.extend(follow(path, seen, |seen| self.resolve(module, path, seen)));
            }
        }
        targets
    }

    fn lookup<'a>(
        &'a self,
        module: usize,
        name: &str,
        seen: &mut Vec<&'a Segments>,
    ) -> Vec<Target> {
        let mut targets = Vec::new();
        let Module {
            file, names, globs, ..
        } = &self.modules[module];
        for name in names.get(name).into_iter().flatten() {
            match name {
                Name::Item => targets.push(Target::DefinedIn(*file)),
                Name::Module(module) => targets.push(Target::Module(*module)),
                Name::Import(path) | Name::Reexport(path) => {
                    targets.extend(follow(path, seen, |seen| self.resolve(module, path, seen)));
                }
            }
        }
        if targets.is_empty() {
            for glob in globs {
                targets.extend(follow(glob, seen, |seen| {
                    let offered = self.resolve(module, glob, seen);
                    let offered = offered.into_iter().filter_map(|target| match target {
                        Target::Module(module) => Some(self.lookup(module, name, seen)),
                        Target::DefinedIn(_) => None,
                    });
                    offered.flatten().collect()
                }));
            }
        }
        targets
    }
}

/// Whether a module is another one or a descendant of it.
pub(super) fn is_in(module: &str, ancestor: &str) -> bool {
    module
        .strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What an import leads to, unless it is being followed already.
fn follow<'a>(
    path: &'a Segments,
    seen: &mut Vec<&'a Segments>,
    resolve: impl FnOnce(&mut Vec<&'a Segments>) -> Vec<Target>,
) -> Vec<Target> {
    if seen.iter().any(|one| std::ptr::eq(*one, path)) {
        return Vec::new();
    }
    seen.push(path);
    let targets = resolve(seen);
    seen.pop();
    targets
}
