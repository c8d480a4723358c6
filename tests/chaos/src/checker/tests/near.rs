//! The same for reads that a near cache may have answered.

use super::*;
use crate::settings::NEAR_BOUND;

fn near_bound_ms() -> u64 {
    NEAR_BOUND.as_millis() as u64
}

impl History {
    /// A read that the near cache was allowed to answer, and takes a millisecond.
    fn read_near(self, process: Process, saw: Option<Seen>, near: Near, from: u64) -> Self {
        let read = Read {
            verb: "find near".into(),
            key: ACCOUNT,
            from: ms(from),
            to: ms(from + 1),
            saw,
            cached: true,
            near,
        };
        self.log(process, Record::Read(read))
    }

    fn hit(self, process: Process, saw: Option<Seen>, from: u64) -> Self {
        self.read_near(process, saw, Near::Hit, from)
    }

    /// An absence from an unknown source.
    fn absent(self, process: Process, from: u64) -> Self {
        self.read_near(process, None, Near::Perhaps, from)
    }
}

/// Goal: a write is seen near once its announcement is, measured from the commit, which it
/// precedes; what is older until then is counted.
#[test]
fn an_old_row_may_be_near_until_the_bound_after_the_commit() {
    let at_the_bound = 15 + near_bound_ms();
    let findings = History::saved()
        .hit(BOB, old(), 5)
        .hit(BOB, old(), 16)
        .hit(BOB, old(), 21)
        .hit(EVE, old(), at_the_bound)
        .hit(EVE, new(), at_the_bound + 1)
        .holds();
    let near = findings.near;
    assert_eq!((near.reads, near.hits, near.stale), (5, 5, 2));
    assert_eq!(near.stale_max, NEAR_BOUND);
    assert_eq!((findings.claimed, findings.stale), (0, 0));
    History::saved()
        .hit(EVE, old(), at_the_bound + 1)
        .breaks(Rule::NearTooOld);
}

/// Goal: the bound holds for each write that was missed, not only for the newest.
#[test]
fn a_later_write_gives_an_old_row_no_more_time() {
    let twice = |from| {
        History::saved()
            .write(Write::put(ADA, ACCOUNT, "newest", 500, 520))
            .commit(ADA, ACCOUNT, Some(seen(3, "newest")), 515)
            .hit(BOB, old(), from)
    };
    assert_eq!(twice(15 + near_bound_ms()).holds().near.stale, 1);
    twice(16 + near_bound_ms()).breaks(Rule::NearTooOld);
}

/// Goal: it holds for a write that was not acknowledged and that nobody has read: it was announced.
#[test]
fn a_write_whose_writer_died_ends_what_is_near() {
    let killed = |process, from| {
        History::new()
            .write(Write::put(process, ACCOUNT, "new", 10, 0).killed())
            .commit(process, ACCOUNT, new(), 15)
            .hit(BOB, old(), from)
    };
    killed(ADA, 15 + near_bound_ms()).holds();
    killed(ADA, 16 + near_bound_ms()).breaks(Rule::NearTooOld);
    killed(EVE, 16 + near_bound_ms()).holds();
}

/// Goal: a process sees near, at once, a write that was acknowledged to it. A restarted process
/// need not see it.
#[test]
fn an_old_row_near_the_writer_itself_is_a_violation() {
    History::saved().hit(ADA, new(), 21).holds();
    History::saved()
        .hit(ADA, old(), 21)
        .breaks(Rule::OwnWriteUnseen);
    History::saved_unblocked()
        .hit(EVE, old(), 30)
        .breaks(Rule::OwnWriteUnseen);
    let mut again = History::saved();
    again.evidence.logs.push(Testimony {
        process: Process { worker: 0, life: 2 },
        policy: Policy::Refuse,
        records: Vec::new(),
    });
    again.hit(Process { worker: 0, life: 2 }, old(), 21).holds();
}

/// Goal: what is near was committed, too.
#[test]
fn a_near_value_that_was_never_committed_is_a_violation() {
    History::saved()
        .hit(BOB, Some(seen(3, "new")), 21)
        .breaks(Rule::NeverCommitted);
    History::new()
        .write(Write::put(ADA, ACCOUNT, "new", 10, 20).ending(Outcome::Failed))
        .hit(BOB, new(), 21)
        .breaks(Rule::NeverCommitted);
}

/// Goal: a write that the shared tier may miss may be missed near until the bound after its
/// invalidation arrived; while others may miss it as well, it is stale as for them.
#[test]
fn an_excuse_of_the_shared_tier_is_followed_by_the_near_bound() {
    let findings = History::saved_unblocked().hit(BOB, old(), 50).holds();
    assert_eq!((findings.stale, findings.near.stale), (1, 0));
    let until = 60 + near_bound_ms();
    let findings = History::saved_unblocked().hit(BOB, old(), until).holds();
    assert_eq!((findings.stale, findings.near.stale), (0, 1));
    assert_eq!(findings.near.stale_max, NEAR_BOUND);
    History::saved_unblocked()
        .hit(BOB, old(), until + 1)
        .breaks(Rule::NearTooOld);
}

/// Goal: nothing near outlives what any cache may hold.
#[test]
fn nothing_is_near_for_longer_than_the_bound() {
    let never_invalidated = |from| {
        History::new()
            .write(Write::put(EVE, ACCOUNT, "new", 10, 20).queued())
            .commit(EVE, ACCOUNT, new(), 15)
            .hit(BOB, old(), from)
    };
    never_invalidated(20 + bound_ms()).holds();
    never_invalidated(21 + bound_ms()).breaks(Rule::BeyondTheBound);
}

/// Goal: near reads may go backwards, reads past the near cache may not, also after a near one.
#[test]
fn only_near_reads_may_go_backwards() {
    let seen_near = || History::saved().hit(BOB, new(), 16);
    seen_near().hit(BOB, old(), 18).holds();
    seen_near()
        .read(EVE, ACCOUNT, old(), 18)
        .breaks(Rule::WentBackwards);
    // And an old row near is no reason for others to see it.
    History::saved()
        .hit(BOB, old(), 21)
        .read(BOB, ACCOUNT, old(), 23)
        .breaks(Rule::OlderThanAcknowledged);
}

/// Goal: the full promise holds for a row from behind the near cache, although near was allowed.
#[test]
fn a_near_miss_is_a_read_like_any_other() {
    let missed = |saw| History::saved().read_near(BOB, saw, Near::Missed, 21);
    let findings = missed(new()).holds();
    let near = findings.near;
    assert_eq!((near.reads, near.hits, findings.claimed), (1, 0, 1));
    missed(old()).breaks(Rule::OlderThanAcknowledged);
}

/// Goal: an absence may be near, and belongs to the last time without the row that it can.
#[test]
fn an_absence_may_be_near_until_the_bound_after_an_insert() {
    let inserted = || {
        History::new()
            .write(Write::delete(ADA, ACCOUNT, seen(1, "old"), 10, 20))
            .commit(ADA, ACCOUNT, None, 15)
            .write(Write::put(ADA, ACCOUNT, "again", 30, 40))
            .commit(ADA, ACCOUNT, Some(seen(1, "again")), 35)
    };
    let findings = inserted().absent(BOB, 35 + near_bound_ms()).holds();
    assert_eq!((findings.near.absences, findings.near.stale), (1, 1));
    inserted()
        .absent(BOB, 36 + near_bound_ms())
        .breaks(Rule::NearTooOld);
    inserted().absent(ADA, 41).breaks(Rule::OwnWriteUnseen);
    let gone_again = inserted()
        .write(Write::delete(BOB, ACCOUNT, seen(1, "again"), 800, 820))
        .commit(BOB, ACCOUNT, None, 815)
        .absent(EVE, LATER);
    assert_eq!(gone_again.holds().near.stale, 0);
}

/// Goal: an absence that was kept near from before the row was inserted is no evidence of a
/// deletion that is about to be committed; one from behind the near cache is.
#[test]
fn an_absence_near_makes_no_deletion_known() {
    let around = |absence: fn(History) -> History| {
        let again = || seen(1, "again");
        let inserted = History::new()
            .write(Write::delete(ADA, ACCOUNT, seen(1, "old"), 10, 20))
            .commit(ADA, ACCOUNT, None, 15)
            .write(Write::put(ADA, ACCOUNT, "again", 100, 110))
            .commit(ADA, ACCOUNT, Some(again()), 105);
        absence(inserted)
            .read(BOB, ACCOUNT, Some(again()), 202)
            .write(Write::delete(ADA, ACCOUNT, again(), 195, 215))
            .commit(ADA, ACCOUNT, None, 208)
    };
    around(|history| history.absent(EVE, 199)).holds();
    around(|history| history.read(EVE, ACCOUNT, None, 199)).breaks(Rule::Resurrected);
}
