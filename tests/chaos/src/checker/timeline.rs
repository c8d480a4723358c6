//! The states of each row in the order of their commits, and the operations that committed them.

use std::collections::HashMap;

use super::{Evidence, Findings, Rule, operations::Operations};
use crate::{
    clock::Moment,
    database::Audited,
    entities::{Key, Seen},
    history::Outcome,
    settings::CLOCK_SLACK,
};

/// Whose connection made the tables and the first rows.
pub(super) const SETUP: &str = "setup";

/// A row's history.
#[derive(Debug, Default)]
pub(super) struct Timeline<'a> {
    /// What others could see, from the first on, which is that there is no row.
    pub(super) states: Vec<State<'a>>,
    /// Every change, those within a transaction too.
    pub(super) changes: Vec<State<'a>>,
    by_value: HashMap<&'a str, usize>,
}

/// A state of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct State<'a> {
    pub(super) seen: Option<&'a Seen>,
    /// It was visible no earlier.
    pub(super) committed: Moment,
    /// The operations that may have committed it, and which of their attempts; several only for a
    /// deletion. None for what was there at first.
    pub(super) writers: Vec<(usize, usize)>,
}

impl<'a> Timeline<'a> {
    /// Of a row that nobody ever wrote.
    pub(super) fn empty() -> Self {
        Self {
            states: vec![State::default()],
            ..Self::default()
        }
    }

    /// The place of the state that this value names.
    pub(super) fn find(&self, seen: &Seen) -> Option<usize> {
        let at = *self.by_value.get(seen.value.as_str())?;
        (self.states[at].seen == Some(seen)).then_some(at)
    }
}

/// Puts the timelines together; a change that nobody tried is a violation.
pub(super) fn all<'a>(
    evidence: &'a Evidence,
    operations: &Operations<'a>,
    findings: &mut Findings,
) -> HashMap<Key, Timeline<'a>> {
    let mut timelines: HashMap<Key, Timeline<'a>> = HashMap::new();
    let mut last_xids: HashMap<Key, u64> = HashMap::new();
    for audited in &evidence.audit {
        let timeline = timelines.entry(audited.key).or_insert_with(Timeline::empty);
        let before = timeline.changes.last().and_then(|state| state.seen);
        let writers = writers(audited, before, operations);
        if writers.is_empty() && audited.application != SETUP {
            findings.violate(
                Rule::CommittedButNotAttempted,
                format!(
                    "{}: {} committed {}, which no operation that may have succeeded had tried",
                    audited.key,
                    audited.application,
                    super::shown(audited.state.as_ref())
                ),
                Some(audited.key),
                audited.committed,
                audited.committed,
            );
        }
        let state = State {
            seen: audited.state.as_ref(),
            committed: audited.committed,
            writers,
        };
        timeline.changes.push(state.clone());
        // The changes of one transaction follow each other, because it has the row's lock; only
        // the last is ever seen by others.
        if last_xids.insert(audited.key, audited.xid) == Some(audited.xid) {
            timeline.states.pop();
        }
        timeline.states.push(state);
    }
    for timeline in timelines.values_mut() {
        for (at, state) in timeline.states.iter().enumerate() {
            if let Some(seen) = state.seen {
                timeline.by_value.insert(&seen.value, at);
            }
        }
        findings.states += timeline.states.len() as u64 - 1;
    }
    timelines
}

/// The attempts that may have made a change.
fn writers(
    audited: &Audited,
    before: Option<&Seen>,
    operations: &Operations<'_>,
) -> Vec<(usize, usize)> {
    let is_possible = |(operation, attempt): &(usize, usize)| {
        let operation = &operations.all()[*operation];
        let attempt = &operation.attempts[*attempt];
        operation.outcome() != Outcome::Failed
            && !attempt.void
            && attempt.key == audited.key
            && operation.process.application() == audited.application
    };
    match &audited.state {
        Some(seen) => operations
            .of_value(&seen.value)
            .filter(is_possible)
            .into_iter()
            .collect(),
        None => {
            let candidates = operations.deletions(audited.key).iter().copied();
            let in_time = |(operation, attempt): &(usize, usize)| {
                let operation = &operations.all()[*operation];
                let attempt = &operation.attempts[*attempt];
                let committed = audited.committed;
                let is_in_time = attempt.at <= committed.plus(CLOCK_SLACK)
                    && operation
                        .acknowledged()
                        .is_none_or(|at| at.plus(CLOCK_SLACK) >= committed);
                let is_its_own = match attempt.base {
                    // The result names the row that it deleted, or it could delete only that row.
                    Some(base) if attempt.learnt || audited.key.table.is_versioned() => {
                        Some(base) == before || !attempt.learnt && same_version(base, before)
                    }
                    Some(_) => true,
                    // A deletion by key, whose operation does not know which row it deleted.
                    None => operation.acknowledged().is_none(),
                };
                is_in_time && is_its_own
            };
            candidates.filter(is_possible).filter(in_time).collect()
        }
    }
}

/// A checked deletion deletes any row of the version, whatever else was changed behind its back.
fn same_version(base: &Seen, before: Option<&Seen>) -> bool {
    before.is_some_and(|before| before.version == base.version)
}
