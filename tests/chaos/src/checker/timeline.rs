//! The states of each row in the order of their commits, and the operations that committed them.

use std::collections::HashMap;

use super::{Evidence, Findings, Rule, operations::Operations};
use crate::{
    clock::Moment,
    database::{Audited, SETUP},
    entities::{Key, Seen},
    history::Outcome,
    settings::CLOCK_SLACK,
};

/// A row's history.
#[derive(Debug, Default)]
pub(super) struct Timeline<'a> {
    /// What others could see, from the first on, which is that there is no row.
    pub(super) states: Vec<State<'a>>,
    /// Every change, those within a transaction too.
    pub(super) changes: Vec<State<'a>>,
    /// A value has several states if the database unset whom the row referred to.
    by_value: HashMap<&'a str, Vec<usize>>,
}

/// A state of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct State<'a> {
    pub(super) seen: Option<&'a Seen>,
    /// It was visible no earlier.
    pub(super) committed: Moment,
    /// It was visible no later, as far as the database knows.
    pub(super) visible: Moment,
    /// The operations that may have committed it, and which of their attempts; several operations only
    /// for a deletion. None for what was there at first.
    pub(super) writers: Vec<(usize, usize)>,
    /// The database made it, with the deletion of the row that this one referred to.
    pub(super) cascaded: bool,
}

impl State<'_> {
    /// The operation that committed it, if that is certain.
    pub(super) fn writer(&self) -> Option<usize> {
        let (writer, _) = self.writers.first()?;
        let is_same = |(other, _): &(usize, usize)| other == writer;
        self.writers.iter().all(is_same).then_some(*writer)
    }
}

impl<'a> Timeline<'a> {
    /// Of a row that nobody ever wrote.
    pub(super) fn empty() -> Self {
        Self {
            states: vec![State::default()],
            ..Self::default()
        }
    }

    /// The place of the state that looks like this.
    pub(super) fn find(&self, seen: &Seen) -> Option<usize> {
        let mut states = self.by_value.get(seen.value.as_str())?.iter().copied();
        states.find(|at| self.states[*at].seen == Some(seen))
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
    let audit = Audit::of(evidence, operations);
    for (at, audited) in evidence.audit.iter().enumerate() {
        let timeline = timelines.entry(audited.key).or_insert_with(Timeline::empty);
        let (writers, cascaded) = audit.writers(at);
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
            visible: audited.visible,
            writers,
            cascaded,
        };
        findings.cascaded += u64::from(cascaded);
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
                timeline.by_value.entry(&seen.value).or_default().push(at);
            }
        }
        findings.states += timeline.states.len() as u64 - 1;
    }
    timelines
}

/// The audit, and who may have made its changes.
struct Audit<'a, 'b> {
    audit: &'a [Audited],
    operations: &'b Operations<'a>,
    /// What each change replaced.
    before: Vec<Option<&'a Seen>>,
    /// The deletions of each transaction.
    deletions: HashMap<(u64, Key), usize>,
}

impl<'a, 'b> Audit<'a, 'b> {
    fn of(evidence: &'a Evidence, operations: &'b Operations<'a>) -> Self {
        let mut rows: HashMap<Key, Option<&Seen>> = HashMap::new();
        let mut deletions = HashMap::new();
        let changes = evidence.audit.iter().enumerate().map(|(at, audited)| {
            if audited.state.is_none() {
                deletions.insert((audited.xid, audited.key), at);
            }
            rows.insert(audited.key, audited.state.as_ref()).flatten()
        });
        let before = changes.collect();
        Self {
            audit: &evidence.audit,
            operations,
            before,
            deletions,
        }
    }

    /// The attempts that may have made a change, and whether the database made it with the deletion of
    /// the row that this one referred to.
    fn writers(&self, at: usize) -> (Vec<(usize, usize)>, bool) {
        let (audited, before) = (&self.audit[at], self.before[at]);
        let is_unset = |seen: &Seen| before.is_some_and(|before| before.value == seen.value);
        let direct = match &audited.state {
            // Every attempt has a value of its own.
            Some(seen) if is_unset(seen) => Vec::new(),
            _ => writers(audited, before, self.operations),
        };
        let Some(deletion) = self.deletion_of_parent(at) else {
            return (direct, false);
        };
        // A transaction is one operation's.
        let mut all = self.writers(deletion).0;
        match all.first().map(|(operation, _)| *operation) {
            Some(operation) => all.extend(direct.iter().filter(|(other, _)| *other == operation)),
            None => all = direct,
        }
        (all, true)
    }

    /// The deletion of the row that this one referred to, if the same transaction made it and this change
    /// may have gone with it.
    fn deletion_of_parent(&self, at: usize) -> Option<usize> {
        let (audited, before) = (&self.audit[at], self.before[at]?);
        let may_follow = match &audited.state {
            Some(seen) => seen.value == before.value && seen.parent.is_none(),
            None => true,
        };
        let ((table, _), id) = (audited.key.table.parent()?, before.parent?);
        let parent = Key { table, id };
        let deletion = self.deletions.get(&(audited.xid, parent)).copied();
        deletion.filter(|_| may_follow)
    }
}

/// The attempts that may have made a change themselves.
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
            && attempt.is_of(audited.key)
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
