//! One row, its cache entry, and its readers and writers.
//!
//! The entry is handled by the *shipped* state machine, [`cached_repo::internals::state`]. This
//! module adds the database (one row, committed states numbered in order) and the steps of the read
//! and the write pipeline; each step is an atomic event at the cache or the database. A crash needs
//! no step: every prefix of a run is explored, so every process also dies at every step. What is
//! checked in every state:
//!
//! - a read that starts now is not served anything older than what a finished read returned or a
//!   finished write was acknowledged for;
//! - a read that finishes has not returned anything older than that, as of when it started.

use std::fmt;

use bytes::Bytes;
use cached_repo::internals::{
    Classification, Entry, Kind, Policy, Timestamp, Token, Version, classify,
    state::{
        Block, Cell, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Schemas, Stored, Value,
        Want,
    },
};

use crate::{explore::System, mutation::Mutation};

/// The time of every state. Elapsed time is subtracted from the deadlines instead, so that states
/// that differ only in their time are one.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
pub(crate) const LEASE_MS: u64 = 10;
pub(crate) const BLOCK_MS: u64 = 10;
pub(crate) const KEEP_MS: u64 = 100;
/// Values outlast every run; an eviction stands for their expiry.
const TTL_MS: u64 = 100_000_000;
/// Longer than a lease and a block, shorter than a floor.
pub(crate) const SHORT_MS: u64 = 11;
/// Longer than a floor, shorter than the entry of a write that has just begun.
pub(crate) const FLOOR_MS: u64 = 101;
/// Longer than everything but a value's TTL.
const LONG_MS: u64 = 300;

/// What a writer wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    Update,
    Delete,
    /// A delete whatever the version.
    DeleteById,
    /// The key is in the statement, so it is blocked.
    Insert,
    /// The database makes the key, so it is known only after the commit.
    InsertGeneratedKey,
    /// Raw SQL that leaves the version alone, followed by `invalidate`.
    RawUpdate,
    /// Raw SQL that leaves the version alone, in a transaction that invalidates the row.
    RawUpdateInTransaction,
    /// Raw SQL that raises the version, in a transaction that invalidates the row.
    RawRaiseInTransaction,
    /// An update whose transaction is rolled back.
    RollBack,
}

impl Job {
    /// Whether the key is known, and blocked, before the statement.
    pub(crate) fn blocks(self) -> bool {
        !matches!(self, Self::InsertGeneratedKey | Self::RawUpdate)
    }
}

/// What may go wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Pauses longer than leases and blocks.
    pub(crate) short_pauses: u8,
    /// Pauses longer than floors too.
    pub(crate) long_pauses: u8,
    /// Pauses longer than a floor, shorter than the entry of a write that has just begun.
    pub(crate) floor_pauses: u8,
    pub(crate) evictions: u8,
    /// A `done` may arrive after its write was acknowledged, or never.
    pub(crate) late_done: bool,
    /// A statement may commit after its block has lapsed.
    pub(crate) late_commit: bool,
}

/// What the cache and the database hold when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// The row is cached.
    Warm,
    /// The row exists, the cache is empty.
    Cold,
    /// There is no row, and the cache knows.
    KnownAbsent,
}

impl Start {
    pub(crate) fn row_and_cell(self, versioned: bool) -> (Row, Cell) {
        let (version, kind) = match self {
            Self::Warm => (Some(3), Some(Kind::Value)),
            Self::Cold => (Some(3), None),
            Self::KnownAbsent => (None, Some(Kind::Absent)),
        };
        let cell = kind.map(|kind| Stored {
            entry: Entry {
                kind,
                version: version_of(version.filter(|_| versioned).unwrap_or(0)),
                at: NOW,
                span_ms: TTL_MS,
                load_cost_ms: 0,
                schema: 0,
                claims: Default::default(),
                payload: payload(1),
            },
            expires_at: NOW.plus_ms(TTL_MS),
        });
        (Row { state: 1, version }, cell)
    }
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) versioned: bool,
    pub(crate) writers: &'static [Job],
    pub(crate) readers: usize,
    pub(crate) faults: Faults,
    /// Whether the case promises that reads never go backwards before the write they saw is
    /// acknowledged.
    pub(crate) monotonic: bool,
    /// How many writes have a slot of their own; of more, the oldest share one.
    pub(crate) slots: usize,
}

/// The row: committed states are numbered, deletes among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: u8,
    /// `None` if the row does not exist.
    pub(crate) version: Option<u64>,
}

impl Row {
    /// Executes a statement that expects this version. Returns what to publish, and in the error
    /// what to publish if nothing is committed.
    pub(crate) fn commit(
        &mut self,
        job: Job,
        expected: Option<u64>,
        versioned: bool,
        mutation: Mutation,
    ) -> Result<Publish, Publish> {
        let state = self.state + 1;
        let fits = !versioned || self.version == expected;
        let put = |version, inserted| match versioned {
            true => Publish::Put {
                version,
                state,
                inserted,
            },
            false => Publish::Invalidate { floor: 0 },
        };
        let (version, publish) = match (job, self.version) {
            (Job::RollBack, _) => return Err(Publish::RolledBack),
            (Job::Update, Some(version)) if fits => (Some(version + 1), put(version + 1, false)),
            (Job::Delete | Job::DeleteById, Some(version)) if fits || job == Job::DeleteById => {
                let floor = mutation.floor_of_delete(version);
                let floor = if versioned { floor } else { 0 };
                (None, Publish::Deleted { floor, state })
            }
            (Job::RawUpdate | Job::RawUpdateInTransaction, version) => {
                (version, Publish::Invalidate { floor: 0 })
            }
            (Job::RawRaiseInTransaction, version) => (
                version.map(|version| version + 1),
                Publish::Invalidate { floor: 0 },
            ),
            (Job::Insert, None) => (Some(1), put(1, true)),
            (Job::InsertGeneratedKey, None) => {
                let floor = u64::from(versioned);
                (Some(1), Publish::Invalidate { floor })
            }
            // The database refuses the duplicate.
            (Job::Insert | Job::InsertGeneratedKey, Some(_)) => return Err(Publish::RolledBack),
            (Job::Update | Job::Delete | Job::DeleteById, _) => {
                return Err(Publish::Invalidate { floor: 0 });
            }
        };
        *self = Self { state, version };
        Ok(publish)
    }

    /// What a reader that has read it stores.
    pub(crate) fn found(self, versioned: bool) -> Loaded {
        let value = value(self.state);
        match self.version {
            Some(version) => Loaded::Row {
                version: version_of(if versioned { version } else { 0 }),
                value,
            },
            None => Loaded::Absent(value),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Waiting,
    /// Has blocked; will commit if the version is still the expected one.
    InFlight {
        expected: Option<u64>,
        left_ms: u64,
    },
    Committed {
        state: u8,
        outcome: Publish,
        acknowledged: bool,
    },
    Failed(Publish),
    Ended,
}

/// The message that ends a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Publish {
    Put {
        version: u64,
        state: u8,
        inserted: bool,
    },
    Invalidate {
        floor: u64,
    },
    Deleted {
        floor: u64,
        state: u8,
    },
    RolledBack,
}

impl Publish {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Put {
                version,
                state,
                inserted,
            } => Outcome::Put {
                version: version_of(version),
                inserted,
                value: value(state),
            },
            Self::Invalidate { floor } | Self::Deleted { floor, .. } => Outcome::Invalidate {
                floor: version_of(floor),
            },
            Self::RolledBack => Outcome::RolledBack,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Waiting,
    /// Got nothing from the cache; must not return anything older than `floor`.
    Missed {
        floor: u8,
    },
    /// Reads the database next.
    Selecting {
        floor: u8,
        leased: bool,
    },
    /// Has returned the row; stores it next.
    Filling {
        row: Row,
    },
    Ended,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    ReadCache(usize),
    AskForLease(usize),
    /// Goes past the cache because another reader's load takes too long.
    GiveUpWaiting(usize),
    Select(usize),
    Fill(usize),
    Block(usize),
    Commit(usize),
    /// Acknowledges a write whose `done` got no reply.
    AcknowledgeUnpublished(usize),
    Done(usize),
    ShortPause,
    FloorPause,
    LongPause,
    Evict,
}

#[derive(Clone)]
pub(crate) struct World {
    case: &'static Case,
    mutation: Mutation,
    cell: Cell,
    row: Row,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    faults: Faults,
    /// The newest state that a finished read returned or a finished write was acknowledged for.
    known: u8,
    violation: Option<&'static str>,
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (&self.cell, &self.row, &self.writers, &self.readers).hash(hasher);
        (&self.faults, self.known, self.violation).hash(hasher);
    }
}

impl World {
    pub(crate) fn new(case: &'static Case, mutation: Mutation) -> Self {
        let (row, cell) = case.start.row_and_cell(case.versioned);
        Self {
            case,
            mutation,
            cell,
            row,
            writers: vec![Writer::Waiting; case.writers.len()],
            readers: vec![Reader::Waiting; case.readers],
            faults: case.faults,
            known: 1,
            violation: None,
        }
    }

    /// What a reader is given by the cache right now.
    fn served(&self) -> Option<u8> {
        let Stored { entry, .. } = self.cell.as_ref()?;
        serve(entry)
    }

    fn finish_read(&mut self, state: u8, floor: u8) {
        if state < floor {
            self.violation = Some("a read returned an older row than was known when it started");
        }
        if self.case.monotonic {
            self.known = self.known.max(state);
        }
    }

    fn read_cache(&mut self, reader: usize) {
        let floor = self.known;
        self.readers[reader] = match self.served() {
            Some(state) => {
                self.finish_read(state, floor);
                Reader::Ended
            }
            None => Reader::Missed { floor },
        };
    }

    fn ask_for_lease(&mut self, reader: usize, floor: u8) {
        let request = Lease {
            token: reader_token(reader),
            lease_ms: LEASE_MS,
            floor: Version::ZERO,
            schemas: Schemas::default(),
            want: Want::Value,
        };
        let next = match self.mutation.lease(&mut self.cell, NOW, &request) {
            Leased::Granted => Reader::Selecting {
                floor,
                leased: true,
            },
            Leased::Blocked => Reader::Selecting {
                floor,
                leased: false,
            },
            Leased::Wait => Reader::Missed { floor },
            Leased::Hit(entry) => match serve(&entry) {
                Some(state) => {
                    self.finish_read(state, floor);
                    Reader::Ended
                }
                None => Reader::Selecting {
                    floor,
                    leased: false,
                },
            },
        };
        self.readers[reader] = next;
    }

    fn select(&mut self, reader: usize, floor: u8, leased: bool) {
        self.finish_read(self.row.state, floor);
        self.readers[reader] = if leased {
            Reader::Filling { row: self.row }
        } else {
            Reader::Ended
        };
    }

    fn fill(&mut self, reader: usize, row: Row) {
        let request = Fill {
            token: reader_token(reader),
            loaded: row.found(self.case.versioned),
        };
        let _: Filled = self.mutation.fill(&mut self.cell, NOW, request);
        self.readers[reader] = Reader::Ended;
    }

    fn block(&mut self, writer: usize) {
        let request = Block {
            token: writer_token(writer),
            block_ms: BLOCK_MS,
            tombstone_ms: KEEP_MS,
        };
        self.mutation
            .block(&mut self.cell, NOW, &request, self.case.slots);
        self.writers[writer] = Writer::InFlight {
            expected: self.row.version,
            left_ms: BLOCK_MS,
        };
    }

    fn commit(&mut self, writer: usize, expected: Option<u64>) {
        let (job, versioned) = (self.case.writers[writer], self.case.versioned);
        self.writers[writer] = match self.row.commit(job, expected, versioned, self.mutation) {
            Ok(outcome) => Writer::Committed {
                state: self.row.state,
                outcome,
                acknowledged: false,
            },
            Err(outcome) => Writer::Failed(outcome),
        };
    }

    fn done(&mut self, writer: usize, publish: Publish) {
        let request = Done {
            token: writer_token(writer),
            tombstone_ms: KEEP_MS,
            outcome: publish.outcome(),
        };
        self.mutation.done(&mut self.cell, NOW, request, publish);
    }

    /// Subtracts `ms` from every deadline.
    fn pause(&mut self, ms: u64) {
        age(&mut self.cell, ms);
        for writer in &mut self.writers {
            if let Writer::InFlight { left_ms, .. } = writer {
                *left_ms = left_ms.saturating_sub(ms);
            }
        }
    }

    fn steps_of_reader(&self, at: usize, steps: &mut Vec<Step>) {
        match self.readers[at] {
            Reader::Waiting => steps.push(Step::ReadCache(at)),
            Reader::Missed { .. } => {
                steps.push(Step::AskForLease(at));
                steps.push(Step::GiveUpWaiting(at));
            }
            Reader::Selecting { .. } => steps.push(Step::Select(at)),
            Reader::Filling { .. } => steps.push(Step::Fill(at)),
            Reader::Ended => {}
        }
    }

    fn steps_of_writer(&self, at: usize, steps: &mut Vec<Step>) {
        match self.writers[at] {
            Writer::Waiting if !self.case.writers[at].blocks() => {
                steps.push(Step::Commit(at));
            }
            Writer::Waiting => steps.push(Step::Block(at)),
            Writer::InFlight { left_ms, .. } => {
                if left_ms > 0 || self.faults.late_commit {
                    steps.push(Step::Commit(at));
                }
            }
            Writer::Committed { acknowledged, .. } => {
                let blocked = self.case.writers[at].blocks();
                if !acknowledged && self.faults.late_done && blocked {
                    steps.push(Step::AcknowledgeUnpublished(at));
                }
                steps.push(Step::Done(at));
            }
            Writer::Failed(_) => steps.push(Step::Done(at)),
            Writer::Ended => {}
        }
    }
}

impl System for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::with_capacity(12);
        for at in 0..self.readers.len() {
            // Readers are alike: only the first of those that wait may begin.
            let earlier_waits = self.readers[..at].contains(&Reader::Waiting);
            if self.readers[at] != Reader::Waiting || !earlier_waits {
                self.steps_of_reader(at, &mut steps);
            }
        }
        for at in 0..self.writers.len() {
            self.steps_of_writer(at, &mut steps);
        }
        if self.faults.short_pauses > 0 {
            steps.push(Step::ShortPause);
        }
        if self.faults.floor_pauses > 0 {
            steps.push(Step::FloorPause);
        }
        if self.faults.long_pauses > 0 {
            steps.push(Step::LongPause);
        }
        if self.faults.evictions > 0 && self.cell.is_some() {
            steps.push(Step::Evict);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::ReadCache(reader) => self.read_cache(reader),
            Step::AskForLease(reader) => {
                if let Reader::Missed { floor } = self.readers[reader] {
                    self.ask_for_lease(reader, floor);
                }
            }
            Step::GiveUpWaiting(reader) => {
                if let Reader::Missed { floor } = self.readers[reader] {
                    self.readers[reader] = Reader::Selecting {
                        floor,
                        leased: false,
                    };
                }
            }
            Step::Select(reader) => {
                if let Reader::Selecting { floor, leased } = self.readers[reader] {
                    self.select(reader, floor, leased);
                }
            }
            Step::Fill(reader) => {
                if let Reader::Filling { row } = self.readers[reader] {
                    self.fill(reader, row);
                }
            }
            Step::Block(writer) => self.block(writer),
            Step::Commit(writer) => {
                let expected = match self.writers[writer] {
                    Writer::InFlight { expected, .. } => expected,
                    _ => None,
                };
                self.commit(writer, expected);
            }
            Step::AcknowledgeUnpublished(writer) => {
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
            Step::Done(writer) => match self.writers[writer] {
                Writer::Committed { state, outcome, .. } => {
                    self.done(writer, outcome);
                    self.known = self.known.max(state);
                    self.writers[writer] = Writer::Ended;
                }
                Writer::Failed(outcome) => {
                    self.done(writer, outcome);
                    self.writers[writer] = Writer::Ended;
                }
                _ => {}
            },
            Step::ShortPause => {
                self.faults.short_pauses -= 1;
                self.pause(SHORT_MS);
            }
            Step::FloorPause => {
                self.faults.floor_pauses -= 1;
                self.pause(FLOOR_MS);
            }
            Step::LongPause => {
                self.faults.long_pauses -= 1;
                self.pause(LONG_MS);
            }
            Step::Evict => {
                self.faults.evictions -= 1;
                self.cell = None;
            }
        }
    }

    fn violation(&self) -> Option<String> {
        if let Some(why) = self.violation {
            return Some(why.to_owned());
        }
        let state = self.served()?;
        (state < self.known).then(|| {
            let known = self.known;
            format!("the cache serves state {state} while state {known} is known")
        })
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.cell.as_ref().map(|stored| {
            let bytes = stored.entry.to_bytes();
            let version = stored.entry.version;
            let claims = stored.entry.claims.writers().len();
            (
                char::from(bytes[0]),
                version.get(),
                stored.entry.payload.first().copied(),
                claims,
            )
        });
        match held {
            None => write!(f, "cache: nothing")?,
            Some((kind, version, state, writers)) => {
                write!(f, "cache: {kind} version {version}")?;
                if let Some(state) = state {
                    write!(f, " state {state}")?;
                }
                if writers > 0 {
                    write!(f, " writers {writers}")?;
                }
            }
        }
        write!(
            f,
            "; database: state {} version {:?}; known {}",
            self.row.state, self.row.version, self.known
        )
    }
}

/// Subtracts `ms` from every deadline of an entry.
pub(crate) fn age(cell: &mut Cell, ms: u64) {
    let earlier = |moment: Timestamp| {
        let left = moment.as_millis().saturating_sub(ms);
        // All deadlines in the past are equal.
        Timestamp::from_millis(if left > NOW.as_millis() { left } else { 0 })
    };
    let Some(stored) = cell else { return };
    stored.expires_at = earlier(stored.expires_at);
    let entry = &mut stored.entry;
    let fresh_until = earlier(entry.fresh_until()).as_millis();
    entry.span_ms = fresh_until.saturating_sub(NOW.as_millis());
    entry.at = NOW;
    for slot in crate::mutation::slots_mut(&mut entry.claims) {
        slot.until = earlier(slot.until);
    }
    if stored.expires_at < NOW {
        *cell = None;
    }
}

/// The state that an entry serves, if it serves any.
pub(crate) fn serve(entry: &Entry) -> Option<u8> {
    let policy = Policy {
        schema: 0,
        epoch: 0,
        floor: Version::ZERO,
        serve_stale: false,
        early_refresh: 0.0,
        chance: 0.5,
    };
    match classify(entry, NOW, &policy) {
        Classification::Fresh
        | Classification::Early
        | Classification::Stale
        | Classification::KnownAbsent => entry.payload.first().copied(),
        Classification::Miss(_) => None,
    }
}

pub(crate) fn value(state: u8) -> Value {
    Value {
        payload: payload(state),
        schema: 0,
        load_cost_ms: 0,
        fresh_ms: TTL_MS,
        ttl_ms: TTL_MS,
    }
}

/// The payload of a cached state is its number.
fn payload(state: u8) -> Bytes {
    const NUMBERS: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7];
    let at = usize::from(state);
    Bytes::from_static(&NUMBERS[at..=at])
}

pub(crate) fn version_of(version: u64) -> Version {
    Version::new(version).unwrap_or_default()
}

pub(crate) fn reader_token(reader: usize) -> Token {
    Token::from_bits(100 + reader as u64)
}

pub(crate) fn writer_token(writer: usize) -> Token {
    Token::from_bits(1 + writer as u64)
}
