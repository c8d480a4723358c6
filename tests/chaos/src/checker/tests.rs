//! Histories written by hand: for each rule one that keeps it and one that breaks it.

mod near;

use super::*;
use crate::{
    database::Audited,
    entities::{Sought, Table},
    history::{Change, NotFound, OpId, Outcome, Told},
    settings::{BLOCK, BOUND, COMMIT_SLACK},
};

const ACCOUNT: Key = Key {
    table: Table::Account,
    id: 1,
};
const NOTE: Key = Key {
    table: Table::Note,
    id: 1,
};

/// The processes: two that refuse to write without the cache, and one that proceeds.
const ADA: Process = Process { worker: 0, life: 1 };
const BOB: Process = Process { worker: 1, life: 1 };
const EVE: Process = Process { worker: 3, life: 1 };

/// Long after everything else, in milliseconds.
const LATER: u64 = 100_000;

fn ms(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn bound_ms() -> u64 {
    BOUND.as_millis() as u64
}

fn seen(version: i64, value: &str) -> Seen {
    Seen {
        version,
        value: value.into(),
    }
}

/// A history under construction; times are in milliseconds.
struct History {
    evidence: Evidence,
    ops: u64,
    xids: u64,
}

/// A write to be added.
struct Write {
    process: Process,
    key: Key,
    change: Change,
    base: Option<Seen>,
    begin: u64,
    /// When, and with what outcome; none if its process was killed.
    end: Option<(u64, Outcome)>,
    /// The cache failed its process meanwhile.
    troubled: bool,
    /// How many invalidations were owed at its end.
    pending: usize,
    told: Told,
}

impl Write {
    fn put(process: Process, key: Key, value: &str, begin: u64, end: u64) -> Self {
        Self {
            process,
            key,
            change: Change::Put(value.into()),
            base: None,
            begin,
            end: Some((end, Outcome::Acknowledged)),
            troubled: false,
            pending: 0,
            told: Told::Before,
        }
    }

    fn delete(process: Process, key: Key, base: Seen, begin: u64, end: u64) -> Self {
        Self {
            change: Change::Delete,
            base: Some(base),
            ..Self::put(process, key, "", begin, end)
        }
    }

    fn based_on(self, base: Seen) -> Self {
        Self {
            base: Some(base),
            ..self
        }
    }

    fn ending(self, outcome: Outcome) -> Self {
        let end = self.end.map(|(at, _)| (at, outcome));
        Self { end, ..self }
    }

    fn killed(self) -> Self {
        Self { end: None, ..self }
    }

    fn owing(self) -> Self {
        Self {
            troubled: true,
            pending: 1,
            ..self
        }
    }
}

impl History {
    /// Both rows exist, with the value `old` and, if versioned, the version 1.
    fn new() -> Self {
        let mut history = Self {
            evidence: Evidence::default(),
            ops: 0,
            xids: 0,
        };
        for (process, policy) in [
            (ADA, Policy::Refuse),
            (BOB, Policy::Refuse),
            (EVE, Policy::Proceed),
            (Process::VERIFIER, Policy::Refuse),
        ] {
            history.evidence.logs.push(Testimony {
                process,
                policy,
                records: Vec::new(),
            });
        }
        history.audit("setup", ACCOUNT, Some(seen(1, "old")), 1);
        history.audit("setup", NOTE, Some(seen(0, "old note")), 1);
        history
    }

    fn log(mut self, process: Process, record: Record) -> Self {
        let mut logs = self.evidence.logs.iter_mut();
        let log = logs.find(|log| log.process == process).unwrap();
        log.records.push(record);
        self
    }

    fn audit(&mut self, application: &str, key: Key, state: Option<Seen>, at: u64) {
        self.xids += 1;
        self.evidence.audit.push(Audited {
            key,
            state,
            application: application.into(),
            xid: self.xids,
            committed: ms(at),
        });
    }

    fn commit(mut self, process: Process, key: Key, state: Option<Seen>, at: u64) -> Self {
        self.audit(&process.application(), key, state, at);
        self
    }

    /// Another change in the transaction of the last one.
    fn commit_with_last(
        mut self,
        process: Process,
        key: Key,
        state: Option<Seen>,
        at: u64,
    ) -> Self {
        self.xids -= 1;
        self.audit(&process.application(), key, state, at);
        self
    }

    fn write(mut self, write: Write) -> Self {
        self.ops += 1;
        let (op, process) = (OpId(self.ops), write.process);
        self = self.log(
            process,
            Record::Begin {
                op,
                at: ms(write.begin),
                verb: "save".into(),
                trouble: 0,
                told: write.told,
            },
        );
        self = self.log(
            process,
            Record::Try {
                op,
                at: ms(write.begin),
                key: write.key,
                change: write.change,
                base: write.base,
            },
        );
        match write.end {
            None => self,
            Some((at, outcome)) => self.log(
                process,
                Record::End {
                    op,
                    at: ms(at),
                    outcome,
                    trouble: u64::from(write.troubled),
                    pending: write.pending,
                    why: String::new(),
                },
            ),
        }
    }

    /// A read that takes a millisecond.
    fn read(self, process: Process, key: Key, saw: Option<Seen>, from: u64) -> Self {
        self.read_until(process, key, saw, from, from + 1)
    }

    fn read_until(self, process: Process, key: Key, saw: Option<Seen>, from: u64, to: u64) -> Self {
        let read = Read {
            verb: "find".into(),
            key,
            from: ms(from),
            to: ms(to),
            saw,
            cached: true,
            near: Near::Skipped,
        };
        self.log(process, Record::Read(read))
    }

    /// A search that takes a millisecond and does not return the row.
    fn not_found(self, process: Process, key: Key, value: &str, from: u64) -> Self {
        let read = Read {
            verb: "find by value".into(),
            key,
            from: ms(from),
            to: ms(from + 1),
            saw: None,
            cached: true,
            near: Near::Skipped,
        };
        let sought = Sought::Value(value.into());
        self.log(process, Record::NotFound(NotFound { sought, read }))
    }

    fn drained(self, process: Process, at: u64) -> Self {
        self.log(process, Record::Drained { at: ms(at) })
    }

    fn lose(mut self, key: Option<Key>, from: u64, to: u64) -> Self {
        let (from, to) = (ms(from), ms(to));
        self.evidence.losses.push(Loss { key, from, to });
        self
    }

    /// Ada changes the account from `old` to `new`, committed at 15 and acknowledged at 20.
    fn saved() -> Self {
        Self::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 20).based_on(seen(1, "old")))
            .commit(ADA, ACCOUNT, Some(seen(2, "new")), 15)
    }

    /// Eve does, at the same times, while the cache fails her; it is told at 60.
    fn saved_unblocked() -> Self {
        Self::new()
            .write(Write::put(EVE, ACCOUNT, "new", 10, 20).owing())
            .commit(EVE, ACCOUNT, Some(seen(2, "new")), 15)
            .drained(EVE, 60)
    }

    fn check(&self) -> Findings {
        check(&self.evidence)
    }

    #[track_caller]
    fn holds(&self) -> Findings {
        let findings = self.check();
        let explained = |violation: &Violation| explain(&self.evidence, violation);
        let violations: String = findings.violations.iter().map(explained).collect();
        assert!(violations.is_empty(), "{violations}");
        findings
    }

    #[track_caller]
    fn breaks(&self, rule: Rule) {
        let found: Vec<Rule> = self.check().violations.iter().map(|it| it.rule).collect();
        assert_eq!(found, [rule]);
    }
}

fn new() -> Option<Seen> {
    Some(seen(2, "new"))
}

fn old() -> Option<Seen> {
    Some(seen(1, "old"))
}

/// Goal: rule 1 and 2, kept: the old row before the write, either during it, the new one after it.
#[test]
fn a_write_is_seen_by_who_begins_after_its_acknowledgement() {
    let findings = History::saved()
        .read(BOB, ACCOUNT, old(), 5)
        .read_until(BOB, ACCOUNT, old(), 12, 30)
        .read_until(EVE, ACCOUNT, new(), 12, 18)
        .read(BOB, ACCOUNT, new(), 21)
        .holds();
    assert_eq!(
        (findings.reads, findings.claimed, findings.stale),
        (4, 4, 0)
    );
    assert_eq!((findings.operations, findings.acknowledged), (1, 1));
}

/// Goal: rule 2, "no read older than an acknowledged write", by any process.
#[test]
fn an_old_row_after_the_acknowledgement_is_a_violation() {
    History::saved()
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: rule 2 for searches: a row is not found by what it is not yet, or no longer.
#[test]
fn a_search_need_not_find_what_had_another_value_meanwhile() {
    History::saved()
        .not_found(BOB, ACCOUNT, "new", 5)
        .not_found(BOB, ACCOUNT, "new", 16)
        .not_found(BOB, ACCOUNT, "old", 16)
        .not_found(BOB, ACCOUNT, "old", 21)
        .holds();
}

/// Goal: rule 2 for searches: a row that had the value all the time is found.
#[test]
fn a_search_that_misses_a_row_is_a_violation() {
    History::saved()
        .not_found(BOB, ACCOUNT, "new", 21)
        .breaks(Rule::OlderThanAcknowledged);
    History::saved()
        .not_found(BOB, ACCOUNT, "old", 5)
        .breaks(Rule::OlderThanAcknowledged);
    History::saved()
        .not_found(ADA, ACCOUNT, "new", 21)
        .breaks(Rule::OwnWriteUnseen);
}

/// Goal: rule 7 for searches: after quiet a list has every row that the database would give.
#[test]
fn a_list_that_lacks_a_row_after_quiet_is_a_violation() {
    let mut history = History::saved();
    history.evidence.rows = vec![(ACCOUNT, seen(2, "new"))];
    let found = history
        .not_found(Process::VERIFIER, ACCOUNT, "new", LATER)
        .check();
    let rules: Vec<Rule> = found.violations.iter().map(|it| it.rule).collect();
    assert!(rules.contains(&Rule::UnequalAfterQuiet), "{rules:?}");
}

/// Goal: rule 3, "read your writes".
#[test]
fn an_old_row_for_the_writer_itself_is_a_violation() {
    History::saved()
        .read(ADA, ACCOUNT, old(), 21)
        .breaks(Rule::OwnWriteUnseen);
}

/// Goal: rule 2, "monotonic reads": what one process has seen no other unsees, also before the
/// write is acknowledged.
#[test]
fn an_old_row_after_somebody_saw_the_new_one_is_a_violation() {
    let seen_early = History::saved().read(EVE, ACCOUNT, new(), 16);
    seen_early.holds();
    seen_early
        .read(BOB, ACCOUNT, old(), 18)
        .breaks(Rule::WentBackwards);
}

/// Goal: the same for a write that nobody ever learns the outcome of.
#[test]
fn a_write_of_unknown_outcome_counts_from_when_it_was_seen() {
    let killed = || {
        History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 0).killed())
            .commit(ADA, ACCOUNT, new(), 15)
    };
    killed().read(BOB, ACCOUNT, old(), 30).holds();
    killed()
        .read(BOB, ACCOUNT, new(), 30)
        .read(BOB, ACCOUNT, old(), 40)
        .breaks(Rule::WentBackwards);
}

/// Goal: rule 1: values of rolled-back writes, of other rows, and from the future.
#[test]
fn a_value_that_was_never_committed_is_a_violation() {
    let rolled_back =
        History::new().write(Write::put(ADA, ACCOUNT, "new", 10, 20).ending(Outcome::Failed));
    rolled_back.holds();
    rolled_back
        .read(BOB, ACCOUNT, new(), 21)
        .breaks(Rule::NeverCommitted);
    History::saved()
        .read(BOB, ACCOUNT, Some(seen(3, "new")), 21)
        .breaks(Rule::NeverCommitted);
    History::saved()
        .read(BOB, NOTE, Some(seen(0, "old")), 21)
        .breaks(Rule::NeverCommitted);
    History::saved()
        .read(BOB, ACCOUNT, new(), 3)
        .breaks(Rule::NeverCommitted);
}

/// Goal: rule 1: what a transaction overwrote itself was never there for others.
#[test]
fn a_state_within_a_transaction_is_not_committed() {
    let twice = || {
        History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 20))
            .write(Write::put(ADA, ACCOUNT, "newer", 10, 20))
            .commit(ADA, ACCOUNT, new(), 15)
            .commit_with_last(ADA, ACCOUNT, Some(seen(3, "newer")), 15)
    };
    twice()
        .read(BOB, ACCOUNT, Some(seen(3, "newer")), 21)
        .holds();
    twice()
        .read(BOB, ACCOUNT, new(), 16)
        .breaks(Rule::NeverCommitted);
}

/// Goal: rule 2, "no resurrected row".
#[test]
fn a_row_that_comes_back_after_its_deletion_is_a_violation() {
    let deleted = || {
        History::new()
            .write(Write::delete(ADA, ACCOUNT, seen(1, "old"), 10, 20))
            .commit(ADA, ACCOUNT, None, 15)
    };
    deleted().read(BOB, ACCOUNT, None, 21).holds();
    deleted()
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::Resurrected);
}

/// Goal: an absence is ambiguous, but not outside the times in which there was no row.
#[test]
fn an_absence_belongs_to_a_time_without_the_row() {
    let deleted_and_inserted = || {
        History::new()
            .write(Write::delete(ADA, ACCOUNT, seen(1, "old"), 10, 20))
            .commit(ADA, ACCOUNT, None, 15)
            .write(Write::put(ADA, ACCOUNT, "again", 30, 40))
            .commit(ADA, ACCOUNT, Some(seen(1, "again")), 35)
            .write(Write::delete(BOB, ACCOUNT, seen(1, "again"), 100, 120))
            .commit(BOB, ACCOUNT, None, 110)
    };
    deleted_and_inserted()
        .read(BOB, ACCOUNT, None, 21)
        .read_until(BOB, ACCOUNT, None, 32, 50)
        .read(EVE, ACCOUNT, None, 111)
        .holds();
    // The deletion to come excuses nothing.
    deleted_and_inserted()
        .read(BOB, ACCOUNT, None, 41)
        .breaks(Rule::OlderThanAcknowledged);
    // Once absent is seen to be the second time, the row in between is known to be gone.
    deleted_and_inserted()
        .read(EVE, ACCOUNT, None, 111)
        .read(BOB, ACCOUNT, Some(seen(1, "again")), 114)
        .breaks(Rule::Resurrected);
}

/// Goal: excuse *unblocked*: others may miss it until the cache was told, measured; the writer
/// itself may not.
#[test]
fn a_write_past_a_failing_cache_may_be_missed_by_others_until_it_is_told() {
    let findings = History::saved_unblocked()
        .read(BOB, ACCOUNT, old(), 21)
        .read(BOB, ACCOUNT, old(), 50)
        .read(BOB, ACCOUNT, new(), 61)
        .holds();
    assert_eq!((findings.stale, findings.stale_max.as_millis()), (2, 30));
    assert_eq!((findings.reads, findings.claimed), (3, 1));
    assert_eq!(findings.exposed[&Cause::Unblocked], 1);
    History::saved_unblocked()
        .read(BOB, ACCOUNT, old(), 61)
        .breaks(Rule::OlderThanAcknowledged);
    History::saved_unblocked()
        .read(EVE, ACCOUNT, old(), 30)
        .breaks(Rule::OwnWriteUnseen);
}

/// Goal: without trouble a process that proceeds is protected like any other.
#[test]
fn a_process_that_proceeds_is_excused_only_if_the_cache_failed_it() {
    History::new()
        .write(Write::put(EVE, ACCOUNT, "new", 10, 20))
        .commit(EVE, ACCOUNT, new(), 15)
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
    // And one that refuses not even then: its block was acknowledged, or it would not have written.
    History::new()
        .write(Write::put(ADA, ACCOUNT, "new", 10, 20).owing())
        .commit(ADA, ACCOUNT, new(), 15)
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: an exposure that nothing ends, ends with the bound; and so does every excuse.
#[test]
fn nobody_misses_a_write_for_longer_than_the_bound() {
    let never_told = || {
        History::new()
            .write(Write::put(EVE, ACCOUNT, "new", 10, 20).owing())
            .commit(EVE, ACCOUNT, new(), 15)
    };
    let findings = never_told()
        .read(BOB, ACCOUNT, old(), 20 + bound_ms())
        .holds();
    assert_eq!(findings.stale_max, BOUND);
    never_told()
        .read(BOB, ACCOUNT, old(), 21 + bound_ms())
        .breaks(Rule::BeyondTheBound);
}

/// Goal: a killed writer is excused if it proceeds, for the bound, and not if it refuses.
#[test]
fn a_killed_writer_leaves_others_protected_if_it_refuses() {
    let killed = |process| {
        History::new()
            .write(Write::put(process, ACCOUNT, "new", 10, 0).killed())
            .commit(process, ACCOUNT, new(), 15)
            .read(BOB, ACCOUNT, new(), 20)
            .read(BOB, ACCOUNT, old(), 30)
    };
    assert_eq!(killed(EVE).holds().stale, 1);
    killed(ADA).breaks(Rule::WentBackwards);
}

/// Goal: excuse *forgotten*: a loss between block and commit, of that key, until the writer has
/// told the cache.
#[test]
fn a_block_that_the_cache_forgot_excuses_until_the_acknowledgement() {
    let seen_early = |history: History| {
        history
            .read(EVE, ACCOUNT, new(), 16)
            .read(BOB, ACCOUNT, old(), 18)
    };
    for key in [None, Some(ACCOUNT)] {
        let findings = seen_early(History::saved().lose(key, 12, 13)).holds();
        assert_eq!((findings.stale, findings.claimed), (1, 1));
        assert_eq!(findings.exposed[&Cause::Forgotten], 1);
    }
    seen_early(History::saved().lose(Some(NOTE), 12, 13)).breaks(Rule::WentBackwards);
    seen_early(History::saved().lose(None, 5, 9)).breaks(Rule::WentBackwards);
    History::saved()
        .lose(None, 12, 13)
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
    let after_the_commit = 15 + COMMIT_SLACK.as_millis() as u64 + 1;
    History::new()
        .write(Write::put(ADA, ACCOUNT, "new", 10, 400))
        .commit(ADA, ACCOUNT, new(), 15)
        .lose(None, after_the_commit, after_the_commit)
        .read(EVE, ACCOUNT, new(), 300)
        .read(BOB, ACCOUNT, old(), 310)
        .breaks(Rule::WentBackwards);
}

/// Goal: excuse *late*: a commit that lands when its block has lapsed, and only then.
#[test]
fn a_commit_after_its_block_has_lapsed_is_excused_until_the_bound() {
    let block = BLOCK.as_millis() as u64;
    let zombie = |committed: u64| {
        History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 2 * block).ending(Outcome::Unknown))
            .commit(ADA, ACCOUNT, new(), committed)
            .read(EVE, ACCOUNT, new(), committed + 2)
            .read(BOB, ACCOUNT, old(), committed + 10)
    };
    let findings = zombie(10 + block).holds();
    assert_eq!(findings.exposed[&Cause::Late], 1);
    zombie(block - COMMIT_SLACK.as_millis() as u64).breaks(Rule::WentBackwards);
}

/// Goal: a transaction's block is placed before its COMMIT and not when it begins.
#[test]
fn a_long_transaction_is_not_late() {
    let block = BLOCK.as_millis() as u64;
    let long = |armed: bool| {
        let mut history = History::new().write(Write::put(ADA, ACCOUNT, "new", 10, 2 * block + 20));
        if armed {
            let (op, at) = (OpId(1), ms(2 * block));
            history = history.log(ADA, Record::Arm { op, at });
        }
        history
            .commit(ADA, ACCOUNT, new(), 2 * block + 10)
            .read(EVE, ACCOUNT, new(), 2 * block + 12)
            .read(BOB, ACCOUNT, old(), 2 * block + 14)
    };
    long(true).breaks(Rule::WentBackwards);
    long(false).holds();
}

/// Goal: excuse *bypassing*: until the library was told, and if telling it may fail, then for the
/// bound and also for whoever wrote.
#[test]
fn a_write_past_the_library_counts_from_when_it_was_told() {
    let raw = |told, troubled| {
        History::new()
            .write(Write {
                told,
                troubled,
                ..Write::put(ADA, ACCOUNT, "new", 10, 20)
            })
            .commit(ADA, ACCOUNT, new(), 12)
    };
    let seen_early = |history: History| {
        history
            .read(EVE, ACCOUNT, new(), 14)
            .read(BOB, ACCOUNT, old(), 16)
    };
    assert_eq!(seen_early(raw(Told::After, false)).holds().stale, 1);
    let after = |history: History, reader| history.read(reader, ACCOUNT, old(), 21);
    after(raw(Told::After, false), BOB).breaks(Rule::OlderThanAcknowledged);
    after(raw(Told::Perhaps, false), BOB).breaks(Rule::OlderThanAcknowledged);
    assert_eq!(after(raw(Told::Perhaps, true), BOB).holds().stale, 1);
    assert_eq!(after(raw(Told::Perhaps, true), ADA).holds().stale, 1);
}

/// Goal: the excuses are for each write by itself: a protected write ends those before it.
#[test]
fn a_protected_write_ends_every_excuse_before_it() {
    let history = || {
        History::saved_unblocked()
            .write(Write::put(ADA, ACCOUNT, "newest", 25, 40))
            .commit(ADA, ACCOUNT, Some(seen(3, "newest")), 30)
    };
    assert_eq!(history().read(BOB, ACCOUNT, old(), 22).holds().stale, 1);
    history()
        .read(BOB, ACCOUNT, old(), 41)
        .breaks(Rule::OlderThanAcknowledged);
    // And a write that is exposed does not excuse the one before it.
    History::saved()
        .write(Write::put(EVE, ACCOUNT, "newest", 25, 40).owing())
        .commit(EVE, ACCOUNT, Some(seen(3, "newest")), 30)
        .read(BOB, ACCOUNT, old(), 41)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: rule 4, "no lost update".
#[test]
fn a_write_that_does_not_follow_what_it_was_based_on_is_a_violation() {
    let second = |base: Seen| {
        History::saved()
            .write(Write::put(BOB, ACCOUNT, "newer", 30, 40).based_on(base))
            .commit(BOB, ACCOUNT, Some(seen(3, "newer")), 35)
    };
    second(seen(2, "new")).holds();
    second(seen(1, "old")).breaks(Rule::LostUpdate);
    second(seen(2, "never there")).breaks(Rule::LostUpdate);
    // A row without a version makes no promise.
    History::new()
        .write(Write::put(ADA, NOTE, "new note", 10, 20).based_on(seen(0, "older note")))
        .commit(ADA, NOTE, Some(seen(0, "new note")), 15)
        .holds();
}

/// Goal: rule 4: deletions are checked too.
#[test]
fn a_deletion_of_a_row_that_changed_is_a_violation() {
    let deletion = |base: Seen| {
        History::saved()
            .write(Write::delete(BOB, ACCOUNT, base, 30, 40))
            .commit(BOB, ACCOUNT, None, 35)
    };
    deletion(seen(2, "new")).holds();
    let found = deletion(seen(1, "old")).check().violations;
    let rules: Vec<Rule> = found.iter().map(|violation| violation.rule).collect();
    // The commit has no author, because none was allowed to make it.
    let expected = [
        Rule::CommittedButNotAttempted,
        Rule::AcknowledgedButNotCommitted,
    ];
    assert_eq!(rules, expected);
}

/// Goal: rule 4, "no two winners of one version", and no version left out.
#[test]
fn two_states_with_one_version_are_a_violation() {
    let second = |version, change: fn(String) -> Change| {
        History::saved()
            .write(Write {
                change: change("newer".into()),
                ..Write::put(BOB, ACCOUNT, "", 30, 40)
            })
            .commit(BOB, ACCOUNT, Some(seen(version, "newer")), 35)
    };
    second(3, Change::Put).holds();
    second(2, Change::Put).breaks(Rule::TwoWinners);
    second(4, Change::Put).breaks(Rule::TwoWinners);
    // Unless it was done behind the library's back.
    second(2, Change::PutKeepingVersion).holds();
}

/// Goal: an earlier life of a row may have had the version a write demands; that is counted.
#[test]
fn a_write_based_on_an_earlier_life_is_counted() {
    let findings = History::new()
        .write(Write::delete(ADA, ACCOUNT, seen(1, "old"), 10, 20))
        .commit(ADA, ACCOUNT, None, 15)
        .write(Write::put(ADA, ACCOUNT, "again", 30, 40))
        .commit(ADA, ACCOUNT, Some(seen(1, "again")), 35)
        .write(Write::put(BOB, ACCOUNT, "late", 8, 60).based_on(seen(1, "old")))
        .commit(BOB, ACCOUNT, Some(seen(2, "late")), 50)
        .holds();
    assert_eq!(findings.reincarnations, 1);
}

/// Goal: rule 5, for what was acknowledged.
#[test]
fn an_acknowledged_write_that_is_not_committed_is_a_violation() {
    let lost =
        |outcome| History::new().write(Write::put(ADA, ACCOUNT, "new", 10, 20).ending(outcome));
    lost(Outcome::Unknown).holds();
    lost(Outcome::Failed).holds();
    lost(Outcome::Acknowledged).breaks(Rule::AcknowledgedButNotCommitted);
}

/// Goal: rule 5, for what was refused or rolled back.
#[test]
fn a_failed_write_that_is_committed_is_a_violation() {
    let committed = |outcome| {
        History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 20).ending(outcome))
            .commit(ADA, ACCOUNT, new(), 15)
    };
    committed(Outcome::Unknown).holds();
    committed(Outcome::Failed).breaks(Rule::CommittedButNotAttempted);
}

/// Goal: rule 5: a savepoint that was rolled back is not committed with its transaction.
#[test]
fn a_void_attempt_that_is_committed_is_a_violation() {
    let transaction = |is_committed: bool| {
        let (op, attempt) = (OpId(1), 0);
        let history = History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 20))
            .log(ADA, Record::Void { op, attempt });
        match is_committed {
            true => history.commit(ADA, ACCOUNT, new(), 15),
            false => history,
        }
    };
    transaction(false).holds();
    transaction(true).breaks(Rule::CommittedButNotAttempted);
}

/// Goal: rule 5: all of a transaction or nothing.
#[test]
fn half_a_transaction_is_a_violation() {
    let transaction = |both: bool| {
        let (op, at, base) = (OpId(1), ms(12), None);
        let (key, change) = (NOTE, Change::Put("new note".into()));
        let second = Record::Try {
            op,
            at,
            key,
            change,
            base,
        };
        let history = History::new()
            .write(Write::put(ADA, ACCOUNT, "new", 10, 20).ending(Outcome::Unknown))
            .log(ADA, second)
            .commit(ADA, ACCOUNT, new(), 15);
        match both {
            true => history.commit_with_last(ADA, NOTE, Some(seen(0, "new note")), 15),
            false => history,
        }
    };
    transaction(true).holds();
    transaction(false).breaks(Rule::TornTransaction);
}

/// Goal: rule 6.
#[test]
fn a_transaction_that_does_not_see_its_own_write_is_a_violation() {
    let own_read = |saw: Option<Seen>| {
        History::new().log(
            ADA,
            Record::OwnRead {
                op: OpId(1),
                at: ms(12),
                key: ACCOUNT,
                wrote: Some("new".into()),
                saw,
            },
        )
    };
    own_read(new()).holds();
    own_read(old()).breaks(Rule::OwnWriteUnseenInTransaction);
    own_read(None).breaks(Rule::OwnWriteUnseenInTransaction);
}

/// Goal: rule 7: what the cache holds in the end is what the database holds.
#[test]
fn a_row_that_differs_after_quiet_is_a_violation() {
    let ended = |row: Option<Seen>, saw: Option<Seen>| {
        let mut history = History::new().read(Process::VERIFIER, ACCOUNT, saw, LATER);
        history.evidence.rows = row.map(|row| (ACCOUNT, row)).into_iter().collect();
        history
    };
    ended(old(), old()).holds();
    ended(new(), old()).breaks(Rule::UnequalAfterQuiet);
    ended(None, old()).breaks(Rule::UnequalAfterQuiet);
}

/// Goal: rule 7: and it holds it at all.
#[test]
fn a_row_that_is_never_served_again_is_a_violation() {
    let (at, key) = (ms(LATER), ACCOUNT);
    History::new()
        .log(Process::VERIFIER, Record::Unreadable { at, key })
        .breaks(Rule::UnreadableAfterQuiet);
}

/// Goal: rule 8.
#[test]
fn a_panic_and_a_process_that_hangs_are_violations() {
    let (at, what) = (ms(10), "oops".into());
    History::new()
        .log(ADA, Record::Panic { at, what })
        .breaks(Rule::Panicked);
    let mut history = History::new();
    history.evidence.hung.push(BOB);
    history.breaks(Rule::Hung);
}

/// Goal: of several deletions that one process may have made, the writer is not guessed.
#[test]
fn a_deletion_with_several_possible_authors_belongs_to_none() {
    let by_key = |begin, end| Write {
        base: None,
        ..Write::delete(ADA, NOTE, seen(0, ""), begin, end).ending(Outcome::Unknown)
    };
    let history = History::new()
        .write(by_key(10, 20))
        .write(by_key(12, 22))
        .commit(ADA, NOTE, None, 15);
    history.holds();
    // Neither was acknowledged, so the row may still be read until somebody saw it gone.
    let history = history.read(BOB, NOTE, Some(seen(0, "old note")), 30);
    history.holds();
    history
        .read(EVE, NOTE, None, 40)
        .read(BOB, NOTE, Some(seen(0, "old note")), 50)
        .breaks(Rule::Resurrected);
}

/// Goal: a violation comes with what happened to its key, in order, and not to others.
#[test]
fn a_violation_is_explained_by_the_history_of_its_key() {
    let history = History::saved()
        .read(BOB, NOTE, Some(seen(0, "old note")), 18)
        .lose(Some(ACCOUNT), 12, 13)
        .read(BOB, ACCOUNT, old(), 21);
    let violation = &history.check().violations[0];
    let text = explain(&history.evidence, violation);
    let order = [
        "VIOLATION OlderThanAcknowledged",
        "w0.1 save begins",
        "write new after old (version 1)",
        "the cache has forgotten",
        "COMMIT of new (version 2) by w0.1",
        "w0.1 save is acknowledged",
        "+0.000 ms  w1.1 find since 1.000 ms saw old (version 1)",
    ];
    let mut rest = text.as_str();
    for line in order {
        let (_, after) = rest
            .split_once(line)
            .unwrap_or_else(|| panic!("no `{line}` in {text}"));
        rest = after;
    }
    assert!(!text.contains("old note"), "{text}");
}
