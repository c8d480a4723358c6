//! One row, its cache entry, the epoch of its entity, and processes that trust what they know of the
//! epoch.
//!
//! The entry and the table of epochs are handled by the shipped state machine. A process may stop
//! to trust what it knows of the epoch at any time, and ask again at any time. What it stores has the
//! epoch that it knew before the SQL, trusted or not. That it trusts it for a bounded time only appears
//! as what writers wait for: until every process has asked since the epoch was raised, or trusts nothing.
//!
//! What is checked in every state: no read returns an older state than was known when it began. Known
//! is what a write has acknowledged and, where the case says so, what another read has returned.

use std::fmt;

use cached_repo::internals::{
    Classification, Entry, Policy, Timestamp, Token, Version, classify,
    epoch::{self, EpochChange, EpochReply, EpochRequest, Epochs, stamped},
    state::{
        self, Block, Cell, Done, Fill, Lease, Leased, Loaded, Outcome, Schemas, Stored, Value, Want,
    },
};

use crate::{
    explore::System,
    mutation::Mutation,
    world::{BLOCK_MS, KEEP_MS, LEASE_MS, NOW, SHORT_MS, age, reader_token, value, writer_token},
};

const ENTITY: &str = "row:";
const PROCESSES: usize = 2;

/// What a writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// Changes any rows in a transaction of the library.
    Whole,
    /// Changes the row past the library, and then invalidates the entity.
    Raw,
    /// Updates the row through the library, which raises its version.
    Update,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) writers: &'static [Job],
    pub(crate) readers: usize,
    /// Pauses longer than blocks and leases.
    pub(crate) pauses: u8,
    pub(crate) evictions: u8,
    /// How often the table of epochs is lost.
    pub(crate) losses: u8,
    /// A transaction may commit after its block has lapsed.
    pub(crate) late_commit: bool,
    /// Whether what a read has returned is known from then on.
    pub(crate) monotonic: bool,
}

/// What a process knows of the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Knowledge {
    epoch: u32,
    is_blocked: bool,
    /// How often the epoch had been raised when it was asked for.
    raises: u8,
    /// A read that begins now may use it.
    is_trusted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Waiting,
    /// Has what its process knows of the epoch, and gets the entry next.
    Looking {
        bound: u8,
        epoch: Option<u32>,
    },
    /// Asks the database next, and stores nothing.
    Past {
        bound: u8,
    },
    Missed {
        bound: u8,
    },
    Leased {
        bound: u8,
        epoch: u32,
    },
    Filling {
        epoch: u32,
        row: Row,
    },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Waiting,
    /// Waits until all processes know the epoch that was raised before these.
    Raising {
        raises: u8,
        then: Then,
    },
    /// The SQL is sent next.
    Blocked {
        left_ms: u64,
        epoch: Option<u32>,
    },
    Committed {
        row: Row,
        epoch: Option<u32>,
    },
    Ended,
}

/// What follows once all processes know the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    Sql { left_ms: u64 },
    Acknowledge { state: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    state: u8,
    version: u64,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ask(usize),
    Forget(usize),
    Look(usize),
    Get(usize),
    SelectPast(usize),
    AskForLease(usize),
    Select(usize),
    Fill(usize),
    Begin(usize),
    KnownToAll(usize),
    Commit(usize),
    RollBack(usize),
    Publish(usize),
    Die(usize),
    Pause,
    Evict,
    LoseTable,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct World {
    late_commit: bool,
    monotonic: bool,
    mutation: Mutation,
    jobs: Vec<Job>,
    cell: Cell,
    table: Option<Epochs>,
    next_base: u32,
    raises: u8,
    row: Row,
    known: u8,
    processes: [Knowledge; PROCESSES],
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    pauses: u8,
    evictions: u8,
    losses: u8,
    violation: Option<(u8, u8)>,
}

impl World {
    pub(crate) fn new(case: &Case, mutation: Mutation) -> Self {
        let mut world = Self {
            late_commit: case.late_commit,
            monotonic: case.monotonic,
            mutation,
            jobs: case.writers.to_vec(),
            cell: None,
            table: None,
            next_base: 1000,
            raises: 0,
            row: Row {
                state: 0,
                version: 1,
            },
            known: 0,
            processes: [Knowledge::default(); PROCESSES],
            readers: vec![Reader::Waiting; case.readers],
            writers: vec![Writer::Waiting; case.writers.len()],
            pauses: case.pauses,
            evictions: case.evictions,
            losses: case.losses,
            violation: None,
        };
        // The row is cached, and every process knows the epoch.
        (0..PROCESSES).for_each(|process| world.ask(process));
        let epoch = world.processes[0].epoch;
        let token = reader_token(0);
        world.lease(token, epoch);
        world.fill(token, epoch, world.row);
        world
    }

    /// The processes take turns.
    fn process_of_reader(at: usize) -> usize {
        at % PROCESSES
    }

    fn change(&mut self, change: EpochChange) -> EpochReply {
        if self.table.is_none() && self.mutation != Mutation::EpochTableReborn {
            self.next_base += 1000;
        }
        let request = EpochRequest {
            base: self.next_base,
            change,
            entities: match change {
                EpochChange::Read => Vec::new(),
                _ => vec![ENTITY.into()],
            },
        };
        let reply = epoch::change(&mut self.table, NOW, &request);
        self.raises += u8::from(reply.raised);
        reply
    }

    fn ask(&mut self, process: usize) {
        let (epoch, is_blocked) = self.change(EpochChange::Read).of(ENTITY);
        let is_blocked = is_blocked && self.mutation != Mutation::EpochNotBlocked;
        self.processes[process] = Knowledge {
            epoch,
            is_blocked,
            raises: self.raises,
            is_trusted: true,
        };
    }

    /// The epoch that a process knows, outdated or not; `None` if a write blocks the entity.
    fn storable(&self, process: usize) -> Option<u32> {
        let known = self.processes[process];
        (!known.is_blocked).then_some(known.epoch)
    }

    fn lease(&mut self, token: Token, epoch: u32) -> Leased {
        let request = Lease {
            token,
            lease_ms: LEASE_MS,
            floor: Version::ZERO,
            schemas: Schemas {
                value: stamped(0, epoch),
                absence: stamped(0, epoch),
            },
            want: Want::Value,
        };
        state::lease(&mut self.cell, NOW, &request)
    }

    fn fill(&mut self, token: Token, epoch: u32, row: Row) {
        let loaded = Loaded::Row {
            version: Version::new(row.version).unwrap_or_default(),
            value: stored(row.state, epoch),
        };
        state::fill(&mut self.cell, NOW, Fill { token, loaded });
    }

    /// A read that began when `bound` was known returns a state.
    fn returned(&mut self, bound: u8, state: u8) {
        if state < bound {
            self.violation = Some((state, bound));
        }
        if self.monotonic {
            self.known = self.known.max(state);
        }
    }

    fn steps_of_reader(&self, at: usize, steps: &mut Vec<Step>) {
        let known = self.processes[Self::process_of_reader(at)];
        match (&self.readers[at], known.is_trusted) {
            // First the process asks for the epoch.
            (Reader::Waiting, false) => {}
            (Reader::Waiting, true) => steps.push(Step::Look(at)),
            (Reader::Looking { .. }, _) => steps.push(Step::Get(at)),
            (Reader::Past { .. }, _) => steps.push(Step::SelectPast(at)),
            (Reader::Missed { .. }, _) => steps.push(Step::AskForLease(at)),
            (Reader::Leased { .. }, _) => steps.push(Step::Select(at)),
            (Reader::Filling { .. }, _) => steps.push(Step::Fill(at)),
            (Reader::Ended, _) => {}
        }
    }

    fn read(&mut self, at: usize, step: Step) {
        let process = Self::process_of_reader(at);
        self.readers[at] = match (self.readers[at].clone(), step) {
            (Reader::Waiting, _) => Reader::Looking {
                bound: self.known,
                epoch: self.storable(process),
            },
            (Reader::Looking { bound, epoch }, _) => {
                let entry = self.cell.as_ref().map(|stored| &stored.entry);
                let served = epoch.and_then(|epoch| serve(entry?, epoch));
                match served {
                    Some(state) => {
                        self.returned(bound, state);
                        Reader::Ended
                    }
                    None => Reader::Missed { bound },
                }
            }
            (Reader::Missed { bound }, _) => match self.storable(process) {
                Some(epoch) => match self.lease(reader_token(at), epoch) {
                    Leased::Granted => Reader::Leased { bound, epoch },
                    Leased::Hit(entry) => match serve(&entry, epoch) {
                        Some(state) => {
                            self.returned(bound, state);
                            Reader::Ended
                        }
                        None => Reader::Past { bound },
                    },
                    Leased::Wait | Leased::Blocked => Reader::Past { bound },
                },
                None => Reader::Past { bound },
            },
            (Reader::Past { bound }, _) => {
                self.returned(bound, self.row.state);
                Reader::Ended
            }
            (Reader::Leased { bound, epoch }, _) => {
                self.returned(bound, self.row.state);
                let row = self.row;
                Reader::Filling { epoch, row }
            }
            (Reader::Filling { epoch, row }, _) => {
                let epoch = match self.mutation {
                    Mutation::EpochOfFill => self.storable(process).unwrap_or(epoch),
                    _ => epoch,
                };
                self.fill(reader_token(at), epoch, row);
                Reader::Ended
            }
            (Reader::Ended, _) => Reader::Ended,
        };
    }

    fn steps_of_writer(&self, at: usize, steps: &mut Vec<Step>) {
        match self.writers[at] {
            Writer::Waiting => steps.push(Step::Begin(at)),
            Writer::Raising { raises, .. } => {
                steps.push(Step::Die(at));
                let knows = |known: &Knowledge| !known.is_trusted || known.raises >= raises;
                if self.mutation == Mutation::EpochNotAwaited || self.processes.iter().all(knows) {
                    steps.push(Step::KnownToAll(at));
                }
            }
            Writer::Blocked { left_ms, .. } => {
                steps.push(Step::RollBack(at));
                // What dies here has sent a COMMIT, or none.
                steps.push(Step::Die(at));
                if left_ms > 0 || self.late_commit {
                    steps.push(Step::Commit(at));
                }
            }
            Writer::Committed { .. } => {
                steps.push(Step::Publish(at));
                steps.push(Step::Die(at));
            }
            Writer::Ended => {}
        }
    }

    fn write(&mut self, at: usize, step: Step) {
        let token = writer_token(at);
        let job = self.jobs[at];
        self.writers[at] = match (self.writers[at], step) {
            (Writer::Waiting, _) => match job {
                Job::Raw => self.commit(None, false),
                Job::Whole => {
                    self.change(EpochChange::Block {
                        token,
                        block_ms: BLOCK_MS,
                    });
                    Writer::Raising {
                        raises: self.raises,
                        then: Then::Sql { left_ms: BLOCK_MS },
                    }
                }
                Job::Update => {
                    let request = Block {
                        token,
                        block_ms: BLOCK_MS,
                        tombstone_ms: KEEP_MS,
                    };
                    state::block(&mut self.cell, NOW, &request);
                    // Writers are in the first process.
                    let epoch = self.storable(0);
                    Writer::Blocked {
                        left_ms: BLOCK_MS,
                        epoch,
                    }
                }
            },
            (_, Step::Die(_)) => Writer::Ended,
            (Writer::Raising { then, .. }, _) => match then {
                Then::Sql { left_ms } => Writer::Blocked {
                    left_ms,
                    epoch: None,
                },
                Then::Acknowledge { state } => self.acknowledge(state),
            },
            (Writer::Blocked { .. }, Step::RollBack(_)) => {
                match job {
                    Job::Update => self.done(token, Outcome::RolledBack),
                    Job::Whole | Job::Raw => drop(self.change(EpochChange::Release { token })),
                }
                Writer::Ended
            }
            (Writer::Blocked { epoch, .. }, _) => self.commit(epoch, job == Job::Update),
            (Writer::Committed { row, epoch }, _) => self.publish(job, token, row, epoch),
            (Writer::Ended, _) => Writer::Ended,
        };
    }

    fn commit(&mut self, epoch: Option<u32>, raises_version: bool) -> Writer {
        self.row.state += 1;
        self.row.version += u64::from(raises_version);
        Writer::Committed {
            row: self.row,
            epoch,
        }
    }

    fn publish(&mut self, job: Job, token: Token, row: Row, epoch: Option<u32>) -> Writer {
        let change = match job {
            Job::Update => {
                let epoch = match self.mutation {
                    Mutation::EpochOfPut => self.storable(0),
                    _ => epoch,
                };
                let version = Version::new(row.version).unwrap_or_default();
                let outcome = match epoch {
                    Some(epoch) => Outcome::Put {
                        version,
                        inserted: false,
                        value: stored(row.state, epoch),
                    },
                    None => Outcome::Invalidate { floor: version },
                };
                self.done(token, outcome);
                return self.acknowledge(row.state);
            }
            Job::Raw => EpochChange::Raise,
            Job::Whole if self.mutation == Mutation::EpochEndUnraised => {
                EpochChange::Release { token }
            }
            Job::Whole => EpochChange::End { token },
        };
        if self.change(change).raised {
            return Writer::Raising {
                raises: self.raises,
                then: Then::Acknowledge { state: row.state },
            };
        }
        self.acknowledge(row.state)
    }

    fn acknowledge(&mut self, state: u8) -> Writer {
        self.known = self.known.max(state);
        Writer::Ended
    }

    fn done(&mut self, token: Token, outcome: Outcome) {
        let request = Done {
            token,
            tombstone_ms: KEEP_MS,
            outcome,
        };
        state::done(&mut self.cell, NOW, request);
    }

    /// Blocks and leases lapse.
    fn pause(&mut self) {
        age(&mut self.cell, SHORT_MS);
        for epoch in self
            .table
            .iter_mut()
            .flat_map(|table| table.entities.values_mut())
        {
            for block in &mut epoch.blocks {
                let until = block.until.as_millis().saturating_sub(SHORT_MS);
                block.until = Timestamp::from_millis(until);
            }
        }
        for writer in &mut self.writers {
            if let Writer::Blocked { left_ms, .. }
            | Writer::Raising {
                then: Then::Sql { left_ms },
                ..
            } = writer
            {
                *left_ms = left_ms.saturating_sub(SHORT_MS);
            }
        }
    }
}

/// A row as it is stored in an epoch.
fn stored(state: u8, epoch: u32) -> Value {
    Value {
        schema: stamped(0, epoch),
        ..value(state)
    }
}

/// The state that an entry serves in an epoch, if it serves any.
fn serve(entry: &Entry, epoch: u32) -> Option<u8> {
    let policy = Policy {
        schema: 0,
        epoch,
        floor: Version::ZERO,
        serve_stale: false,
        early_refresh: 0.0,
        chance: 0.5,
    };
    match classify(entry, NOW, &policy) {
        Classification::Fresh => entry.payload.first().copied(),
        _ => None,
    }
}

impl System for World {
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for at in 0..self.readers.len() {
            self.steps_of_reader(at, &mut steps);
        }
        for at in 0..self.writers.len() {
            self.steps_of_writer(at, &mut steps);
        }
        for (process, known) in self.processes.iter().enumerate() {
            if known.is_trusted {
                steps.push(Step::Forget(process));
            }
            steps.push(Step::Ask(process));
        }
        if self.pauses > 0 {
            steps.push(Step::Pause);
        }
        if self.evictions > 0 && self.cell.is_some() {
            steps.push(Step::Evict);
        }
        if self.losses > 0 && self.table.is_some() {
            steps.push(Step::LoseTable);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(process) => self.ask(process),
            Step::Forget(process) => self.processes[process].is_trusted = false,
            Step::Look(at)
            | Step::Get(at)
            | Step::SelectPast(at)
            | Step::AskForLease(at)
            | Step::Select(at)
            | Step::Fill(at) => self.read(at, step),
            Step::Begin(at)
            | Step::KnownToAll(at)
            | Step::Commit(at)
            | Step::RollBack(at)
            | Step::Publish(at)
            | Step::Die(at) => self.write(at, step),
            Step::Pause => {
                self.pauses -= 1;
                self.pause();
            }
            Step::Evict => {
                self.evictions -= 1;
                self.cell = None;
            }
            Step::LoseTable => {
                self.losses -= 1;
                self.table = None;
            }
        }
    }

    fn violation(&self) -> Option<String> {
        let (served, bound) = self.violation?;
        Some(format!(
            "a read returns state {served}, and began when state {bound} was known"
        ))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cell {
            None => write!(f, "cache: nothing")?,
            Some(Stored { entry, .. }) => {
                let kind = char::from(entry.to_bytes()[0]);
                let (schema, state) = (entry.schema, entry.payload.first());
                write!(f, "cache: {kind} {state:?} of epoch {schema}")?;
            }
        }
        let epoch = self.table.as_ref().and_then(|table| {
            let epoch = table.entities.get(ENTITY)?;
            Some((table.base + epoch.raised, epoch.blocks.len()))
        });
        write!(
            f,
            "; database: {:?}; epoch and blocks: {epoch:?}; known to {:?}",
            self.row, self.processes
        )
    }
}
