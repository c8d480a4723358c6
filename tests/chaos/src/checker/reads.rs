//! What reads returned, against what was known when they began.

mod near;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use super::{Case, Findings, Rule, exposure::Exposure, shown, timeline::Timeline};
use crate::{
    clock::Moment,
    entities::{Key, Sought},
    history::{Invalidated, NotFound, Process, Read, Record},
    settings::{BOUND, CLOCK_SLACK},
};

/// How a state became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Acknowledged,
    Read,
}

/// A state that is known from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    at: Moment,
    state: usize,
    source: Source,
}

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut by_key: HashMap<Key, Vec<Witnessed<'_>>> = HashMap::new();
    for testimony in &case.evidence.logs {
        for record in &testimony.records {
            match record {
                Record::Read(read) => {
                    findings.reads += 1;
                    findings.cached += u64::from(read.cached);
                    findings.near.count(read.near);
                    by_key.entry(read.key).or_default().push(Witnessed {
                        process: testimony.process,
                        read,
                        sought: None,
                    });
                }
                Record::NotFound(NotFound { sought, read }) => {
                    findings.reads += 1;
                    by_key.entry(read.key).or_default().push(Witnessed {
                        process: testimony.process,
                        read,
                        sought: Some(sought),
                    });
                }
                Record::OwnRead {
                    at,
                    key,
                    wrote,
                    saw,
                    ..
                } => {
                    findings.reads += 1;
                    findings.claimed += 1;
                    if saw.as_ref().map(|seen| &seen.value) != wrote.as_ref() {
                        let what = format!(
                            "{key}: a transaction of {} wrote {} and then read {}",
                            testimony.process,
                            wrote.as_deref().unwrap_or("a deletion"),
                            shown(saw.as_ref())
                        );
                        let rule = Rule::OwnWriteUnseenInTransaction;
                        findings.violate(rule, what, Some(*key), *at, *at);
                    }
                }
                _ => {}
            }
        }
    }
    let never_written = Timeline::empty();
    for (key, mut reads) in by_key {
        reads.sort_by_key(|witnessed| witnessed.read.from);
        let timeline = case.timelines.get(&key).unwrap_or(&never_written);
        Row {
            case,
            key,
            timeline,
            known: acknowledged(case, timeline),
            arrived: Vec::new(),
            newest: 0,
        }
        .check(&reads, findings);
    }
}

fn acknowledged(case: &Case<'_>, timeline: &Timeline<'_>) -> BinaryHeap<Reverse<Known>> {
    let states = timeline.states.iter().enumerate();
    states
        .filter_map(|(state, it)| {
            let at = match it.writer() {
                None if it.writers.is_empty() => Some(it.committed),
                // If several operations may have deleted it, it was acknowledged to none of them as
                // its own.
                None => None,
                Some(writer) => case.operations.all()[writer].acknowledged(),
            };
            let source = Source::Acknowledged;
            at.map(|at| Reverse(Known { at, state, source }))
        })
        .collect()
}

/// A read, and what it looked up if it is a lookup that did not return the row.
struct Witnessed<'a> {
    process: Process,
    read: &'a Read,
    sought: Option<&'a Sought>,
}

/// The reads of one row, in the order in which they began.
struct Row<'a, 'b> {
    case: &'a Case<'b>,
    key: Key,
    timeline: &'a Timeline<'b>,
    /// What becomes known, earliest first. A read that ended before another began, began before
    /// it, so it is in here in time.
    known: BinaryHeap<Reverse<Known>>,
    /// What was known before the current read began.
    arrived: Vec<Known>,
    newest: usize,
}

impl Row<'_, '_> {
    fn check(mut self, reads: &[Witnessed<'_>], findings: &mut Findings) {
        for Witnessed {
            process,
            read,
            sought,
        } in reads
        {
            while let Some(Reverse(known)) = self.known.peek().filter(|it| it.0.at < read.from) {
                self.newest = self.newest.max(known.state);
                self.arrived.push(*known);
                self.known.pop();
            }
            let is_near = read.near.may_have_answered();
            if !is_near {
                let newest = self.case.exposures.get(self.key, self.newest);
                let is_open = |exposure: &Exposure| exposure.covers(read.from, read.to);
                findings.claimed += u64::from(!newest.is_some_and(is_open));
            }
            if let Some(sought) = sought {
                self.not_found(*process, read, sought, findings);
                continue;
            }
            let Some(state) = self.place(read) else {
                findings.violate(
                    Rule::NeverCommitted,
                    format!(
                        "{}: {process} read {}, which was never committed, or not before the read",
                        self.key,
                        shown(read.saw.as_ref())
                    ),
                    Some(self.key),
                    read.from,
                    read.to,
                );
                continue;
            };
            if is_near {
                self.near(*process, read, state, findings);
            } else if state < self.newest {
                self.missed(*process, read, state, findings);
            }
            // An absence from a near cache may be an earlier one.
            let is_certain = !is_near || read.saw.is_some();
            if is_certain && state >= self.newest {
                self.known.push(Reverse(Known {
                    at: read.to,
                    state,
                    source: Source::Read,
                }));
            }
        }
    }

    /// Which state a read returned. One that saw no row may have seen any time without one: the
    /// first that is new enough, or else the last.
    fn place(&self, read: &Read) -> Option<usize> {
        let states = &self.timeline.states;
        let had_begun = |at: &usize| self.begun(*at) <= read.to;
        match &read.saw {
            Some(seen) => self.timeline.find(seen).filter(had_begun),
            None => {
                let is_absent = |at: &usize| states[*at].seen.is_none();
                (self.newest..states.len())
                    .filter(is_absent)
                    .find(had_begun)
                    .or_else(|| (0..self.newest.min(states.len())).rev().find(is_absent))
            }
        }
    }

    /// A lookup did not return the row: it must have been in another state at some moment of the
    /// lookup.
    fn not_found(&self, process: Process, read: &Read, sought: &Sought, findings: &mut Findings) {
        let states = &self.timeline.states;
        let finds = |at: &usize| states[*at].seen.is_some_and(|seen| sought.finds(seen));
        let since = self.newest..states.len();
        let had_begun = |at: &usize| self.begun(*at) <= read.to;
        if since.filter(had_begun).any(|at| !finds(&at)) {
            return;
        }
        // The last state that would not have been found; at first there is no row.
        let older = (0..self.newest.min(states.len())).rev();
        if let Some(state) = older.into_iter().find(|at| !finds(at)) {
            self.missed(process, read, state, findings);
        }
    }

    /// A state was committed no earlier than this.
    fn begun(&self, at: usize) -> Moment {
        let state = &self.timeline.states[at];
        let writers = state.writers.iter();
        let begun = writers.map(|(writer, _)| self.case.operations.all()[*writer].begin);
        let stamped = state.committed.minus(CLOCK_SLACK);
        begun.min().map_or(stamped, |begun| begun.max(stamped))
    }

    /// A read returned an older state than is known: excused or not.
    fn missed(&self, process: Process, read: &Read, state: usize, findings: &mut Findings) {
        let Some(staleness) = self.staleness(read, state) else {
            return;
        };
        let mut missed = state + 1..=self.newest;
        let violated = if missed.clone().any(|at| self.is_own(at, process, read)) {
            Some(Rule::OwnWriteUnseen)
        } else if staleness > BOUND {
            Some(Rule::BeyondTheBound)
        } else if !missed.all(|at| self.is_exposed(at, read)) {
            Some(self.rule(read, state))
        } else {
            None
        };
        match violated {
            Some(rule) => self.violated(rule, process, read, (state, self.newest), findings),
            None => {
                findings.stale += 1;
                findings.stale_max = findings.stale_max.max(staleness);
            }
        }
    }

    /// For how long something newer than this state was known when the read began.
    fn staleness(&self, read: &Read, state: usize) -> Option<Duration> {
        let first = self.arrived.iter().find(|known| known.state > state)?;
        Some(read.from.since(first.at))
    }

    /// A read should not have returned one state, because of another.
    fn violated(
        &self,
        rule: Rule,
        process: Process,
        read: &Read,
        (state, newer): (usize, usize),
        findings: &mut Findings,
    ) {
        let staleness = self.staleness(read, state).unwrap_or_default();
        let what = format!(
            "{}: {process} ({}) read {} and not {}, {staleness:?} after the first write it missed \
             ({} in all) was known",
            self.key,
            read.verb,
            shown(read.saw.as_ref()),
            shown(self.timeline.states[newer].seen),
            newer - state,
        );
        let from = read.from.minus(staleness);
        findings.violate(rule, what, Some(self.key), from, read.to);
    }

    /// Whether this state was acknowledged earlier to the process that reads.
    fn is_own(&self, at: usize, process: Process, read: &Read) -> bool {
        let Some(writer) = self.timeline.states[at].writer() else {
            return false;
        };
        let operation = &self.case.operations.all()[writer];
        // No invalidation is queued for a write past the library that could not be repaired.
        operation.invalidated != Invalidated::Perhaps
            && operation.process == process
            && operation.acknowledged().is_some_and(|at| at < read.from)
    }

    fn is_exposed(&self, at: usize, read: &Read) -> bool {
        let exposure = self.case.exposures.get(self.key, at);
        exposure.is_some_and(|exposure| exposure.covers(read.from, read.to))
    }

    /// The rule under which a read of an older state is reported.
    fn rule(&self, read: &Read, state: usize) -> Rule {
        let missed = &self.timeline.states[state + 1..=self.newest];
        if read.saw.is_some() && missed.iter().any(|state| state.seen.is_none()) {
            return Rule::Resurrected;
        }
        let was_acknowledged =
            |known: &Known| known.state > state && known.source == Source::Acknowledged;
        if self.arrived.iter().any(was_acknowledged) {
            Rule::OlderThanAcknowledged
        } else {
            Rule::WentBackwards
        }
    }
}
