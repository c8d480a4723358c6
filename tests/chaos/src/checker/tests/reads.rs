//! Reads: rules 1 to 3, and 7 for lookups.

use super::*;

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

/// Goal: rule 2 for lookups: a row is not found by a value that it does not have yet, or has no
/// longer.
#[test]
fn a_lookup_need_not_find_what_had_another_value_meanwhile() {
    History::saved()
        .not_found(BOB, ACCOUNT, "new", 5)
        .not_found(BOB, ACCOUNT, "new", 16)
        .not_found(BOB, ACCOUNT, "old", 16)
        .not_found(BOB, ACCOUNT, "old", 21)
        .holds();
}

/// Goal: rule 2 for lookups: a row that had the value all the time is found.
#[test]
fn a_lookup_that_misses_a_row_is_a_violation() {
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

/// Goal: rule 7 for lookups: after quiet a list has every row that the database would return.
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

/// Goal: the same for a write whose outcome nobody ever learns.
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

/// Goal: rule 1: a state that its own transaction overwrote was never visible to others.
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
