//! Mistakes that the checker must find. Each wraps one operation of the shipped state machine and
//! makes the entry look as if the check that the mistake omits had passed.

use cached_repo::internals::{
    Claims, Entry, Kind, Slot, Timestamp, Token, Version,
    state::{
        self, Block, Cell, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Published, Stored,
    },
};

use crate::world::{Publish, value, version_of};

/// A mistake, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutation {
    None,
    FillWithoutLease,
    FillBelowFloor,
    PutOnEmptyKey,
    PutBelowFloor,
    PutOverUnownedRow,
    PutYieldsToAbsent,
    PutPastDeadline,
    DeleteFloorWithoutStep,
    OneBlockSlot,
    BlockPrunesOthers,
    CrowdDropsOldest,
    SharedSlotOwned,
    LapsedBlockKeepsValue,
    DeleteCachesAbsent,
    InvalidateLeavesOthers,
    IndexEntryNotBlocked,
    IndexEntryBelieved,
    ChildBlockedAfterCommit,
    ChildFoundBeforeLock,
    ChildNotLocked,
    NearStampedLate,
    NearKeptUnchecked,
    NearKeptAfterRefusedFill,
    NearKeptOverGap,
    BlockUnannounced,
    DoneUnannounced,
    SupersededUnannounced,
    OwnWriteUnnoted,
    OwnWriteNotedEarly,
    EpochNotAwaited,
    EpochNotBlocked,
    EpochOfFill,
    EpochOfPut,
    EpochEndUnraised,
    EpochTableReborn,
}

/// The kind of case that shows a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Row,
    Index,
    Near,
    Epoch,
}

impl Mutation {
    /// All of them, with a description of each.
    pub(crate) const ALL: [(Self, &'static str); 35] = [
        (Self::FillWithoutLease, "fill without checking the lease"),
        (Self::FillBelowFloor, "no floor check in fill"),
        (Self::PutOnEmptyKey, "put allowed on an empty key"),
        (
            Self::PutBelowFloor,
            "put accepted over a tombstone with a known floor",
        ),
        (
            Self::PutOverUnownedRow,
            "put accepted over an older row it does not own",
        ),
        (
            Self::PutYieldsToAbsent,
            "a put that yields to a newer absent",
        ),
        (Self::PutPastDeadline, "no deadline on put"),
        (
            Self::DeleteFloorWithoutStep,
            "tombstone floor = v instead of v + 1",
        ),
        (
            Self::OneBlockSlot,
            "one block slot instead of one per writer",
        ),
        (
            Self::BlockPrunesOthers,
            "block pruning others' timed-out entries",
        ),
        (
            Self::CrowdDropsOldest,
            "a block that drops the oldest write when there is no room",
        ),
        (
            Self::SharedSlotOwned,
            "a shared slot that one of its writes can take off",
        ),
        (
            Self::LapsedBlockKeepsValue,
            "a timed-out block that keeps its value",
        ),
        (Self::DeleteCachesAbsent, "a delete that caches absent"),
        (
            Self::InvalidateLeavesOthers,
            "an invalidation from outside that lets the writes in flight put",
        ),
        (
            Self::IndexEntryNotBlocked,
            "a write that invalidates the index key of its new value without blocking it",
        ),
        (
            Self::IndexEntryBelieved,
            "an index entry that is believed, not verified",
        ),
        (
            Self::ChildBlockedAfterCommit,
            "a row that goes with another and is not blocked before the COMMIT",
        ),
        (
            Self::ChildFoundBeforeLock,
            "a row that goes with another, looked for before that is locked",
        ),
        (
            Self::ChildNotLocked,
            "a row that goes with another and is not locked when it is found",
        ),
        (
            Self::NearStampedLate,
            "near: a stamp that is taken after the tier has answered",
        ),
        (
            Self::NearKeptUnchecked,
            "near: a row that is kept though its stamp does not hold",
        ),
        (
            Self::NearKeptAfterRefusedFill,
            "near: a row that is kept though it was not stored",
        ),
        (
            Self::NearKeptOverGap,
            "near: what was kept before a gap is served after it",
        ),
        (Self::BlockUnannounced, "near: blocks are not announced"),
        (
            Self::DoneUnannounced,
            "near: invalidations without a block of their own are not announced",
        ),
        (
            Self::SupersededUnannounced,
            "near: a put that a later one has overtaken is not announced",
        ),
        (
            Self::OwnWriteUnnoted,
            "near: a process does not note its own writes",
        ),
        (
            Self::OwnWriteNotedEarly,
            "near: a process notes its own writes before the tier is asked",
        ),
        (
            Self::EpochNotAwaited,
            "epoch: who raises it does not wait until all processes know it",
        ),
        (
            Self::EpochNotBlocked,
            "epoch: it is raised before a COMMIT, and the entity is not blocked",
        ),
        (
            Self::EpochOfFill,
            "epoch: a load is stored in the epoch of its fill",
        ),
        (
            Self::EpochOfPut,
            "epoch: a write is stored in the epoch of its put",
        ),
        (
            Self::EpochEndUnraised,
            "epoch: it is not raised when a block that has lapsed ends",
        ),
        (
            Self::EpochTableReborn,
            "epoch: a table that was lost comes back with the same base",
        ),
    ];

    /// The kind of case that must show it.
    pub(crate) fn concern(self) -> Concern {
        match self {
            Self::IndexEntryNotBlocked
            | Self::IndexEntryBelieved
            | Self::ChildBlockedAfterCommit
            | Self::ChildFoundBeforeLock
            | Self::ChildNotLocked => Concern::Index,
            Self::NearStampedLate
            | Self::NearKeptUnchecked
            | Self::NearKeptAfterRefusedFill
            | Self::NearKeptOverGap
            | Self::BlockUnannounced
            | Self::DoneUnannounced
            | Self::SupersededUnannounced
            | Self::OwnWriteUnnoted
            | Self::OwnWriteNotedEarly => Concern::Near,
            Self::EpochNotAwaited
            | Self::EpochNotBlocked
            | Self::EpochOfFill
            | Self::EpochOfPut
            | Self::EpochEndUnraised
            | Self::EpochTableReborn => Concern::Epoch,
            _ => Concern::Row,
        }
    }

    pub(crate) fn lease(self, cell: &mut Cell, now: Timestamp, request: &Lease) -> Leased {
        if let (Self::LapsedBlockKeepsValue, Some(Stored { entry, .. })) = (self, &mut *cell)
            && entry
                .claims
                .writers()
                .iter()
                .all(|writer| writer.until <= now)
            && !entry.claims.writers().is_empty()
        {
            entry.claims = Claims::None;
        }
        state::lease(cell, now, request)
    }

    pub(crate) fn fill(self, cell: &mut Cell, now: Timestamp, request: Fill) -> Filled {
        if let Some(Stored { entry, .. }) = cell {
            match self {
                Self::FillWithoutLease => {
                    entry.claims = Claims::Lease(Slot {
                        token: request.token,
                        until: later(now),
                    });
                }
                Self::FillBelowFloor if matches!(request.loaded, Loaded::Row { .. }) => {
                    entry.version = Version::ZERO;
                }
                _ => {}
            }
        }
        state::fill(cell, now, request)
    }

    pub(crate) fn block(self, cell: &mut Cell, now: Timestamp, request: &Block, slots: usize) {
        let before = cell.clone();
        if let Some(Stored { entry, .. }) = cell
            && let Claims::Writers(writers) = &mut entry.claims
        {
            match self {
                Self::OneBlockSlot => writers.clear(),
                Self::BlockPrunesOthers => writers.retain(|writer| writer.until > now),
                Self::CrowdDropsOldest if writers.len() >= slots => drop(writers.remove(0)),
                _ => {}
            }
        }
        state::block_within(cell, now, request, slots);
        let (Some(before), Some(after)) = (before, cell) else {
            return;
        };
        if self == Self::SharedSlotOwned {
            let latest = before.entry.claims.writers().last();
            for slot in slots_mut(&mut after.entry.claims) {
                if slot.token == Token::SHARED {
                    slot.token = latest.map_or(slot.token, |writer| writer.token);
                }
            }
        }
        if self == Self::LapsedBlockKeepsValue && before.entry.kind == Kind::Value {
            let claims = std::mem::take(&mut after.entry.claims);
            after.entry = Entry {
                claims,
                ..before.entry
            };
            after.expires_at = after.expires_at.max(before.expires_at);
        }
    }

    pub(crate) fn done(
        self,
        cell: &mut Cell,
        now: Timestamp,
        mut request: Done,
        publish: Publish,
    ) -> Published {
        let token = request.token;
        match (self, &request.outcome) {
            (Self::PutOnEmptyKey, Outcome::Put { .. }) if cell.is_none() => {
                let block = Block {
                    token,
                    block_ms: 1000,
                    tombstone_ms: request.tombstone_ms,
                };
                state::block(cell, now, &block);
            }
            (Self::PutBelowFloor, Outcome::Put { .. }) => {
                if let Some(Stored { entry, .. }) = cell
                    && entry.kind == Kind::Tombstone
                {
                    entry.version = Version::ZERO;
                }
            }
            (Self::PutOverUnownedRow, Outcome::Put { version, .. }) => {
                if let Some(Stored { entry, .. }) = cell
                    && entry.kind == Kind::Value
                    && entry.version < *version
                {
                    own(entry, token, later(now));
                }
            }
            (Self::PutYieldsToAbsent, Outcome::Put { version, .. }) => {
                if let Some(Stored { entry, .. }) = cell
                    && entry.kind == Kind::Absent
                    && entry.version > *version
                {
                    return Published::Superseded;
                }
            }
            (Self::PutPastDeadline, Outcome::Put { .. }) => {
                if let Some(Stored { entry, .. }) = cell {
                    for slot in slots_mut(&mut entry.claims) {
                        if slot.token == token {
                            slot.until = later(now);
                        }
                    }
                }
            }
            (Self::InvalidateLeavesOthers, Outcome::Invalidate { .. }) => {
                let before = cell.clone();
                let published = state::done(cell, now, request);
                if let (Some(before), Some(after)) = (before, cell) {
                    let kept = before.entry.claims.writers().iter();
                    let kept = kept.filter(|writer| writer.token != token).copied();
                    for (slot, was) in slots_mut(&mut after.entry.claims).iter_mut().zip(kept) {
                        *slot = was;
                    }
                }
                return published;
            }
            (Self::DeleteCachesAbsent, Outcome::Invalidate { floor }) => {
                if let Publish::Deleted { state, .. } = publish
                    && let Some(Stored { entry, .. }) = cell
                    && entry
                        .claims
                        .writers()
                        .iter()
                        .any(|writer| writer.token == token)
                {
                    let version = entry.version.max(*floor);
                    request.outcome = Outcome::Put {
                        version,
                        inserted: false,
                        value: value(state),
                    };
                    entry.version = Version::ZERO;
                    let published = state::done(cell, now, request);
                    if let (Published::Put, Some(stored)) = (published, cell) {
                        stored.entry.kind = Kind::Absent;
                    }
                    return published;
                }
            }
            _ => {}
        }
        state::done(cell, now, request)
    }

    /// The floor that a delete of this version leaves.
    pub(crate) fn floor_of_delete(self, version: u64) -> u64 {
        match self {
            Self::DeleteFloorWithoutStep => version,
            _ => version_of(version).get() + 1,
        }
    }
}

/// Adds a block of the writer, if it has none.
fn own(entry: &mut Entry, token: Token, until: Timestamp) {
    let mut writers = entry.claims.writers().to_vec();
    if writers.iter().all(|writer| writer.token != token) {
        writers.push(Slot { token, until });
    }
    entry.claims = Claims::Writers(writers);
}

fn later(now: Timestamp) -> Timestamp {
    now.plus_ms(1000)
}

/// The lease or blocks of an entry, to be changed in place.
pub(crate) fn slots_mut(claims: &mut Claims) -> &mut [Slot] {
    match claims {
        Claims::None => &mut [],
        Claims::Lease(slot) => std::slice::from_mut(slot),
        Claims::Writers(writers) => writers,
    }
}
