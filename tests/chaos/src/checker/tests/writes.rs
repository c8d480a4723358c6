//! Writes: rules 4 and 5.

use super::*;

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
