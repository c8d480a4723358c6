//! Histories written by hand: for each rule one that keeps it and one that breaks it.

mod cascades;
mod exposure;
mod near;
mod reads;
mod writes;

use super::*;
use crate::{
    database::Audited,
    entities::{Sought, Table, UNKNOWN_ID},
    history::{Change, Invalidated, NotFound, OpId, Outcome},
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
        parent: None,
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
    /// How many invalidations were queued at its end.
    pending: usize,
    invalidated: Invalidated,
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
            invalidated: Invalidated::Before,
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

    fn queued(self) -> Self {
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
            visible: ms(at).plus(COMMIT_SLACK),
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
                invalidated: write.invalidated,
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

    /// A lookup that takes a millisecond and does not return the row.
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

    /// Eve does, at the same times, while the cache fails her; the invalidation arrives at 60.
    fn saved_unblocked() -> Self {
        Self::new()
            .write(Write::put(EVE, ACCOUNT, "new", 10, 20).queued())
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
