//! What is excused from rule 2, and until when.

use super::*;

/// Goal: excuse *unblocked*: others may miss it until the invalidation arrives, and this is
/// measured; the writer itself may not.
#[test]
fn a_write_past_a_failing_cache_may_be_missed_by_others_until_its_invalidation() {
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
    // And a process that refuses not even then: its block was acknowledged, or it would not have
    // written.
    History::new()
        .write(Write::put(ADA, ACCOUNT, "new", 10, 20).queued())
        .commit(ADA, ACCOUNT, new(), 15)
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: an exposure that nothing ends, ends with the bound; and so does every excuse.
#[test]
fn nobody_misses_a_write_for_longer_than_the_bound() {
    let never_invalidated = || {
        History::new()
            .write(Write::put(EVE, ACCOUNT, "new", 10, 20).queued())
            .commit(EVE, ACCOUNT, new(), 15)
    };
    let findings = never_invalidated()
        .read(BOB, ACCOUNT, old(), 20 + bound_ms())
        .holds();
    assert_eq!(findings.stale_max, BOUND);
    never_invalidated()
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

/// Goal: excuse *forgotten*: that key was lost between block and commit; the excuse lasts until the
/// write is acknowledged.
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

/// Goal: excuse *bypassing*: until the invalidation, and if that may fail, then for the bound and
/// also for the writer.
#[test]
fn a_write_past_the_library_counts_from_its_invalidation() {
    let raw = |invalidated, troubled| {
        History::new()
            .write(Write {
                invalidated,
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
    assert_eq!(seen_early(raw(Invalidated::After, false)).holds().stale, 1);
    let after = |history: History, reader| history.read(reader, ACCOUNT, old(), 21);
    after(raw(Invalidated::After, false), BOB).breaks(Rule::OlderThanAcknowledged);
    after(raw(Invalidated::Perhaps, false), BOB).breaks(Rule::OlderThanAcknowledged);
    assert_eq!(after(raw(Invalidated::Perhaps, true), BOB).holds().stale, 1);
    assert_eq!(after(raw(Invalidated::Perhaps, true), ADA).holds().stale, 1);
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
        .write(Write::put(EVE, ACCOUNT, "newest", 25, 40).queued())
        .commit(EVE, ACCOUNT, Some(seen(3, "newest")), 30)
        .read(BOB, ACCOUNT, old(), 41)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: excuse *keyless*: hole 7, for what is inserted under a key that the database makes. It ends with
/// the acknowledgement, and is for no other insert.
#[test]
fn an_insert_without_a_key_is_missed_until_its_acknowledgement_at_most() {
    const TICKET: Key = Key {
        table: Table::Ticket,
        id: 20,
    };
    let inserted = |invalidated, id| {
        let (op, attempt) = (OpId(1), 0);
        let unknown = Key {
            id: UNKNOWN_ID,
            ..TICKET
        };
        History::new()
            .write(Write {
                invalidated,
                ..Write::put(EVE, unknown, "ticket", 10, 20)
            })
            .log(EVE, Record::Keyed { op, attempt, id })
            .commit(EVE, TICKET, Some(seen(1, "ticket")), 15)
    };
    let early = |history: History| {
        history
            .read(ADA, TICKET, Some(seen(1, "ticket")), 16)
            .read(BOB, TICKET, None, 18)
    };
    let findings = early(inserted(Invalidated::Keyless, 20)).holds();
    assert_eq!((findings.stale, findings.exposed[&Cause::Keyless]), (1, 1));
    early(inserted(Invalidated::Before, 20)).breaks(Rule::WentBackwards);
    inserted(Invalidated::Keyless, 20)
        .read(BOB, TICKET, None, 21)
        .breaks(Rule::OlderThanAcknowledged);
    inserted(Invalidated::Keyless, 20)
        .not_found(BOB, TICKET, "ticket", 21)
        .breaks(Rule::OlderThanAcknowledged);
    // The key that its caller was told is the row's.
    let found = inserted(Invalidated::Keyless, 19).check().violations;
    let rules: Vec<Rule> = found.iter().map(|violation| violation.rule).collect();
    let expected = [
        Rule::CommittedButNotAttempted,
        Rule::AcknowledgedButNotCommitted,
    ];
    assert_eq!(rules, expected);
}

/// Goal: after `invalidate_all` nobody reads the state before the statement, and until then anybody may.
#[test]
fn a_statement_about_many_rows_is_missed_until_invalidate_all_at_most() {
    let changed = || {
        History::new()
            .write(Write {
                invalidated: Invalidated::After,
                ..Write::put(ADA, ACCOUNT, "new", 10, 20)
            })
            .commit(ADA, ACCOUNT, new(), 15)
    };
    let findings = changed()
        .read(EVE, ACCOUNT, new(), 16)
        .read(BOB, ACCOUNT, old(), 18)
        .read(BOB, ACCOUNT, new(), 21)
        .holds();
    assert_eq!(findings.exposed[&Cause::Bypassing], 1);
    changed()
        .read(BOB, ACCOUNT, old(), 21)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: a transaction of which the database does not know when it was committed is known by its
/// acknowledgement.
#[test]
fn a_commit_at_an_unknown_time_is_known_by_its_acknowledgement() {
    let mut history = History::saved();
    if let Some(last) = history.evidence.audit.last_mut() {
        (last.committed, last.visible) = (ms(11), Moment::NEVER);
    }
    let history = history.read(BOB, ACCOUNT, new(), 21);
    assert_eq!(history.holds().exposed.get(&Cause::Late), None);
    history
        .read(BOB, ACCOUNT, old(), 23)
        .breaks(Rule::OlderThanAcknowledged);
}
