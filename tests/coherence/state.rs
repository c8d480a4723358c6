//! The state machine, one short history per rule: each would end wrongly if the rule were left
//! out. Tokens are small numbers, times are milliseconds since [`START`].

use bytes::Bytes;
use cached_repo::internals::{
    Kind, Timestamp, Token, Version,
    state::{
        self, Block, Cell, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Published, Schemas,
        Value, Want,
    },
};

const START: u64 = 1_763_715_000_000;
const LEASE_MS: u64 = 3_000;
const BLOCK_MS: u64 = 5_000;
const KEEP_MS: u64 = 30_000;
const TTL_MS: u64 = 600_000;

/// One key and its clock.
#[derive(Default)]
struct World {
    cell: Cell,
    now_ms: u64,
}

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn value(text: &str) -> Value {
    Value {
        payload: Bytes::copy_from_slice(text.as_bytes()),
        schema: 1,
        load_cost_ms: 1,
        fresh_ms: TTL_MS,
        ttl_ms: TTL_MS,
    }
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(START + self.now_ms)
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        if matches!(&self.cell, Some(stored) if stored.expires_at < self.now()) {
            self.cell = None;
        }
    }

    fn lease(&mut self, who: u64) -> Leased {
        let request = Lease {
            token: Token::from_bits(who),
            lease_ms: LEASE_MS,
            floor: Version::ZERO,
            schemas: Schemas::default(),
            want: Want::Value,
        };
        let now = self.now();
        state::lease(&mut self.cell, now, &request)
    }

    fn fill(&mut self, who: u64, number: u64, text: &str) -> Filled {
        self.end_lease(
            who,
            Loaded::Row {
                version: version(number),
                value: value(text),
            },
        )
    }

    fn fill_absent(&mut self, who: u64) -> Filled {
        self.end_lease(who, Loaded::Absent(value("-")))
    }

    fn end_lease(&mut self, who: u64, found: Loaded) -> Filled {
        let now = self.now();
        let token = Token::from_bits(who);
        state::fill(
            &mut self.cell,
            now,
            Fill {
                token,
                loaded: found,
            },
        )
    }

    fn block(&mut self, who: u64) {
        let request = Block {
            token: Token::from_bits(who),
            block_ms: BLOCK_MS,
            tombstone_ms: KEEP_MS,
        };
        let now = self.now();
        state::block(&mut self.cell, now, &request);
    }

    fn put(&mut self, who: u64, number: u64, text: &str) -> Published {
        self.done(
            who,
            Outcome::Put {
                version: version(number),
                inserted: false,
                value: value(text),
            },
        )
    }

    fn put_inserted(&mut self, who: u64, number: u64, text: &str) -> Published {
        self.done(
            who,
            Outcome::Put {
                version: version(number),
                inserted: true,
                value: value(text),
            },
        )
    }

    fn rolled_back(&mut self, who: u64) {
        assert_eq!(self.done(who, Outcome::RolledBack), Published::RolledBack);
    }

    /// A committed delete of this version.
    fn deleted(&mut self, who: u64, number: u64) -> Published {
        self.invalidate(who, number + 1)
    }

    fn invalidate(&mut self, who: u64, floor: u64) -> Published {
        let floor = version(floor);
        self.done(who, Outcome::Invalidate { floor })
    }

    fn done(&mut self, who: u64, outcome: Outcome) -> Published {
        let request = Done {
            token: Token::from_bits(who),
            tombstone_ms: KEEP_MS,
            outcome,
        };
        let now = self.now();
        state::done(&mut self.cell, now, request)
    }

    /// What a reader is served: a row's text, `-` for a known absence, nothing for a miss.
    fn served(&self) -> Option<String> {
        let stored = self.cell.as_ref()?;
        let entry = &stored.entry;
        let usable = entry.claims.writers().is_empty() && entry.fresh_until() > self.now();
        (usable && entry.kind != Kind::Tombstone)
            .then(|| String::from_utf8(entry.payload.to_vec()).unwrap())
    }

    /// A key that holds a row.
    fn holding(number: u64, text: &str) -> Self {
        let mut world = Self::default();
        assert_eq!(world.lease(99), Leased::Granted);
        assert_eq!(world.fill(99, number, text), Filled::Stored);
        world
    }
}

/// Goal: catch "fill without checking the lease".
#[test]
fn a_fill_whose_lease_a_write_revoked_is_refused() {
    let mut world = World::default();
    assert_eq!(world.lease(1), Leased::Granted);
    // The reader has SELECTed version 1 by now.
    world.block(2);
    assert_eq!(world.put(2, 2, "new"), Published::Put);
    assert_eq!(world.fill(1, 1, "old"), Filled::LeaseLost);
    assert_eq!(world.served().as_deref(), Some("new"));

    // And of an unversioned row, where no floor helps.
    let mut world = World::default();
    assert_eq!(world.lease(1), Leased::Granted);
    world.block(2);
    world.invalidate(2, 0);
    assert_eq!(world.fill(1, 0, "old"), Filled::LeaseLost);
    assert_eq!(world.served(), None);
}

/// Goal: catch "fill without checking the lease's holder": another reader's lease is not mine.
#[test]
fn a_fill_under_another_readers_lease_is_refused() {
    let mut world = World::default();
    assert_eq!(world.lease(1), Leased::Granted);
    world.block(2);
    world.rolled_back(2);
    assert_eq!(world.lease(3), Leased::Granted);
    assert_eq!(world.fill(1, 1, "old"), Filled::LeaseLost);
    assert_eq!(world.fill(3, 1, "row"), Filled::Stored);
}

/// Goal: catch "fill after the lease lapsed": by then another writer's block may have come and
/// gone.
#[test]
fn a_fill_after_its_lease_lapsed_is_refused() {
    let mut world = World::default();
    world.block(9);
    world.invalidate(9, 1);
    assert_eq!(world.lease(1), Leased::Granted);
    world.wait(LEASE_MS);
    assert_eq!(world.fill(1, 1, "late"), Filled::LeaseLost);
    assert_eq!(world.served(), None);
}

/// Goal: catch "fill of a missing key": a flush must not revive the leases from before it.
#[test]
fn a_fill_after_a_flush_is_refused() {
    let mut world = World::default();
    assert_eq!(world.lease(1), Leased::Granted);
    world.cell = None;
    assert_eq!(world.fill(1, 1, "old"), Filled::LeaseLost);
    assert_eq!(world.cell, None);
}

/// Goal: catch "no floor check in fill": a lagging read under a lease granted after the write.
#[test]
fn a_fill_below_the_floor_is_refused() {
    let mut world = World::default();
    world.block(1);
    world.invalidate(1, 2);
    assert_eq!(world.lease(2), Leased::Granted);
    assert_eq!(world.fill(2, 1, "replica lags"), Filled::BelowFloor);
    assert_eq!(world.served(), None);
    assert_eq!(world.lease(3), Leased::Granted);
    assert_eq!(world.fill(3, 2, "row"), Filled::Stored);
}

/// Goal: catch "no floor after a lost write": readers take over from a block whose time is up,
/// and the floor it kept still holds.
#[test]
fn the_floor_survives_a_block_that_timed_out() {
    let mut world = World::holding(4, "four");
    world.block(1);
    world.wait(BLOCK_MS);
    assert_eq!(world.lease(2), Leased::Granted);
    assert_eq!(world.fill(2, 3, "three"), Filled::BelowFloor);
    assert_eq!(world.lease(3), Leased::Granted);
    assert_eq!(world.fill(3, 4, "four"), Filled::Stored);
}

/// Goal: catch "put allowed on an empty key": the block was evicted, so others may have written.
#[test]
fn a_put_on_an_empty_key_invalidates() {
    let mut world = World::default();
    world.block(1);
    // Evicted; and while writer 1 was slow, writer 2 blocked, wrote version 3 and was evicted too.
    world.cell = None;
    assert_eq!(world.put(1, 2, "two"), Published::Invalidated);
    assert_eq!(world.served(), None);
}

/// Goal: catch "put accepted over T with a known floor": a later delete was published first.
#[test]
fn a_put_below_a_tombstones_floor_invalidates() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    // Writer 1 commits version 2, writer 2 deletes version 2 and publishes first.
    assert_eq!(world.deleted(2, 2), Published::Invalidated);
    assert_eq!(world.put(1, 2, "deleted row"), Published::Invalidated);
    assert_eq!(world.served(), None);
}

/// Goal: catch "put accepted over an older row it does not own": evicted, reloaded, then late.
#[test]
fn a_put_without_its_own_block_invalidates_even_over_an_older_row() {
    let mut world = World::default();
    world.block(1);
    world.cell = None;
    assert_eq!(world.lease(2), Leased::Granted);
    assert_eq!(world.fill(2, 1, "one"), Filled::Stored);
    // Writer 1 committed 2; since then the row was deleted, inserted again (version 1) and read.
    assert_eq!(world.put(1, 2, "earlier life"), Published::Invalidated);
    assert_eq!(world.served(), None);
}

/// Goal: catch "a put that yields to a newer absent": the row that was inserted again starts at
/// version 1, under an absence that remembers a higher one.
#[test]
fn an_inserted_row_is_not_hidden_by_the_absence_it_ends() {
    let mut world = World::holding(7, "seven");
    world.block(1);
    world.deleted(1, 7);
    assert_eq!(world.lease(2), Leased::Granted);
    assert_eq!(world.fill_absent(2), Filled::Stored);
    assert_eq!(world.served().as_deref(), Some("-"));
    world.block(3);
    assert_eq!(world.served(), None);
    assert_eq!(world.put_inserted(3, 1, "again"), Published::Invalidated);
    assert_eq!(world.served(), None, "neither the absence nor an old row");
    // At the latest when the floor lapses, the key is readable again.
    world.wait(KEEP_MS);
    assert_eq!(world.lease(4), Leased::Granted);
    assert_eq!(world.fill(4, 1, "again"), Filled::Stored);
}

/// Goal: the same where the absence came while the insert was under way: its block was evicted,
/// the delete before it was published late, and a reader stored what it saw before the commit.
#[test]
fn a_put_over_an_absence_that_came_meanwhile_ends_it() {
    let inserted = |world: &mut World| world.put_inserted(2, 1, "row");
    let updated = |world: &mut World| world.put(2, 2, "row");
    for publish in [inserted, updated] {
        let mut world = World::holding(5, "five");
        world.block(1);
        world.block(2);
        world.cell = None;
        assert_eq!(world.deleted(1, 5), Published::Invalidated);
        assert_eq!(world.lease(3), Leased::Granted);
        assert_eq!(world.fill_absent(3), Filled::Stored);
        assert_eq!(publish(&mut world), Published::Invalidated);
        assert_eq!(world.served(), None);
    }
}

/// Goal: catch "no deadline on put": past it a reader may have taken over and gone again.
#[test]
fn a_put_past_its_deadline_invalidates() {
    let mut world = World::default();
    world.block(1);
    world.wait(BLOCK_MS);
    assert_eq!(world.put(1, 2, "late"), Published::Invalidated);
    assert_eq!(world.served(), None);
}

/// Goal: why a delete's floor is v + 1 (see also `interleavings`, which tests the library): an
/// update of version 2 that is published after the delete of version 2 must not bring it back.
#[test]
fn a_deleted_version_is_below_its_tombstones_floor() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    assert_eq!(world.deleted(2, 2), Published::Invalidated);
    assert_eq!(world.cell.as_ref().unwrap().entry.version, version(3));
    assert_eq!(world.put(1, 2, "deleted row"), Published::Invalidated);
    assert_eq!(world.lease(3), Leased::Granted);
    assert_eq!(world.fill(3, 2, "lagging"), Filled::BelowFloor);
}

/// Goal: catch "one block slot instead of one per writer": while any write is in flight nothing is
/// served or stored, even if other writes have ended.
#[test]
fn each_write_in_flight_keeps_the_key_blocked() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    assert_eq!(world.put(1, 2, "two"), Published::Put);
    // Writer 2 may have committed version 3 and died.
    assert_eq!(world.served(), None);
    assert_eq!(world.lease(3), Leased::Blocked);
    assert_eq!(world.fill(3, 2, "two"), Filled::LeaseLost);
    assert_eq!(world.put(2, 3, "three"), Published::Put);
    assert_eq!(world.served().as_deref(), Some("three"));
}

/// Goal: catch "block pruning others' timed-out entries": the first writer's outcome is still
/// unknown after the second's block, so its put of an old row must not be the last word.
#[test]
fn a_block_keeps_the_timed_out_blocks_of_others() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.wait(BLOCK_MS);
    // Writer 1 died; it may have committed version 2, or may yet.
    world.block(2);
    let writers = |world: &World| world.cell.as_ref().unwrap().entry.claims.writers().to_vec();
    assert_eq!(writers(&world).len(), 2);
    assert_eq!(world.put(2, 3, "three"), Published::Put);
    assert_eq!(world.served(), None, "writer 1 is still listed");
    // The next reader asks the database, with the floor it knows.
    assert_eq!(world.lease(3), Leased::Granted);
    assert_eq!(world.fill(3, 2, "two"), Filled::BelowFloor);
    assert_eq!(world.lease(4), Leased::Granted);
    assert_eq!(world.fill(4, 4, "four"), Filled::Stored);
}

/// Goal: catch "a timed-out block that keeps its value": writer 1 puts while writer 2, now dead, is
/// listed. The value is not served once the time of writer 2 is up.
#[test]
fn a_value_under_a_timed_out_block_is_dropped() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    assert_eq!(world.put(1, 2, "two"), Published::Put);
    world.wait(BLOCK_MS);
    // Writer 2 committed version 3 and died.
    assert_eq!(world.lease(3), Leased::Granted, "not a hit on version 2");
    assert_eq!(world.served(), None);
    assert_eq!(world.fill(3, 3, "three"), Filled::Stored);
}

/// Goal: catch "a delete that caches absent": the row may be inserted again before `done`.
#[test]
fn a_delete_leaves_a_tombstone_and_not_an_absence() {
    let mut world = World::holding(1, "one");
    world.block(1);
    // Deleted, then inserted again by a writer whose done came first.
    world.block(2);
    world.put_inserted(2, 1, "again");
    assert_eq!(world.deleted(1, 1), Published::Invalidated);
    assert_eq!(world.cell.as_ref().unwrap().entry.kind, Kind::Tombstone);
    assert_eq!(world.served(), None);
}

/// Goal: a rollback removes only its own block.
#[test]
fn a_rollback_leaves_the_other_writes_blocks() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    world.rolled_back(1);
    assert_eq!(world.lease(3), Leased::Blocked);
    assert_eq!(world.put(2, 2, "two"), Published::Put);
    assert_eq!(world.served().as_deref(), Some("two"));
}

/// Goal: a late publisher of an older version leaves the newer row alone.
#[test]
fn a_late_older_put_is_superseded() {
    let mut world = World::holding(1, "one");
    world.block(1);
    world.block(2);
    assert_eq!(world.put(2, 3, "three"), Published::Put);
    assert_eq!(world.put(1, 2, "two"), Published::Superseded);
    assert_eq!(world.served().as_deref(), Some("three"));
}

/// Goal: raw SQL followed by `invalidate` is not undone by a write that committed before it and
/// publishes after it.
#[test]
fn an_invalidation_from_outside_voids_the_puts_in_flight() {
    let mut world = World::holding(1, "one");
    world.block(1);
    assert_eq!(world.invalidate(77, 0), Published::Invalidated);
    assert_eq!(
        world.lease(2),
        Leased::Blocked,
        "the write is still in flight"
    );
    assert_eq!(world.put(1, 2, "two"), Published::Invalidated);
    assert_eq!(world.served(), None);
}

/// Goal: writes without a version overlap one after another, as on a busy index key. Each removes
/// its own block, also one that another write has voided.
#[test]
fn writes_that_void_each_other_leave_no_block_behind() {
    let mut world = World::default();
    world.block(0);
    for who in 1..200 {
        world.block(who);
        assert_eq!(world.invalidate(who - 1, 0), Published::Invalidated);
    }
    assert_eq!(world.invalidate(199, 0), Published::Invalidated);
    assert_eq!(world.lease(1_000), Leased::Granted);
}

/// Goal: a key accepts any number of writes, and each protects its row: nothing is served until the
/// last of them has ended or its time is up. Writes that share a slot cannot put.
#[test]
fn a_crowd_of_writers_shares_slots() {
    let mut world = World::holding(1, "one");
    for who in 0..60 {
        world.block(who);
        world.wait(1);
    }
    assert_eq!(writers(&world), 50);
    assert_eq!(world.put(0, 2, "two"), Published::Invalidated);
    for who in 1..59 {
        world.rolled_back(who);
    }
    assert_eq!(writers(&world), 2, "the last write and what others share");
    assert_eq!(world.put(59, 3, "three"), Published::Put);
    assert_eq!(world.served(), None, "another write may be in flight");
    assert_eq!(world.lease(100), Leased::Blocked);
    world.wait(BLOCK_MS - 60);
    assert_eq!(world.lease(100), Leased::Blocked);
    world.wait(20);
    assert_eq!(world.lease(100), Leased::Granted);
    assert_eq!(world.fill(100, 3, "three"), Filled::Stored);
}

/// Goal: writes whose time is up share one slot and leave room. None of them is forgotten: a value
/// that is put beside them is not served, also if one of them reports late that it wrote nothing.
#[test]
fn lapsed_writers_share_one_slot_until_someone_reads() {
    let mut world = World::holding(1, "one");
    for who in 0..50 {
        world.block(who);
    }
    world.wait(BLOCK_MS);
    world.block(50);
    assert_eq!(writers(&world), 2);
    world.rolled_back(49);
    assert_eq!(writers(&world), 2);
    assert_eq!(world.put(50, 2, "two"), Published::Put);
    assert_eq!(world.served(), None);
    assert_eq!(world.lease(51), Leased::Granted);
    assert_eq!(world.fill(51, 2, "two"), Filled::Stored);
    assert_eq!(world.served().as_deref(), Some("two"));
}

fn writers(world: &World) -> usize {
    world.cell.as_ref().unwrap().entry.claims.writers().len()
}
