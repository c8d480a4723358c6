//! The explored cases: each promise with the faults under which it holds.

use cached_repo::internals::Claims;

use crate::{
    epoch, index,
    near::{self, Whose},
    world::{
        Case, Faults,
        Job::{
            Delete, DeleteById, Insert, InsertGeneratedKey, RawRaiseInTransaction, RawUpdate,
            RawUpdateInTransaction, RollBack, Update,
        },
        Start::{Cold, KnownAbsent, Warm},
    },
};

/// No faults but crashes, which are always explored.
const CALM: Faults = Faults {
    short_pauses: 0,
    floor_pauses: 0,
    long_pauses: 0,
    evictions: 0,
    late_done: false,
    late_commit: false,
};
/// Writers stall or die, and their publishes arrive late or are lost.
const LOST_DONE: Faults = Faults {
    short_pauses: 1,
    floor_pauses: 1,
    late_done: true,
    ..CALM
};
/// The same without the faults that matter only for floors.
const OUTAGE: Faults = Faults {
    floor_pauses: 0,
    ..LOST_DONE
};
/// The same, and everything lapses.
const LONG_OUTAGE: Faults = Faults {
    short_pauses: 1,
    long_pauses: 1,
    late_done: true,
    ..CALM
};
/// A statement commits after its block has lapsed; its `done` arrives.
const SLOW_COMMIT: Faults = Faults {
    short_pauses: 2,
    late_commit: true,
    ..CALM
};
/// A slow commit is acknowledged although its publish got no reply: with readers this is a known
/// hole. But the writers alone must not make the cache serve a row that a later write has replaced.
const SLOW_COMMIT_LOST_DONE: Faults = Faults {
    late_done: true,
    ..SLOW_COMMIT
};
/// Redis forgets keys; every publish arrives.
const EVICTIONS: Faults = Faults {
    short_pauses: 1,
    evictions: 2,
    ..CALM
};

const fn case(
    name: &'static str,
    start: crate::world::Start,
    writers: &'static [crate::world::Job],
    readers: usize,
    faults: Faults,
) -> Case {
    Case {
        name,
        start,
        versioned: true,
        writers,
        readers,
        faults,
        monotonic: true,
        slots: Claims::MAX_WRITERS,
    }
}

/// The same where at most two writes have a slot of their own.
const fn two_slots(case: Case) -> Case {
    Case { slots: 2, ..case }
}

const fn unversioned(case: Case) -> Case {
    Case {
        versioned: false,
        ..case
    }
}

/// Under these faults a reader may see a row before it is acknowledged and not see it later, see
/// the known holes in ARCHITECTURE.md. An acknowledged write is never lost.
const fn acknowledged_only(case: Case) -> Case {
    Case {
        monotonic: false,
        ..case
    }
}

/// The cases of every run.
pub(crate) const CASES: &[Case] = &[
    case("update, update", Warm, &[Update, Update], 3, LOST_DONE),
    case(
        "update, update, cold",
        Cold,
        &[Update, Update],
        3,
        LOST_DONE,
    ),
    unversioned(case(
        "update, update, unversioned",
        Warm,
        &[Update, Update],
        3,
        LOST_DONE,
    )),
    case("update, rollback", Warm, &[Update, RollBack], 3, LOST_DONE),
    case("update, delete", Warm, &[Update, Delete], 3, LOST_DONE),
    case(
        "update, delete by id",
        Warm,
        &[Update, DeleteById],
        3,
        LOST_DONE,
    ),
    case("delete, insert", Warm, &[Delete, Insert], 3, LOST_DONE),
    unversioned(case(
        "delete, insert, unversioned",
        Warm,
        &[Delete, Insert],
        3,
        LOST_DONE,
    )),
    case("insert, known absent", KnownAbsent, &[Insert], 3, LOST_DONE),
    case(
        "insert with a generated key, known absent",
        KnownAbsent,
        &[InsertGeneratedKey],
        3,
        LOST_DONE,
    ),
    acknowledged_only(case(
        "insert with a generated key, update",
        KnownAbsent,
        &[InsertGeneratedKey, Update],
        3,
        LOST_DONE,
    )),
    case(
        "three updates",
        Warm,
        &[Update, Update, Update],
        2,
        LOST_DONE,
    ),
    case(
        "update, delete, insert",
        Warm,
        &[Update, Delete, Insert],
        2,
        LOST_DONE,
    ),
    unversioned(case(
        "update, delete, insert, unversioned",
        Warm,
        &[Update, Delete, Insert],
        2,
        LOST_DONE,
    )),
    two_slots(case(
        "three updates, two slots",
        Warm,
        &[Update, Update, Update],
        2,
        LOST_DONE,
    )),
    two_slots(case(
        "update, delete, insert, two slots",
        Warm,
        &[Update, Delete, Insert],
        2,
        LOST_DONE,
    )),
    two_slots(unversioned(case(
        "three updates, two slots, unversioned",
        Warm,
        &[Update, Update, Update],
        2,
        LOST_DONE,
    ))),
    case(
        "update, update, everything lapses",
        Warm,
        &[Update, Update],
        2,
        LONG_OUTAGE,
    ),
    case(
        "update, delete, insert, everything lapses",
        Warm,
        &[Update, Delete, Insert],
        1,
        LONG_OUTAGE,
    ),
    acknowledged_only(case(
        "slow commits",
        Warm,
        &[Update, Update],
        3,
        SLOW_COMMIT,
    )),
    acknowledged_only(case(
        "slow delete, insert",
        Warm,
        &[Delete, Insert],
        3,
        SLOW_COMMIT,
    )),
    acknowledged_only(case(
        "slow delete by id, update",
        Warm,
        &[DeleteById, Update],
        3,
        SLOW_COMMIT,
    )),
    acknowledged_only(case("evictions", Warm, &[Update, Update], 3, EVICTIONS)),
    acknowledged_only(case(
        "evictions, delete, insert",
        Warm,
        &[Delete, Insert],
        3,
        EVICTIONS,
    )),
    acknowledged_only(unversioned(case(
        "evictions, unversioned",
        Warm,
        &[Update, Update],
        3,
        EVICTIONS,
    ))),
    case(
        "slow delete by id unpublished, update",
        Warm,
        &[DeleteById, Update],
        0,
        SLOW_COMMIT_LOST_DONE,
    ),
    unversioned(case(
        "slow updates unpublished",
        Warm,
        &[Update, Update],
        0,
        SLOW_COMMIT_LOST_DONE,
    )),
    acknowledged_only(case(
        "update, raw update",
        Warm,
        &[Update, RawUpdate],
        3,
        LOST_DONE,
    )),
    case(
        "update, raw update in a transaction",
        Warm,
        &[Update, RawUpdateInTransaction],
        3,
        LOST_DONE,
    ),
    case(
        "update, delete by id, raw update in a transaction",
        Warm,
        &[Update, DeleteById, RawUpdateInTransaction],
        2,
        LOST_DONE,
    ),
    acknowledged_only(case(
        "delete by id, insert, raw update",
        Warm,
        &[DeleteById, Insert, RawUpdate],
        2,
        LOST_DONE,
    )),
];

/// Cases of an index key with its row, of every run; the small ones first.
pub(crate) const INDEX_CASES: &[index::Case] = &[
    cascade_case(
        "cascade: delete parent",
        Some(2),
        &[index::Job::DeleteParent],
    ),
    cascade_case(
        "cascade: delete parent, insert",
        None,
        &[index::Job::DeleteParent, index::Job::Insert],
    ),
    cascade_case(
        "cascade: delete parent, update",
        Some(2),
        &[index::Job::DeleteParent, index::Job::MoveIn],
    ),
    cascade_case(
        "cascade: delete parent, move in",
        Some(1),
        &[index::Job::DeleteParent, index::Job::MoveIn],
    ),
    cascade_case(
        "cascade: delete parent, move out",
        Some(2),
        &[index::Job::DeleteParent, index::Job::MoveOut],
    ),
    cascade_case(
        "cascade: delete parent, delete",
        Some(2),
        &[index::Job::DeleteParent, index::Job::Delete],
    ),
    cascade_case(
        "cascade: roll back, update",
        Some(2),
        &[index::Job::RollBackDeleteParent, index::Job::MoveIn],
    ),
    cascade_case("cascade: unset", Some(1), &[index::Job::UnsetParent]),
    cascade_case(
        "cascade: unset, update",
        Some(1),
        &[index::Job::UnsetParent, index::Job::MoveOut],
    ),
    cascade_case(
        "cascade: unset, move in",
        Some(1),
        &[index::Job::UnsetParent, index::Job::MoveIn],
    ),
    cascade_case(
        "cascade: unset, move out",
        Some(2),
        &[index::Job::UnsetParent, index::Job::MoveOut],
    ),
    index::Case {
        monotonic: false,
        faults: EVICTIONS,
        ..cascade_case(
            "cascade: evictions, delete parent, update",
            Some(2),
            &[index::Job::DeleteParent, index::Job::MoveIn],
        )
    },
    index_case("index: move in", Some(1), &[index::Job::MoveIn], 3),
    index_case(
        "index: move in, move out",
        Some(1),
        &[index::Job::MoveIn, index::Job::MoveOut],
        3,
    ),
    index_case(
        "index: move out, move in",
        Some(2),
        &[index::Job::MoveOut, index::Job::MoveIn],
        3,
    ),
    index_case(
        "index: delete, insert",
        Some(2),
        &[index::Job::Delete, index::Job::Insert],
        3,
    ),
    index_case("index: insert", None, &[index::Job::Insert], 3),
    index_case(
        "index: roll back, move in",
        Some(1),
        &[index::Job::RollBackMoveIn, index::Job::MoveIn],
        3,
    ),
    index_case(
        "index: move in, move out, move in",
        Some(1),
        &[index::Job::MoveIn, index::Job::MoveOut, index::Job::MoveIn],
        2,
    ),
    index_case(
        "index: delete, insert, move out",
        Some(2),
        &[index::Job::Delete, index::Job::Insert, index::Job::MoveOut],
        2,
    ),
    index::Case {
        monotonic: false,
        ..index_case(
            "index: raw move in, move out",
            Some(1),
            &[index::Job::RawMoveIn, index::Job::MoveOut],
            2,
        )
    },
    index::Case {
        monotonic: false,
        faults: EVICTIONS,
        ..index_case(
            "index: evictions, move in, move out",
            Some(1),
            &[index::Job::MoveIn, index::Job::MoveOut],
            2,
        )
    },
];

/// A case of a row that refers to another one; with two readers, one of them by primary key.
const fn cascade_case(
    name: &'static str,
    start: Option<u8>,
    writers: &'static [index::Job],
) -> index::Case {
    index::Case {
        by_key: 1,
        ..index_case(name, start, writers, 2)
    }
}

const fn index_case(
    name: &'static str,
    start: Option<u8>,
    writers: &'static [index::Job],
    readers: usize,
) -> index::Case {
    index::Case {
        name,
        start,
        writers,
        readers,
        by_key: 0,
        faults: OUTAGE,
        monotonic: true,
    }
}

/// Cases of a near cache, of every run.
pub(crate) const NEAR_CASES: &[near::Case] = &[
    near::Case {
        lost_blocks: true,
        ..own("near: own update, raw update", &[Update, RawUpdate], OUTAGE)
    },
    near::Case {
        refreshes: true,
        ..own(
            "near: own delete, insert, slow commits",
            &[Delete, Insert],
            SLOW_COMMIT,
        )
    },
    near::Case {
        refreshes: true,
        ..own(
            "near: own update, raw raise, evictions",
            &[Update, RawRaiseInTransaction],
            EVICTIONS,
        )
    },
    near::Case {
        lost_blocks: true,
        ..own("near: own updates", &[Update, Update], OUTAGE)
    },
    from_acknowledgement(near_case(
        "near: slow commits",
        &[Update, Update],
        SLOW_COMMIT,
    )),
    from_acknowledgement(near::Case {
        refreshes: true,
        ..near_case(
            "near: slow commits, raw raise",
            &[Update, RawRaiseInTransaction],
            SLOW_COMMIT,
        )
    }),
    from_acknowledgement(near_case(
        "near: evictions, update, raw raise",
        &[Update, RawRaiseInTransaction],
        EVICTIONS,
    )),
    from_acknowledgement(near_case(
        "near: evictions, update, update",
        &[Update, Update],
        EVICTIONS,
    )),
    from_acknowledgement(near_case(
        "near: evictions, delete by id, insert",
        &[DeleteById, Insert],
        EVICTIONS,
    )),
    near_case("near: update, update", &[Update, Update], LOST_DONE),
    near::Case {
        versioned: false,
        ..near_case(
            "near: update, update, unversioned",
            &[Update, Update],
            LOST_DONE,
        )
    },
    near_case("near: update, rollback", &[Update, RollBack], LOST_DONE),
    near_case(
        "near: delete by id, insert",
        &[DeleteById, Insert],
        LOST_DONE,
    ),
    near::Case {
        start: KnownAbsent,
        ..near_case(
            "near: insert with a generated key, update",
            &[InsertGeneratedKey, Update],
            LOST_DONE,
        )
    },
    near_case(
        "near: update, raw update in a transaction",
        &[Update, RawUpdateInTransaction],
        LOST_DONE,
    ),
    near::Case {
        refreshes: true,
        ..near_case(
            "near: refreshes, update, raw update",
            &[Update, RawUpdate],
            LOST_DONE,
        )
    },
    near::Case {
        gaps: 2,
        ..near_case(
            "near: gaps, update, raw update",
            &[Update, RawUpdate],
            LOST_DONE,
        )
    },
    near::Case {
        gaps: 1,
        ..near_case("near: a gap, update, update", &[Update, Update], OUTAGE)
    },
    near::Case {
        lost_blocks: true,
        ..near_case(
            "near: lost blocks, delete, raw update",
            &[Delete, RawUpdate],
            LOST_DONE,
        )
    },
    near::Case {
        lost_blocks: true,
        ..near_case(
            "near: lost blocks, update, update",
            &[Update, Update],
            OUTAGE,
        )
    },
];

/// A case of the writers' own near cache.
const fn own(
    name: &'static str,
    writers: &'static [crate::world::Job],
    faults: Faults,
) -> near::Case {
    near::Case {
        whose: Whose::Writers,
        ..near_case(name, writers, faults)
    }
}

/// A write whose block may be gone before it commits counts once it is acknowledged.
const fn from_acknowledgement(case: near::Case) -> near::Case {
    near::Case {
        from_commit: false,
        ..case
    }
}

const fn near_case(
    name: &'static str,
    writers: &'static [crate::world::Job],
    faults: Faults,
) -> near::Case {
    near::Case {
        name,
        whose: Whose::Another,
        start: Warm,
        versioned: true,
        writers,
        readers: 2,
        faults,
        lost_blocks: false,
        refreshes: false,
        gaps: 0,
        from_commit: true,
    }
}

/// Cases that take minutes each.
pub(crate) const DEEP: &[Case] = &[
    case(
        "three updates, three readers",
        Warm,
        &[Update, Update, Update],
        3,
        LOST_DONE,
    ),
    case(
        "update, delete, insert, three readers",
        Warm,
        &[Update, Delete, Insert],
        3,
        LOST_DONE,
    ),
    case(
        "update, delete by id, insert, rollback",
        Warm,
        &[Update, DeleteById, Insert, RollBack],
        2,
        LOST_DONE,
    ),
    acknowledged_only(case(
        "evictions, three writers",
        Warm,
        &[Update, Delete, Insert],
        2,
        EVICTIONS,
    )),
];

const fn epoch_case(
    name: &'static str,
    writers: &'static [epoch::Job],
    readers: usize,
) -> epoch::Case {
    epoch::Case {
        name,
        writers,
        readers,
        pauses: 0,
        evictions: 0,
        losses: 0,
        late_commit: false,
        monotonic: true,
    }
}

/// The cases of an epoch.
pub(crate) const EPOCH_CASES: &[epoch::Case] = &[
    epoch::Case {
        monotonic: false,
        ..epoch_case("epoch: raw update", &[epoch::Job::Raw], 3)
    },
    epoch::Case {
        monotonic: false,
        evictions: 1,
        losses: 1,
        ..epoch_case("epoch: raw update, table lost", &[epoch::Job::Raw], 3)
    },
    epoch_case("epoch: transaction", &[epoch::Job::Whole], 3),
    epoch::Case {
        pauses: 1,
        ..epoch_case(
            "epoch: transaction that stalls or dies",
            &[epoch::Job::Whole],
            3,
        )
    },
    epoch::Case {
        pauses: 1,
        late_commit: true,
        monotonic: false,
        ..epoch_case(
            "epoch: transaction that commits late",
            &[epoch::Job::Whole],
            3,
        )
    },
    epoch::Case {
        pauses: 1,
        ..epoch_case(
            "epoch: two transactions",
            &[epoch::Job::Whole, epoch::Job::Whole],
            2,
        )
    },
    epoch_case(
        "epoch: transaction, update",
        &[epoch::Job::Whole, epoch::Job::Update],
        2,
    ),
    epoch::Case {
        monotonic: false,
        ..epoch_case(
            "epoch: raw update, update",
            &[epoch::Job::Raw, epoch::Job::Update],
            2,
        )
    },
];
