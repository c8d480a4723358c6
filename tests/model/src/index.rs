//! One row, an index key that may list it, and the readers and writers of both.
//!
//! Both entries are handled by the shipped state machine. A lookup reads the row of the index
//! entry, through the row's own entry, and drops a row that does not match; without an index entry
//! it asks the database under a lease of the index key. A write blocks the row and the index key of
//! the row's *new* value only. The invariant: a finished lookup has returned the database's state
//! at some moment between the newest state known when it began and now. So it returns no row that
//! is too old, none that does not match, and misses none that was there all the time. Readers by
//! primary key are under the same rule.
//!
//! The row may refer to another one, the parent, by its value. Whoever deletes that locks it, so that
//! no row comes to refer to it, finds the row and locks it, blocks what changes with it, and commits:
//! the database deletes the row, or unsets its value. The parent's own entry is a row like any other,
//! and no part of this.

use std::fmt;

use cached_repo::internals::{
    Claims, Version,
    state::{Block, Cell, Done, Fill, Filled, Lease, Leased, Loaded, Schemas, Stored, Want},
};

use crate::{
    explore::System,
    mutation::Mutation,
    world::{
        BLOCK_MS, Faults, KEEP_MS, LEASE_MS, NOW, Publish, SHORT_MS, age, reader_token, serve,
        value, version_of, writer_token,
    },
};

/// What a writer wants to do with the row. Lookups are for the value 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// Sets the value to 2.
    MoveIn,
    /// Sets the value to 1.
    MoveOut,
    /// The same in a transaction that is rolled back.
    RollBackMoveIn,
    Delete,
    /// With the value 2.
    Insert,
    /// Raw SQL that sets the value to 2, followed by `invalidate`, which reads the row.
    RawMoveIn,
    /// Deletes the row that rows with the value 2 refer to; they are deleted with it.
    DeleteParent,
    /// The same in a transaction that is rolled back.
    RollBackDeleteParent,
    /// Deletes the row that rows with the value 1 refer to; they refer to none then, which is the
    /// value 2.
    UnsetParent,
}

impl Job {
    /// The value of the rows that change with the one that it deletes, if it deletes a parent.
    fn parent_of(self) -> Option<u8> {
        match self {
            Self::DeleteParent | Self::RollBackDeleteParent => Some(SOUGHT),
            Self::UnsetParent => Some(1),
            _ => None,
        }
    }
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The row's value at the start, `None` for no row; the cache holds the right state.
    pub(crate) start: Option<u8>,
    pub(crate) writers: &'static [Job],
    pub(crate) readers: usize,
    /// How many of them read the row by its primary key.
    pub(crate) by_key: usize,
    pub(crate) faults: Faults,
    /// Whether the case promises that reads never go backwards before the write they saw is
    /// acknowledged.
    pub(crate) monotonic: bool,
}

const SOUGHT: u8 = 2;
/// Committed states of one run, the first included.
const MOST_STATES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    state: u8,
    version: u64,
    /// `None` if there is no row.
    value: Option<u8>,
}

/// The two entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Row,
    IndexEntry,
}

/// The parent, and what is locked by which writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Locks {
    parent_is_gone: bool,
    parent: Option<usize>,
    row: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    /// Is about to delete a parent.
    Unlocked,
    /// Has locked the parent; looks for rows that refer to it.
    Locked,
    /// Blocks its keys, one at a time.
    Blocking {
        row: bool,
        index_entry: bool,
    },
    Committed {
        state: u8,
        publish: Publish,
        /// Whether the publish of each entry is still to be sent.
        row: bool,
        index_entry: bool,
        acknowledged: bool,
    },
    Failed {
        publish: Publish,
        row: bool,
        index_entry: bool,
    },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Waiting,
    /// Got no index entry.
    IndexEntryMissed {
        floor: u8,
    },
    LookingUp {
        floor: u8,
        leased: bool,
    },
    /// Has returned what it found; stores whether the row is listed.
    FillingHint {
        listed: bool,
    },
    /// Reads the row of an index entry.
    Following {
        floor: u8,
    },
    RowMissed {
        floor: u8,
    },
    Selecting {
        floor: u8,
        leased: bool,
    },
    FillingRow {
        row: Row,
    },
    Ended,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    LookAtHint(usize),
    LeaseHint(usize),
    Lookup(usize),
    FillHint(usize),
    LookAtRow(usize),
    LeaseRow(usize),
    SelectRow(usize),
    FillRow(usize),
    LockParent(usize),
    FindRow(usize),
    Block(usize, Entry),
    Commit(usize),
    /// The process that holds locks dies, or its connection does.
    Die(usize),
    Acknowledge(usize),
    Done(usize, Entry),
    ShortPause,
    Evict(Entry),
}

#[derive(Clone)]
pub(crate) struct World {
    case: &'static Case,
    mutation: Mutation,
    row_cell: Cell,
    index_entry_cell: Cell,
    row: Row,
    locks: Locks,
    /// The version of the row that each deletion of a parent has found.
    found: Vec<Option<u64>>,
    /// The row's value in each committed state.
    values: [Option<u8>; MOST_STATES],
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    faults: Faults,
    known: u8,
    violation: Option<&'static str>,
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (
            &self.row_cell,
            &self.index_entry_cell,
            &self.row,
            (&self.locks, &self.found),
            &self.values,
        )
            .hash(hasher);
        (&self.writers, &self.readers).hash(hasher);
        (&self.faults, self.known, self.violation).hash(hasher);
    }
}

impl World {
    pub(crate) fn new(case: &'static Case, mutation: Mutation) -> Self {
        let row = Row {
            state: 1,
            version: 3,
            value: case.start,
        };
        let mut world = Self {
            case,
            mutation,
            row_cell: None,
            index_entry_cell: None,
            row,
            locks: Locks::default(),
            found: vec![None; case.writers.len()],
            values: [None; MOST_STATES],
            writers: Vec::new(),
            readers: vec![Reader::Waiting; case.readers],
            faults: case.faults,
            known: 1,
            violation: None,
        };
        world.values[1] = case.start;
        let writers = case.writers.iter();
        world.writers = writers.map(|job| world.before_its_blocks(*job)).collect();
        // The cached entries are filled as readers fill them.
        let lease = lease(reader_token(9));
        let listed = case.start == Some(SOUGHT);
        Mutation::None.lease(&mut world.index_entry_cell, NOW, &lease);
        let fill = world.index_entry(9, listed);
        Mutation::None.fill(&mut world.index_entry_cell, NOW, fill);
        Mutation::None.lease(&mut world.row_cell, NOW, &lease);
        let fill = row_fill(9, row);
        Mutation::None.fill(&mut world.row_cell, NOW, fill);
        world
    }

    /// Whether a write changes the entry of the index key that is looked up.
    fn changes_index_entry(job: Job) -> bool {
        !matches!(
            job,
            Job::MoveOut | Job::Delete | Job::DeleteParent | Job::RollBackDeleteParent
        )
    }

    fn before_its_blocks(&self, job: Job) -> Writer {
        if job.parent_of().is_some() {
            return Writer::Unlocked;
        }
        let blocks = job != Job::RawMoveIn;
        let index_entry =
            Self::changes_index_entry(job) && self.mutation != Mutation::IndexEntryNotBlocked;
        Writer::Blocking {
            row: blocks,
            index_entry: blocks && index_entry,
        }
    }

    fn index_entry(&self, reader: usize, listed: bool) -> Fill {
        let found = match listed {
            true => Loaded::Row {
                version: Version::ZERO,
                value: value(1),
            },
            false => Loaded::Absent(value(0)),
        };
        Fill {
            token: reader_token(reader),
            loaded: found,
        }
    }

    fn cell(&mut self, entry: Entry) -> &mut Cell {
        match entry {
            Entry::Row => &mut self.row_cell,
            Entry::IndexEntry => &mut self.index_entry_cell,
        }
    }

    /// A lookup has found the row in this state.
    fn found(&mut self, state: u8, floor: u8) {
        if state < floor {
            self.violation = Some("a lookup returned an older row than was known when it began");
        }
        if self.values[usize::from(state)] != Some(SOUGHT) {
            self.violation = Some("a lookup returned a row that does not match");
        }
        if self.case.monotonic {
            self.known = self.known.max(state);
        }
    }

    /// A lookup has found nothing.
    fn found_nothing(&mut self, floor: u8) {
        let mut since = self.values[usize::from(floor)..=usize::from(self.row.state)].iter();
        if since.all(|value| *value == Some(SOUGHT)) {
            self.violation = Some("a lookup missed a row that was there all the time");
        }
    }

    /// A cached row or absence ends a lookup that reads the row of an index entry.
    fn followed(&mut self, state: u8, floor: u8) {
        let matches = self.values[usize::from(state)] == Some(SOUGHT);
        if matches || self.mutation == Mutation::IndexEntryBelieved {
            self.found(state, floor);
        } else {
            self.found_nothing(floor);
        }
    }

    /// A read by primary key has found this state.
    fn read(&mut self, state: u8, floor: u8) {
        if state < floor {
            self.violation = Some("a read returned an older row than was known when it began");
        }
        if self.case.monotonic {
            self.known = self.known.max(state);
        }
    }

    /// The row's entry, or the database, has answered a reader.
    fn answered(&mut self, reader: usize, state: u8, floor: u8) {
        if reader < self.case.by_key {
            self.read(state, floor);
        } else {
            self.followed(state, floor);
        }
    }

    /// The value of the rows that refer to the parent.
    fn referring(&self) -> Option<u8> {
        self.case.writers.iter().find_map(|job| job.parent_of())
    }

    /// Whether the database lets a statement run now; else it waits for a lock.
    fn may_run(&self, writer: usize) -> bool {
        let is_free = |lock: Option<usize>| lock.is_none_or(|holder| holder == writer);
        is_free(self.locks.row) && (!self.needs_parent(writer) || is_free(self.locks.parent))
    }

    /// Whether a statement makes the row refer to the parent; the database locks that for it.
    fn needs_parent(&self, writer: usize) -> bool {
        let value = match self.case.writers[writer] {
            Job::MoveIn | Job::Insert | Job::RawMoveIn | Job::RollBackMoveIn => SOUGHT,
            Job::MoveOut => 1,
            _ => return false,
        };
        self.referring() == Some(value) && self.row.value != Some(value)
    }

    fn lock_parent(&mut self, writer: usize) {
        self.locks.parent = Some(writer);
        if self.mutation == Mutation::ChildFoundBeforeLock {
            self.block_found(writer);
        } else {
            self.writers[writer] = Writer::Locked;
        }
    }

    /// Finds the row if it refers to the parent, and locks it.
    fn find_row(&mut self, writer: usize) {
        let job = self.case.writers[writer];
        let refers = self.row.value.is_some() && self.row.value == job.parent_of();
        self.found[writer] = refers.then_some(self.row.version);
        let locks = !matches!(
            self.mutation,
            Mutation::ChildFoundBeforeLock | Mutation::ChildNotLocked
        );
        if refers && locks {
            self.locks.row = Some(writer);
        }
        if self.mutation == Mutation::ChildFoundBeforeLock {
            self.writers[writer] = Writer::Locked;
        } else {
            self.block_found(writer);
        }
    }

    /// Goes on to block what the deletion of a parent has found.
    fn block_found(&mut self, writer: usize) {
        let found = self.found[writer].is_some();
        let blocks = found && self.mutation != Mutation::ChildBlockedAfterCommit;
        let index_entry = Self::changes_index_entry(self.case.writers[writer])
            && self.mutation != Mutation::IndexEntryNotBlocked;
        self.writers[writer] = Writer::Blocking {
            row: blocks,
            index_entry: blocks && index_entry,
        };
    }

    /// The database ends the transaction of a writer.
    fn unlock(&mut self, writer: usize) {
        for lock in [&mut self.locks.parent, &mut self.locks.row] {
            *lock = lock.filter(|holder| *holder != writer);
        }
    }

    /// Deletes a parent, and the database what goes with it. Without its lock it is gone already.
    fn commit_parent(&mut self, writer: usize) {
        let job = self.case.writers[writer];
        self.unlock(writer);
        let found = self.found[writer];
        let index_entry = found.is_some() && Self::changes_index_entry(job);
        if job == Job::RollBackDeleteParent || self.locks.parent_is_gone {
            self.writers[writer] = Writer::Failed {
                publish: Publish::RolledBack,
                row: found.is_some(),
                index_entry,
            };
            return self.end_writer(writer);
        }
        self.locks.parent_is_gone = true;
        let changes = self.row.value.is_some() && self.row.value == job.parent_of();
        if changes {
            self.row.state += 1;
            self.row.value = match job {
                Job::UnsetParent => Some(SOUGHT),
                _ => None,
            };
            self.values[usize::from(self.row.state)] = self.row.value;
        }
        let state = self.row.state;
        let publish = match (job, found) {
            (Job::DeleteParent, Some(version)) => Publish::Deleted {
                floor: self.mutation.floor_of_delete(version),
                state,
            },
            _ => Publish::Invalidate { floor: 0 },
        };
        self.writers[writer] = Writer::Committed {
            // What others have done to the row is not acknowledged with it.
            state: if changes { state } else { 1 },
            publish,
            row: found.is_some(),
            index_entry,
            acknowledged: false,
        };
        self.end_writer(writer);
    }

    fn look_at_index_entry(&mut self, reader: usize) {
        let floor = self.known;
        let listed = self
            .index_entry_cell
            .as_ref()
            .and_then(|held| serve(&held.entry));
        self.readers[reader] = match listed {
            Some(0) => {
                self.found_nothing(floor);
                Reader::Ended
            }
            Some(_) => Reader::Following { floor },
            None => Reader::IndexEntryMissed { floor },
        };
    }

    fn lease_index_entry(&mut self, reader: usize, floor: u8) {
        let mutation = self.mutation;
        let request = lease(reader_token(reader));
        self.readers[reader] = match mutation.lease(&mut self.index_entry_cell, NOW, &request) {
            Leased::Granted => Reader::LookingUp {
                floor,
                leased: true,
            },
            Leased::Hit(entry) if serve(&entry) == Some(1) => Reader::Following { floor },
            Leased::Hit(entry) if serve(&entry) == Some(0) => {
                self.found_nothing(floor);
                Reader::Ended
            }
            Leased::Blocked | Leased::Wait | Leased::Hit(_) => Reader::LookingUp {
                floor,
                leased: false,
            },
        };
    }

    fn lookup(&mut self, reader: usize, floor: u8, leased: bool) {
        let listed = self.row.value == Some(SOUGHT);
        if listed {
            self.found(self.row.state, floor);
        } else {
            self.found_nothing(floor);
        }
        self.readers[reader] = match leased {
            true => Reader::FillingHint { listed },
            false => Reader::Ended,
        };
    }

    fn look_at_row(&mut self, reader: usize, floor: u8) {
        let served = self.row_cell.as_ref().and_then(|held| serve(&held.entry));
        self.readers[reader] = match served {
            Some(state) => {
                self.answered(reader, state, floor);
                Reader::Ended
            }
            None => Reader::RowMissed { floor },
        };
    }

    fn lease_row(&mut self, reader: usize, floor: u8) {
        let mutation = self.mutation;
        let request = lease(reader_token(reader));
        self.readers[reader] = match mutation.lease(&mut self.row_cell, NOW, &request) {
            Leased::Hit(entry) => match serve(&entry) {
                Some(state) => {
                    self.answered(reader, state, floor);
                    Reader::Ended
                }
                None => Reader::RowMissed { floor },
            },
            answer => Reader::Selecting {
                floor,
                leased: answer == Leased::Granted,
            },
        };
    }

    fn block(&mut self, writer: usize, entry: Entry) {
        let request = Block {
            token: writer_token(writer),
            block_ms: BLOCK_MS,
            tombstone_ms: KEEP_MS,
        };
        let mutation = self.mutation;
        mutation.block(self.cell(entry), NOW, &request, Claims::MAX_WRITERS);
        if let Writer::Blocking { row, index_entry } = &mut self.writers[writer] {
            match entry {
                Entry::Row => *row = false,
                Entry::IndexEntry => *index_entry = false,
            }
        }
    }

    fn commit(&mut self, writer: usize) {
        let job = self.case.writers[writer];
        if job.parent_of().is_some() {
            return self.commit_parent(writer);
        }
        let dangles = self.locks.parent_is_gone && self.needs_parent(writer);
        let state = self.row.state + 1;
        let exists = self.row.value.is_some();
        let index_entry = Self::changes_index_entry(job);
        let put = |version, inserted| Publish::Put {
            version,
            state,
            inserted,
        };
        let (version, value, publish) = match job {
            // The database refuses a reference to a row that is gone.
            _ if dangles => {
                self.writers[writer] = Writer::Failed {
                    publish: Publish::RolledBack,
                    row: true,
                    index_entry,
                };
                return;
            }
            Job::MoveIn if exists => (self.row.version + 1, Some(SOUGHT), {
                put(self.row.version + 1, false)
            }),
            Job::MoveOut if exists => (
                self.row.version + 1,
                Some(1),
                put(self.row.version + 1, false),
            ),
            Job::Delete if exists => (
                self.row.version,
                None,
                Publish::Deleted {
                    floor: self.mutation.floor_of_delete(self.row.version),
                    state,
                },
            ),
            Job::Insert if !exists => (1, Some(SOUGHT), put(1, true)),
            Job::RawMoveIn if exists => (
                self.row.version,
                Some(SOUGHT),
                Publish::Invalidate { floor: 0 },
            ),
            _ => {
                // The row is not in the state that the writer expects, or the transaction is rolled
                // back.
                let publish = match job {
                    Job::RollBackMoveIn | Job::Insert => Publish::RolledBack,
                    _ => Publish::Invalidate { floor: 0 },
                };
                self.writers[writer] = Writer::Failed {
                    publish,
                    row: true,
                    index_entry,
                };
                return;
            }
        };
        self.row = Row {
            state,
            version,
            value,
        };
        self.values[usize::from(state)] = value;
        self.writers[writer] = Writer::Committed {
            state,
            publish,
            row: true,
            index_entry,
            acknowledged: false,
        };
    }

    fn done(&mut self, writer: usize, entry: Entry) {
        let rolled_back = matches!(self.writers[writer], Writer::Failed { .. });
        let (Writer::Committed {
            publish,
            row,
            index_entry,
            ..
        }
        | Writer::Failed {
            publish,
            row,
            index_entry,
        }) = &mut self.writers[writer]
        else {
            return;
        };
        match entry {
            Entry::Row => *row = false,
            Entry::IndexEntry => *index_entry = false,
        }
        let publish = match entry {
            Entry::Row => *publish,
            Entry::IndexEntry if rolled_back => Publish::RolledBack,
            Entry::IndexEntry => Publish::Invalidate { floor: 0 },
        };
        let request = Done {
            token: writer_token(writer),
            tombstone_ms: KEEP_MS,
            outcome: publish.outcome(),
        };
        let mutation = self.mutation;
        mutation.done(self.cell(entry), NOW, request, publish);
        self.end_writer(writer);
    }

    fn end_writer(&mut self, writer: usize) {
        match self.writers[writer] {
            Writer::Committed {
                state,
                row: false,
                index_entry: false,
                ..
            } => {
                self.known = self.known.max(state);
                self.writers[writer] = Writer::Ended;
            }
            Writer::Failed {
                row: false,
                index_entry: false,
                ..
            } => self.writers[writer] = Writer::Ended,
            _ => {}
        }
    }

    fn steps_of_writer(&self, at: usize, steps: &mut Vec<Step>) {
        match self.writers[at] {
            Writer::Unlocked | Writer::Locked => {
                let finds_first = self.mutation == Mutation::ChildFoundBeforeLock;
                if (self.writers[at] == Writer::Unlocked) != finds_first {
                    let lock = self.locks.parent.is_none();
                    steps.extend(lock.then_some(Step::LockParent(at)));
                } else {
                    let find = self.locks.row.is_none();
                    steps.extend(find.then_some(Step::FindRow(at)));
                }
            }
            Writer::Blocking {
                row: false,
                index_entry: false,
            } => steps.extend(self.may_run(at).then_some(Step::Commit(at))),
            Writer::Blocking { row, index_entry } => {
                steps.extend(row.then_some(Step::Block(at, Entry::Row)));
                steps.extend(index_entry.then_some(Step::Block(at, Entry::IndexEntry)));
            }
            Writer::Committed {
                row,
                index_entry,
                acknowledged,
                ..
            } => {
                let blocks = self.case.writers[at] != Job::RawMoveIn;
                if !acknowledged && self.faults.late_done && blocks {
                    steps.push(Step::Acknowledge(at));
                }
                steps.extend(row.then_some(Step::Done(at, Entry::Row)));
                steps.extend(index_entry.then_some(Step::Done(at, Entry::IndexEntry)));
            }
            Writer::Failed {
                row, index_entry, ..
            } => {
                steps.extend(row.then_some(Step::Done(at, Entry::Row)));
                steps.extend(index_entry.then_some(Step::Done(at, Entry::IndexEntry)));
            }
            Writer::Ended => {}
        }
        if self.locks.parent == Some(at) {
            steps.push(Step::Die(at));
        }
    }

    fn step_of_reader(&self, at: usize) -> Option<Step> {
        match self.readers[at] {
            Reader::Waiting if at < self.case.by_key => Some(Step::LookAtRow(at)),
            Reader::Waiting => Some(Step::LookAtHint(at)),
            Reader::IndexEntryMissed { .. } => Some(Step::LeaseHint(at)),
            Reader::LookingUp { .. } => Some(Step::Lookup(at)),
            Reader::FillingHint { .. } => Some(Step::FillHint(at)),
            Reader::Following { .. } => Some(Step::LookAtRow(at)),
            Reader::RowMissed { .. } => Some(Step::LeaseRow(at)),
            Reader::Selecting { .. } => Some(Step::SelectRow(at)),
            Reader::FillingRow { .. } => Some(Step::FillRow(at)),
            Reader::Ended => None,
        }
    }

    fn take_reader(&mut self, at: usize) {
        match self.readers[at] {
            Reader::Waiting if at < self.case.by_key => self.look_at_row(at, self.known),
            Reader::Waiting => self.look_at_index_entry(at),
            Reader::IndexEntryMissed { floor } => self.lease_index_entry(at, floor),
            Reader::LookingUp { floor, leased } => self.lookup(at, floor, leased),
            Reader::FillingHint { listed } => {
                let fill = self.index_entry(at, listed);
                let mutation = self.mutation;
                let _: Filled = mutation.fill(&mut self.index_entry_cell, NOW, fill);
                self.readers[at] = Reader::Ended;
            }
            Reader::Following { floor } => self.look_at_row(at, floor),
            Reader::RowMissed { floor } => self.lease_row(at, floor),
            Reader::Selecting { floor, leased } => {
                self.answered(at, self.row.state, floor);
                self.readers[at] = match leased {
                    true => Reader::FillingRow { row: self.row },
                    false => Reader::Ended,
                };
            }
            Reader::FillingRow { row } => {
                let mutation = self.mutation;
                let _: Filled = mutation.fill(&mut self.row_cell, NOW, row_fill(at, row));
                self.readers[at] = Reader::Ended;
            }
            Reader::Ended => {}
        }
    }
}

fn lease(token: cached_repo::internals::Token) -> Lease {
    Lease {
        token,
        lease_ms: LEASE_MS,
        floor: Version::ZERO,
        schemas: Schemas::default(),
        want: Want::Value,
    }
}

fn row_fill(reader: usize, row: Row) -> Fill {
    let value = value(row.state);
    Fill {
        token: reader_token(reader),
        loaded: match row.value {
            Some(_) => Loaded::Row {
                version: version_of(row.version),
                value,
            },
            None => Loaded::Absent(value),
        },
    }
}

impl System for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::with_capacity(12);
        for at in 0..self.readers.len() {
            // Readers of a kind are alike: only the first of those that wait may begin.
            let first = if at < self.case.by_key {
                0
            } else {
                self.case.by_key
            };
            let earlier_waits = self.readers[first..at].contains(&Reader::Waiting);
            if self.readers[at] != Reader::Waiting || !earlier_waits {
                steps.extend(self.step_of_reader(at));
            }
        }
        for at in 0..self.writers.len() {
            self.steps_of_writer(at, &mut steps);
        }
        if self.faults.short_pauses > 0 {
            steps.push(Step::ShortPause);
        }
        if self.faults.evictions > 0 {
            steps.extend(
                self.index_entry_cell
                    .as_ref()
                    .map(|_| Step::Evict(Entry::IndexEntry)),
            );
            steps.extend(self.row_cell.as_ref().map(|_| Step::Evict(Entry::Row)));
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::LookAtHint(at)
            | Step::LeaseHint(at)
            | Step::Lookup(at)
            | Step::FillHint(at)
            | Step::LookAtRow(at)
            | Step::LeaseRow(at)
            | Step::SelectRow(at)
            | Step::FillRow(at) => self.take_reader(at),
            Step::LockParent(writer) => self.lock_parent(writer),
            Step::FindRow(writer) => self.find_row(writer),
            Step::Block(writer, entry) => self.block(writer, entry),
            Step::Commit(writer) => self.commit(writer),
            Step::Die(writer) => {
                self.unlock(writer);
                self.writers[writer] = Writer::Ended;
            }
            Step::Acknowledge(writer) => {
                if let Writer::Committed {
                    state,
                    acknowledged,
                    ..
                } = &mut self.writers[writer]
                {
                    *acknowledged = true;
                    self.known = self.known.max(*state);
                }
            }
            Step::Done(writer, entry) => self.done(writer, entry),
            Step::ShortPause => {
                self.faults.short_pauses -= 1;
                age(&mut self.row_cell, SHORT_MS);
                age(&mut self.index_entry_cell, SHORT_MS);
                // No COMMIT is sent after a block may have lapsed.
                for (at, job) in self.case.writers.iter().enumerate() {
                    let writer = self.writers[at];
                    let began = writer != self.before_its_blocks(*job);
                    if began && matches!(writer, Writer::Locked | Writer::Blocking { .. }) {
                        self.unlock(at);
                        self.writers[at] = Writer::Ended;
                    }
                }
            }
            Step::Evict(entry) => {
                self.faults.evictions -= 1;
                *self.cell(entry) = None;
            }
        }
    }

    fn violation(&self) -> Option<String> {
        self.violation.map(str::to_owned)
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = |cell: &Cell| match cell {
            None => "nothing".to_owned(),
            Some(Stored { entry, .. }) => {
                let kind = char::from(entry.to_bytes()[0]);
                let payload = entry.payload.first();
                let writers = entry.claims.writers().len();
                format!("{kind} {payload:?} writers {writers}")
            }
        };
        write!(
            f,
            "index entry: {}; row: {}; database: state {} value {:?}; known {}",
            held(&self.index_entry_cell),
            held(&self.row_cell),
            self.row.state,
            self.row.value,
            self.known
        )
    }
}
