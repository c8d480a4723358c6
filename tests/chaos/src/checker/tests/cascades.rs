//! Rows that the database deletes or changes with others.

use super::*;

const OWNER: Key = Key {
    table: Table::Owner,
    id: 1,
};
const POST: Key = Key {
    table: Table::Post,
    id: 2,
};
const REMARK: Key = Key {
    table: Table::Remark,
    id: 3,
};

fn of(parent: Option<i64>, value: &str) -> Option<Seen> {
    Some(Seen {
        parent,
        ..seen(1, value)
    })
}

fn post() -> Option<Seen> {
    of(Some(1), "post")
}

fn remark() -> Option<Seen> {
    of(Some(2), "remark")
}

/// An owner, its post, and a remark about that.
fn family() -> History {
    let mut history = History::new();
    history.audit("setup", OWNER, Some(seen(0, "owner")), 1);
    history.audit("setup", POST, post(), 1);
    history.audit("setup", REMARK, remark(), 1);
    history
}

/// The process deletes the owner, committed at 15 and acknowledged at 20. The database writes down what
/// goes with it first.
fn deleted_by(process: Process, write: impl FnOnce(Write) -> Write) -> History {
    let delete = Write::delete(process, OWNER, seen(0, "owner"), 10, 20);
    family()
        .write(write(delete))
        .commit(process, REMARK, of(None, "remark"), 15)
        .commit_with_last(process, POST, None, 15)
        .commit_with_last(process, OWNER, None, 15)
}

fn deleted() -> History {
    deleted_by(ADA, |write| write)
}

/// A lookup by the row that is referred to, which does not return this row.
fn not_among(history: History, key: Key, parent: Option<i64>, from: u64) -> History {
    let read = Read {
        verb: "find by parent".into(),
        key,
        from: ms(from),
        to: ms(from + 1),
        saw: None,
        cached: true,
        near: Near::Skipped,
    };
    let sought = Sought::Parent(parent);
    history.log(BOB, Record::NotFound(NotFound { sought, read }))
}

/// Goal: rule 2 and 3 for what is deleted with another row.
#[test]
fn a_row_that_comes_back_after_the_deletion_of_its_parent_is_a_violation() {
    let findings = deleted()
        .read(BOB, POST, post(), 5)
        .read_until(BOB, POST, post(), 12, 30)
        .read(BOB, POST, None, 21)
        .holds();
    assert_eq!(findings.cascaded, 2);
    deleted()
        .read(BOB, POST, post(), 21)
        .breaks(Rule::Resurrected);
    deleted()
        .read(ADA, POST, post(), 21)
        .breaks(Rule::OwnWriteUnseen);
}

/// Goal: rule 2 for what is changed with another row, two tables down: its value stays.
#[test]
fn a_reference_that_comes_back_is_a_violation() {
    deleted()
        .read(BOB, REMARK, remark(), 5)
        .read(BOB, REMARK, of(None, "remark"), 21)
        .holds();
    deleted()
        .read(BOB, REMARK, remark(), 21)
        .breaks(Rule::OlderThanAcknowledged);
    deleted()
        .read(EVE, REMARK, of(None, "remark"), 16)
        .read(BOB, REMARK, remark(), 18)
        .breaks(Rule::WentBackwards);
    family()
        .read(BOB, REMARK, of(None, "remark"), 21)
        .breaks(Rule::NeverCommitted);
}

/// Goal: rule 2 for lookups by the foreign key.
#[test]
fn a_list_that_lacks_what_lost_its_parent_is_a_violation() {
    not_among(deleted(), POST, Some(1), 21).holds();
    not_among(deleted(), POST, Some(1), 5).breaks(Rule::OlderThanAcknowledged);
    not_among(deleted(), REMARK, Some(2), 21).holds();
    not_among(deleted(), REMARK, None, 5).holds();
    not_among(deleted(), REMARK, None, 21).breaks(Rule::OlderThanAcknowledged);
}

/// Goal: rule 5: what nobody deleted does not change by itself.
#[test]
fn a_row_that_changes_without_its_parent_is_a_violation() {
    let found = family().commit(ADA, REMARK, of(None, "remark"), 15).check();
    let rules: Vec<Rule> = found.violations.iter().map(|it| it.rule).collect();
    // Whoever changes a row raises its version.
    assert_eq!(rules, [Rule::CommittedButNotAttempted, Rule::TwoWinners]);
    family()
        .commit(ADA, POST, None, 15)
        .breaks(Rule::CommittedButNotAttempted);
    // In another transaction than the deletion.
    let delete = Write::delete(ADA, OWNER, seen(0, "owner"), 10, 20);
    family()
        .write(delete)
        .commit(ADA, POST, None, 14)
        .commit(ADA, OWNER, None, 15)
        .breaks(Rule::CommittedButNotAttempted);
}

/// Goal: rule 5: a deletion that was rolled back takes nothing with it.
#[test]
fn what_goes_with_a_refused_deletion_is_a_violation() {
    let found = deleted_by(ADA, |write| write.ending(Outcome::Failed)).check();
    let rules: Vec<Rule> = found.violations.iter().map(|it| it.rule).collect();
    assert_eq!(rules, [Rule::CommittedButNotAttempted; 3]);
}

/// Goal: the excuses are those of the deletion, for the key in question.
#[test]
fn what_goes_with_an_exposed_deletion_is_excused_as_it_is() {
    let queued = || deleted_by(EVE, Write::queued).drained(EVE, 60);
    let findings = queued().read(BOB, POST, post(), 50).holds();
    assert_eq!(findings.exposed[&Cause::Unblocked], 3);
    queued()
        .read(BOB, POST, post(), 61)
        .breaks(Rule::Resurrected);
    let lost = |key| {
        deleted()
            .lose(Some(key), 12, 13)
            .read(EVE, POST, None, 16)
            .read(BOB, POST, post(), 18)
    };
    assert_eq!(lost(POST).holds().stale, 1);
    lost(OWNER).breaks(Rule::Resurrected);
}
