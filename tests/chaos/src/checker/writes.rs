//! Writes: their commits, against their acknowledgements and the states they were based on.

use std::collections::HashSet;

use super::{
    Case, Findings, Rule,
    operations::{Attempt, Operation},
    shown,
    timeline::{State, Timeline},
};
use crate::{
    clock::Moment,
    entities::{Key, Seen},
    history::{Change, Outcome},
};

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    outcomes(case, findings);
    for (key, timeline) in &case.timelines {
        versions(case, *key, timeline, findings);
    }
}

/// Acknowledged writes are committed; of a transaction, all or nothing is.
fn outcomes(case: &Case<'_>, findings: &mut Findings) {
    // If several operations may have made a deletion, none of them is certain to have made it.
    let (mut perhaps, mut surely) = (HashSet::new(), HashSet::new());
    for change in case
        .timelines
        .values()
        .flat_map(|timeline| &timeline.changes)
    {
        perhaps.extend(change.writers.iter().copied());
        if let [writer] = change.writers.as_slice() {
            surely.insert(*writer);
        }
    }
    for (at, operation) in case.operations.all().iter().enumerate() {
        findings.operations += 1;
        match operation.outcome() {
            Outcome::Acknowledged => findings.acknowledged += 1,
            Outcome::Failed => findings.failed += 1,
            Outcome::Unknown => findings.unknown += 1,
        }
        let attempts = || {
            let attempts = operation.attempts.iter().enumerate();
            attempts.filter(|(_, attempt)| !attempt.void)
        };
        let rule = match operation.outcome() {
            Outcome::Acknowledged => Rule::AcknowledgedButNotCommitted,
            Outcome::Unknown if attempts().any(|(index, _)| surely.contains(&(at, index))) => {
                Rule::TornTransaction
            }
            _ => continue,
        };
        for (_, attempt) in attempts().filter(|(index, _)| !perhaps.contains(&(at, *index))) {
            let what = format!(
                "{}: {} of {} is {}, but {} was not committed",
                attempt.key,
                operation.verb,
                operation.process,
                match rule {
                    Rule::TornTransaction => "committed in part",
                    _ => "acknowledged",
                },
                change(attempt.change)
            );
            let end = operation.end.as_ref().map_or(Moment::NEVER, |end| end.at);
            findings.violate(rule, what, Some(attempt.key), operation.begin, end);
        }
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::Put(value) | Change::PutKeepingVersion(value) => value.clone(),
        Change::Delete => "its deletion".into(),
    }
}

/// Each version follows its predecessor, and each checked write the state it was based on.
fn versions(case: &Case<'_>, key: Key, timeline: &Timeline<'_>, findings: &mut Findings) {
    let mut life: Vec<&State<'_>> = Vec::new();
    for state in &timeline.changes {
        let attempt = match state.writers.as_slice() {
            // What the database changes with another row is based on nothing.
            [(writer, attempt)] if !state.cascaded => {
                let operation = &case.operations.all()[*writer];
                Some((operation, &operation.attempts[*attempt]))
            }
            _ => None,
        };
        let before = life.last().and_then(|state| state.seen);
        if let Some((operation, attempt)) = attempt {
            based(key, timeline, operation, attempt, &life, findings);
        }
        if let Some(seen) = state.seen.filter(|_| key.table.is_versioned()) {
            let keeps = state.cascaded
                || attempt.is_some_and(|(_, it)| matches!(it.change, Change::PutKeepingVersion(_)));
            let expected = match before {
                None => 1,
                Some(before) if keeps => before.version,
                Some(before) => before.version + 1,
            };
            if seen.version != expected {
                let what = format!(
                    "{key}: {} follows {} and should have version {expected}",
                    shown(Some(seen)),
                    shown(before)
                );
                findings.violate(
                    Rule::TwoWinners,
                    what,
                    Some(key),
                    state.committed,
                    state.committed,
                );
            }
        }
        match state.seen {
            Some(_) => life.push(state),
            None => life.clear(),
        }
    }
}

/// A write that checks the version follows the state it was based on, or one that differs from it
/// only by a change past the library that kept the version.
fn based(
    key: Key,
    timeline: &Timeline<'_>,
    operation: &Operation<'_>,
    attempt: &Attempt<'_>,
    life: &[&State<'_>],
    findings: &mut Findings,
) {
    let Some(base) = attempt
        .base
        .filter(|_| key.table.is_versioned() && !attempt.learnt)
    else {
        return;
    };
    let same_version =
        |state: &&&State<'_>| state.seen.is_some_and(|it| it.version == base.version);
    let is_base = |state: &&State<'_>| state.seen == Some(base);
    if life.last().filter(same_version).is_none() {
        let what = format!(
            "{key}: {} of {} was based on {} and follows {}",
            operation.verb,
            operation.process,
            shown(Some(base)),
            shown(life.last().and_then(|state| state.seen))
        );
        findings.violate(
            Rule::LostUpdate,
            what,
            Some(key),
            operation.begin,
            attempt.at,
        );
    } else if !life.iter().any(is_base) {
        // The row was deleted and inserted again meanwhile, and has reached the same version.
        let lived = |seen: &Seen| {
            timeline
                .changes
                .iter()
                .any(|state| state.seen == Some(seen))
        };
        if lived(base) {
            findings.reincarnations += 1;
        } else {
            let what = format!(
                "{key}: {} of {} was based on {}, which was never committed",
                operation.verb,
                operation.process,
                shown(Some(base))
            );
            findings.violate(
                Rule::LostUpdate,
                what,
                Some(key),
                operation.begin,
                attempt.at,
            );
        }
    }
}
