//! Decides whether the reads and writes of a round's processes keep the library's promises.
//!
//! The evidence: every operation with its start, end and outcome; every state a row was ever
//! committed in, in the order of its commits (see [`crate::database`]); when a fault removed keys
//! from the cache; and the rows at the end. States of a row are numbered in that order.
//!
//! # The rules
//! 1. *Only committed states are read* ([`reads`]): a value in the audit, as the last of its
//!    transaction.
//! 2. *Nothing older than what is known is read*: state `n` is known once a write of it has been
//!    acknowledged, or a read of it (in any process) has returned. A read that begins later returns
//!    `n` or newer. (On MariaDB a read in a transaction begins with the transaction: it shows a
//!    snapshot.) This is "no read older than an acknowledged write", "reads never go backwards"
//!    and "no deleted row comes back" in one; a violation is reported under the first of these
//!    names that fits.
//!    What the database deletes or changes with another row, by a foreign key, counts as a write of
//!    whoever deleted that row, and is known and exposed as that is.
//!    A lookup returns rows that match, which is rule 2 for each of them. For a row that it does
//!    not return, there is a state that does not match at some moment between the newest state
//!    known when it began and its end.
//! 3. *A process sees its own writes*: the same, for states that were acknowledged to it; see
//!    below.
//! 4. *No lost update, no two winners of one version* ([`writes`]): within one life of a row every
//!    version follows its predecessor, and a checked write follows the state it was based on.
//! 5. *An outcome is true*: an acknowledged write is committed, a refused or rolled-back one is
//!    not, and of a transaction all or nothing is.
//! 6. *A transaction sees its own writes.*
//! 7. *After quiet, cache and database are equal*, and the cache serves every row again.
//! 8. *Nobody panics or hangs.*
//!
//! # What is excused from rule 2, and for how long
//! A write is *protected* if its block stood from before its commit until its publish arrived or
//! until after its commit became visible; only then does the library promise anything about it.
//! [`exposure`] says which committed writes were not, from the history alone and for each write by
//! itself:
//! - *unblocked*: its process proceeds without the cache, and the cache failed it during the
//!   operation (or it was killed in it);
//! - *forgotten*: the cache lost the key between the block and the commit;
//! - *late*: it was committed after its block may have lapsed;
//! - *bypassing*: it went past the library, and was invalidated afterwards, by its key or with its
//!   whole entity;
//! - *keyless*: the database made the key of an inserted row, in one statement of a process that
//!   proceeds without the cache (hole 7).
//!
//! The exposure of such a write begins with its operation. It ends when the cache has received the
//! invalidation: with the acknowledgement, or, if an invalidation was queued then, when the queue
//! of its process was empty. (A `refresh` that took as long as it may wait for the cache does not count
//! as acknowledged.) In any case it ends when every row that could have been cached before
//! the commit has lapsed ([`BOUND`](crate::settings::BOUND)). A read that returns state `i`
//! although `n` is known is excused only if *every* write in `i + 1 ..= n` is exposed at the time
//! of the read: any protected write among them would have removed the old row. So one protected
//! write ends all excuses before it.
//!
//! Excused reads are counted as stale, with the time since the oldest write they missed was known,
//! and that time is checked against the bound. Nothing excuses rule 3 (a process always sees a
//! state that was acknowledged to it, except a write past the library that could not be repaired),
//! nor any other rule.
//!
//! # The rules for near reads
//! A read that a near cache may have answered (a row says whether it has; an absence does not) is
//! under these rules instead of rule 2. One whose row is from behind the near cache, and every
//! other read, is under the rules above.
//! - *Only committed states are read*: rule 1.
//! - *A process sees its own writes*: rule 3, as strictly.
//! - *A write is seen [`NEAR_BOUND`](crate::settings::NEAR_BOUND) after it was announced*, also if
//!   no process knows of it; this is checked for each write that the read missed. A protected one
//!   was announced before its commit, an exposed one before its exposure ended. So a read that
//!   begins later than that time after the commit, or after the end of the exposure, is a
//!   violation. No near row outlives its entry in the shared tier, so the bound of all excuses
//!   holds too.
//!
//! Near reads may go backwards; but a row that one returns is known to all others from then on,
//! because it was in the shared tier. An absence may be an earlier one, and makes nothing known.
//! Near reads that miss a state that is known and not exposed when they begin are counted
//! separately, with the time since the commit or the end of the exposure.

mod exposure;
mod operations;
mod reads;
mod report;
#[cfg(test)]
mod tests;
mod timeline;
mod writes;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

pub(crate) use self::exposure::Cause;
use self::{exposure::Exposures, operations::Operations, timeline::Timeline};
use crate::{
    clock::Moment,
    database::Audited,
    entities::{Key, Seen},
    history::{Near, NotFound, Process, Read, Record},
    settings::Policy,
    stage::Loss,
};

/// What is known of a round.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) logs: Vec<Testimony>,
    /// In the order of `seq`.
    pub(crate) audit: Vec<Audited>,
    pub(crate) losses: Vec<Loss>,
    /// As they ended.
    pub(crate) rows: Vec<(Key, Seen)>,
    pub(crate) hung: Vec<Process>,
    /// For people.
    pub(crate) events: Vec<(Moment, String)>,
}

/// What one process has written down.
#[derive(Debug)]
pub(crate) struct Testimony {
    pub(crate) process: Process,
    pub(crate) policy: Policy,
    pub(crate) records: Vec<Record>,
}

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rule {
    NeverCommitted,
    OlderThanAcknowledged,
    WentBackwards,
    Resurrected,
    OwnWriteUnseen,
    BeyondTheBound,
    NearTooOld,
    LostUpdate,
    TwoWinners,
    AcknowledgedButNotCommitted,
    CommittedButNotAttempted,
    TornTransaction,
    OwnWriteUnseenInTransaction,
    UnequalAfterQuiet,
    UnreadableAfterQuiet,
    Panicked,
    Hung,
}

/// A violation, and what led to it.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
    pub(crate) key: Option<Key>,
    /// The time to look at.
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// What the checker found of the reads that near caches were allowed to answer.
#[derive(Debug, Default)]
pub(crate) struct NearFindings {
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    /// Absences, which do not show their source.
    pub(crate) absences: u64,
    /// Hits and absences that a read past the near cache would not have been excused for.
    pub(crate) stale: u64,
    /// Since the commit, or, if that was not protected, since the cache received the invalidation.
    pub(crate) stale_max: Duration,
}

impl NearFindings {
    fn count(&mut self, near: Near) {
        self.reads += u64::from(near != Near::Skipped);
        self.hits += u64::from(near == Near::Hit);
        self.absences += u64::from(near == Near::Perhaps);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.absences += other.absences;
        self.stale += other.stale;
        self.stale_max = self.stale_max.max(other.stale_max);
    }
}

/// What the checker found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) operations: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) reads: u64,
    /// Reads that the cache answered.
    pub(crate) cached: u64,
    /// Reads past the near caches for which nothing could have been excused.
    pub(crate) claimed: u64,
    pub(crate) stale: u64,
    pub(crate) stale_max: Duration,
    pub(crate) near: NearFindings,
    /// Writes that were not protected, by the reason.
    pub(crate) exposed: BTreeMap<Cause, u64>,
    /// Committed states.
    pub(crate) states: u64,
    /// Changes that the database made with the deletion of another row.
    pub(crate) cascaded: u64,
    /// Checked writes that were based on an earlier life of their row, which had the same version.
    pub(crate) reincarnations: u64,
    pub(crate) violations: Vec<Violation>,
}

impl Findings {
    fn violate(&mut self, rule: Rule, what: String, key: Option<Key>, from: Moment, to: Moment) {
        self.violations.push(Violation {
            rule,
            what,
            key,
            from,
            to,
        });
    }
}

/// Everything about one round, put together.
struct Case<'a> {
    evidence: &'a Evidence,
    operations: Operations<'a>,
    timelines: HashMap<Key, Timeline<'a>>,
    exposures: Exposures,
}

/// Checks a round.
pub(crate) fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let operations = Operations::of(evidence);
    let timelines = timeline::all(evidence, &operations, &mut findings);
    let exposures = Exposures::of(evidence, &operations, &timelines, &mut findings);
    let case = Case {
        evidence,
        operations,
        timelines,
        exposures,
    };
    writes::check(&case, &mut findings);
    reads::check(&case, &mut findings);
    quiet(&case, &mut findings);
    findings
}

/// A violation with its key's history, readable.
pub(crate) fn explain(evidence: &Evidence, violation: &Violation) -> String {
    report::explain(evidence, violation)
}

/// Rules 7 and 8.
fn quiet(case: &Case<'_>, findings: &mut Findings) {
    let rows: HashMap<Key, &Seen> = case
        .evidence
        .rows
        .iter()
        .map(|(key, seen)| (*key, seen))
        .collect();
    for testimony in &case.evidence.logs {
        for record in &testimony.records {
            match record {
                Record::Read(read) if testimony.process == Process::VERIFIER => {
                    equal(read, rows.get(&read.key).copied(), findings);
                }
                Record::NotFound(NotFound { sought, read })
                    if testimony.process == Process::VERIFIER =>
                {
                    let row = rows.get(&read.key).copied();
                    if row.is_some_and(|row| sought.finds(row)) {
                        equal(read, row, findings);
                    }
                }
                Record::Unreadable { at, key } => findings.violate(
                    Rule::UnreadableAfterQuiet,
                    format!("{key}: the cache does not serve it although all is quiet"),
                    Some(*key),
                    *at,
                    *at,
                ),
                Record::Panic { at, what } => {
                    let what = format!("{}: {what}", testimony.process);
                    findings.violate(Rule::Panicked, what, None, *at, *at);
                }
                _ => {}
            }
        }
    }
    for process in &case.evidence.hung {
        let what = format!("{process} did not end after every fault was over");
        findings.violate(Rule::Hung, what, None, Moment::NEVER, Moment::NEVER);
    }
}

fn equal(read: &Read, row: Option<&Seen>, findings: &mut Findings) {
    if read.saw.as_ref() != row {
        let from = if read.cached {
            "the cache"
        } else {
            "the library"
        };
        let what = format!(
            "{}: after quiet {from} says {}, the database {}",
            read.key,
            shown(read.saw.as_ref()),
            shown(row)
        );
        let rule = Rule::UnequalAfterQuiet;
        findings.violate(rule, what, Some(read.key), read.from, read.to);
    }
}

fn shown(seen: Option<&Seen>) -> String {
    match seen {
        None => "absent".into(),
        Some(seen) => {
            let mut shown = seen.value.clone();
            if let Some(parent) = seen.parent {
                shown += &format!(" of {parent}");
            }
            if seen.version > 0 {
                shown += &format!(" (version {})", seen.version);
            }
            shown
        }
    }
}
