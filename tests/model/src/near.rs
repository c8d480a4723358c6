//! One row, its cache entry, its writers, and a process that keeps the row near.
//!
//! The entry is handled by the shipped state machine. The announcements of the scripts are modelled
//! again here, and `tests/coherence/differential.rs` checks that the scripts agree. Readers of one
//! process keep near the row that the entry holds, or that they have stored there, if their stamp
//! still holds; no row is ever too old for that. In the cases of *another* process, an announcement
//! ends a near row: announcements arrive in order, at any time, or are lost with the connection. In
//! the cases of the *writers'* process, only the acknowledgement of a write ends it, because other
//! announcements could only end more.
//!
//! What is checked in every state:
//!
//! - another process serves nothing near that is older than a write whose block or publish the tier
//!   has received, once no announcement of it is on its way. This holds from the commit on, so also
//!   if the writer dies then; where a write may commit after its block has gone, from the
//!   acknowledgement on;
//! - the writers' process serves nothing near that is older than what it has acknowledged.

use std::fmt;

use cached_repo::internals::{
    Claims, Version,
    state::{
        Block, Cell, Done, Fill, Filled, Lease, Leased, Outcome, Published, Schemas, Stored, Want,
    },
};

use crate::{
    explore::System,
    mutation::Mutation,
    world::{
        BLOCK_MS, FLOOR_MS, Faults, Job, KEEP_MS, LEASE_MS, NOW, Publish, Row, SHORT_MS, Start,
        age, reader_token, serve, writer_token,
    },
};

/// The process whose near cache it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Writers,
    Another,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) whose: Whose,
    pub(crate) start: Start,
    pub(crate) versioned: bool,
    pub(crate) writers: &'static [Job],
    pub(crate) readers: usize,
    pub(crate) faults: Faults,
    /// A block may arrive late or never, and its write goes on.
    pub(crate) lost_blocks: bool,
    /// Whether readers also load over a value that is still fresh.
    pub(crate) refreshes: bool,
    /// How often the connection that listens breaks.
    pub(crate) gaps: u8,
    /// Whether a write counts from its commit on, not only once it is acknowledged.
    pub(crate) from_commit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Waiting,
    InFlight {
        expected: Option<u64>,
        left_ms: u64,
        /// Whether the writer knows that its block stands.
        held: bool,
    },
    /// The SQL is over; the publish is sent next.
    Finished(Publish),
    /// Acknowledged with a queued invalidation: its earlier publish may still arrive, and this
    /// floor follows.
    Queued {
        sent: Option<Publish>,
        floor: u64,
    },
    Ended,
}

/// What others may know of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Write {
    /// The state that it committed.
    state: Option<u8>,
    acknowledged: bool,
    /// The tier has received its block or its publish, and so announces it.
    announced: bool,
    /// Its block may still arrive.
    late_block: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Waiting,
    Stamped {
        holds: bool,
    },
    /// Has read this state; the stamp is missing only in a mutation.
    Unstamped {
        state: u8,
    },
    /// Keeps this state near next, if its stamp still holds.
    Keeping {
        state: u8,
    },
    Missed,
    Selecting,
    Selected {
        row: Row,
    },
    Filling {
        row: Row,
        holds: bool,
    },
    Ended,
}

/// Whether another process receives announcements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subscription {
    Receives,
    /// Not any more, and it has not noticed; these are the announcements it missed.
    Broken {
        missed: Vec<u8>,
    },
    Gap,
    /// It receives announcements again, and does not trust them yet.
    Subscribed,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stamp(usize),
    Get(usize),
    StampLate(usize),
    Keep(usize),
    AskForLease(usize),
    /// Asks for a lease to load over a value that is still fresh.
    AskForRefresh(usize),
    Select(usize),
    StampFill(usize),
    Fill(usize),
    Block(usize),
    /// The tier gives no answer, and the write goes on.
    LoseBlock(usize),
    LateBlock(usize),
    Commit(usize),
    Done(usize),
    /// Acknowledges a write whose publish got no answer, and queues its invalidation.
    Queue(usize),
    LateDone(usize),
    Replay(usize),
    Receive,
    Break,
    NoticeBreak,
    Subscribe,
    Resume,
    ShortPause,
    FloorPause,
    Evict,
}

#[derive(Clone)]
pub(crate) struct World {
    case: &'static Case,
    mutation: Mutation,
    cell: Cell,
    row: Row,
    writers: Vec<Writer>,
    writes: Vec<Write>,
    readers: Vec<Reader>,
    near: Option<u8>,
    subscription: Subscription,
    /// The writes whose announcements are on their way.
    on_its_way: Vec<u8>,
    faults: Faults,
    gaps: u8,
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        (&self.cell, &self.row, &self.writers, &self.writes).hash(hasher);
        (
            &self.readers,
            self.near,
            &self.subscription,
            &self.on_its_way,
        )
            .hash(hasher);
        (&self.faults, self.gaps).hash(hasher);
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
            writes: vec![Write::default(); case.writers.len()],
            readers: vec![Reader::Waiting; case.readers],
            near: None,
            subscription: Subscription::Receives,
            on_its_way: Vec::new(),
            faults: case.faults,
            gaps: case.gaps,
        }
    }

    /// What a reader is given near right now.
    fn served_near(&self) -> Option<u8> {
        // A key with a queued invalidation is not read near by its process.
        let distrusts = self.case.whose == Whose::Writers
            && (self.writers.iter()).any(|writer| matches!(writer, Writer::Queued { .. }));
        self.near.filter(|_| self.receives() && !distrusts)
    }

    /// Whether a near row must not be older than this write.
    fn binds(&self, writer: usize) -> bool {
        let write = self.writes[writer];
        if self.case.whose == Whose::Writers {
            return write.acknowledged;
        }
        let number = &(writer as u8);
        let not_received = self.on_its_way.contains(number)
            || matches!(&self.subscription, Subscription::Broken { missed } if missed.contains(number));
        let counts = write.acknowledged || self.case.from_commit;
        write.announced && counts && !not_received
    }

    /// The process of this near cache notes the change.
    fn raise_generation(&mut self) {
        self.near = None;
        if self.mutation == Mutation::NearKeptUnchecked {
            return;
        }
        for reader in &mut self.readers {
            match reader {
                Reader::Stamped { holds } | Reader::Filling { holds, .. } => *holds = false,
                Reader::Keeping { .. } => *reader = Reader::Ended,
                _ => {}
            }
        }
    }

    /// Whether it takes all announcements to be received.
    fn receives(&self) -> bool {
        matches!(
            self.subscription,
            Subscription::Receives | Subscription::Broken { .. }
        )
    }

    fn announce(&mut self, writer: usize) {
        if self.case.whose == Whose::Writers {
            return;
        }
        match &mut self.subscription {
            Subscription::Receives | Subscription::Subscribed => self.on_its_way.push(writer as u8),
            Subscription::Broken { missed } if !missed.contains(&(writer as u8)) => {
                missed.push(writer as u8);
                missed.sort_unstable();
            }
            Subscription::Broken { .. } | Subscription::Gap => {}
        }
    }

    fn read(&mut self, at: usize) {
        let mutation = self.mutation;
        let holding = |state, holds| match holds {
            true => Reader::Keeping { state },
            false => Reader::Ended,
        };
        self.readers[at] = match self.readers[at] {
            Reader::Waiting => Reader::Stamped {
                holds: self.receives(),
            },
            Reader::Stamped { holds } => {
                match self.cell.as_ref().and_then(|held| serve(&held.entry)) {
                    Some(state) if mutation == Mutation::NearStampedLate => {
                        Reader::Unstamped { state }
                    }
                    Some(state) => holding(state, holds),
                    None => Reader::Missed,
                }
            }
            Reader::Unstamped { state } => holding(state, self.receives()),
            Reader::Keeping { state } => {
                self.near = Some(state);
                Reader::Ended
            }
            Reader::Missed => self.lease(at, Want::Value),
            Reader::Selecting => Reader::Selected { row: self.row },
            Reader::Selected { row } => Reader::Filling {
                row,
                holds: self.receives(),
            },
            Reader::Filling { row, holds } => {
                let request = Fill {
                    token: reader_token(at),
                    loaded: row.found(self.case.versioned),
                };
                let filled = mutation.fill(&mut self.cell, NOW, request);
                let stored =
                    filled == Filled::Stored || mutation == Mutation::NearKeptAfterRefusedFill;
                holding(row.state, stored && holds)
            }
            Reader::Ended => Reader::Ended,
        };
    }

    fn lease(&mut self, at: usize, want: Want) -> Reader {
        let request = Lease {
            token: reader_token(at),
            lease_ms: LEASE_MS,
            floor: Version::ZERO,
            schemas: Schemas::default(),
            want,
        };
        match self.mutation.lease(&mut self.cell, NOW, &request) {
            Leased::Granted => Reader::Selecting,
            Leased::Wait => self.readers[at],
            // Neither is kept.
            Leased::Hit(_) | Leased::Blocked => Reader::Ended,
        }
    }

    /// The block arrives at the tier.
    fn block(&mut self, writer: usize) {
        let request = Block {
            token: writer_token(writer),
            block_ms: BLOCK_MS,
            tombstone_ms: KEEP_MS,
        };
        self.mutation
            .block(&mut self.cell, NOW, &request, Claims::MAX_WRITERS);
        self.writes[writer].announced = true;
        if self.mutation != Mutation::BlockUnannounced {
            self.announce(writer);
        }
    }

    fn commit(&mut self, writer: usize) {
        let (expected, held) = match self.writers[writer] {
            Writer::InFlight { expected, held, .. } => (expected, held),
            _ => (None, true),
        };
        let (job, versioned) = (self.case.writers[writer], self.case.versioned);
        let committed = self.row.commit(job, expected, versioned, self.mutation);
        let publish = match committed {
            // It puts only if it knows that its block stands.
            Ok(Publish::Put { version, .. }) if !held => Publish::Invalidate { floor: version },
            Ok(publish) | Err(publish) => publish,
        };
        if committed.is_ok() {
            self.writes[writer].state = Some(self.row.state);
        }
        self.writers[writer] = Writer::Finished(publish);
        if self.mutation == Mutation::OwnWriteNotedEarly && self.case.whose == Whose::Writers {
            self.raise_generation();
        }
    }

    /// The publish of a write arrives at the tier.
    fn done(&mut self, writer: usize, publish: Publish) {
        let token = writer_token(writer);
        let mut slots = (self.cell.iter()).flat_map(|held| held.entry.claims.writers());
        let stands = slots
            .any(|slot| (slot.token == token || slot.token == token.voided()) && slot.until > NOW);
        let request = Done {
            token,
            tombstone_ms: KEEP_MS,
            outcome: publish.outcome(),
        };
        let published = self.mutation.done(&mut self.cell, NOW, request, publish);
        self.writes[writer].announced = true;
        // A block that stands was announced, and nobody could read the row here since.
        let announces = match published {
            Published::RolledBack => false,
            Published::Superseded => self.mutation != Mutation::SupersededUnannounced,
            Published::Put | Published::Invalidated => self.mutation != Mutation::DoneUnannounced,
        };
        if announces && !stands {
            self.announce(writer);
        }
    }

    /// The tier has answered, or its answer is no longer awaited: the process raises its
    /// generation, then the writer gets its result.
    fn acknowledge(&mut self, writer: usize) {
        let noted = !matches!(
            self.mutation,
            Mutation::OwnWriteUnnoted | Mutation::OwnWriteNotedEarly
        );
        if self.case.whose == Whose::Writers && noted {
            self.raise_generation();
        }
        let write = &mut self.writes[writer];
        write.acknowledged = write.state.is_some();
    }

    fn pause(&mut self, ms: u64) {
        age(&mut self.cell, ms);
        for writer in &mut self.writers {
            if let Writer::InFlight { left_ms, .. } = writer {
                *left_ms = left_ms.saturating_sub(ms);
            }
        }
    }

    fn steps_of_reader(&self, at: usize, steps: &mut Vec<Step>) {
        if self.readers[at] == Reader::Waiting && self.case.refreshes {
            steps.push(Step::AskForRefresh(at));
        }
        steps.push(match self.readers[at] {
            Reader::Waiting => Step::Stamp(at),
            Reader::Stamped { .. } => Step::Get(at),
            Reader::Unstamped { .. } => Step::StampLate(at),
            Reader::Keeping { .. } => Step::Keep(at),
            Reader::Missed => Step::AskForLease(at),
            Reader::Selecting => Step::Select(at),
            Reader::Selected { .. } => Step::StampFill(at),
            Reader::Filling { .. } => Step::Fill(at),
            Reader::Ended => return,
        });
    }

    fn steps_of_writer(&self, at: usize, steps: &mut Vec<Step>) {
        let blocks = self.case.writers[at].blocks();
        match self.writers[at] {
            Writer::Waiting if !blocks => steps.push(Step::Commit(at)),
            Writer::Waiting => {
                steps.push(Step::Block(at));
                steps.extend(self.case.lost_blocks.then_some(Step::LoseBlock(at)));
            }
            Writer::InFlight { left_ms, .. } => {
                if left_ms > 0 || self.faults.late_commit {
                    steps.push(Step::Commit(at));
                }
            }
            Writer::Finished(_) => {
                steps.push(Step::Done(at));
                let committed = self.writes[at].state.is_some();
                if committed && self.faults.late_done && blocks {
                    steps.push(Step::Queue(at));
                }
            }
            Writer::Queued { sent, .. } => {
                steps.extend(sent.map(|_| Step::LateDone(at)));
                steps.push(Step::Replay(at));
            }
            Writer::Ended => {}
        }
        if self.writes[at].late_block {
            steps.push(Step::LateBlock(at));
        }
    }

    fn steps_of_bus(&self, steps: &mut Vec<Step>) {
        if !self.on_its_way.is_empty() {
            steps.push(Step::Receive);
        }
        match self.subscription {
            Subscription::Receives if self.gaps > 0 => steps.push(Step::Break),
            Subscription::Receives => {}
            Subscription::Broken { .. } => steps.push(Step::NoticeBreak),
            Subscription::Gap => steps.push(Step::Subscribe),
            Subscription::Subscribed => steps.push(Step::Resume),
        }
    }

    fn take_writer(&mut self, step: Step) {
        match step {
            Step::Block(writer) => {
                self.block(writer);
                self.begin(writer, true);
            }
            Step::LoseBlock(writer) => {
                self.writes[writer].late_block = true;
                self.begin(writer, false);
            }
            Step::LateBlock(writer) => {
                self.writes[writer].late_block = false;
                self.block(writer);
            }
            Step::Commit(writer) => self.commit(writer),
            Step::Done(writer) => {
                if let Writer::Finished(publish) = self.writers[writer] {
                    self.done(writer, publish);
                    self.acknowledge(writer);
                    self.writers[writer] = Writer::Ended;
                }
            }
            Step::Queue(writer) => {
                if let Writer::Finished(publish) = self.writers[writer] {
                    let floor = match publish.outcome() {
                        Outcome::Put { version, .. } => version,
                        Outcome::Invalidate { floor } => floor,
                        Outcome::RolledBack => Version::ZERO,
                    };
                    self.acknowledge(writer);
                    self.writers[writer] = Writer::Queued {
                        sent: Some(publish),
                        floor: floor.get(),
                    };
                }
            }
            Step::LateDone(writer) => {
                if let Writer::Queued { sent, .. } = &mut self.writers[writer]
                    && let Some(publish) = sent.take()
                {
                    self.done(writer, publish);
                }
            }
            Step::Replay(writer) => {
                if let Writer::Queued { floor, .. } = self.writers[writer] {
                    self.done(writer, Publish::Invalidate { floor });
                    self.acknowledge(writer);
                    self.writers[writer] = Writer::Ended;
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, writer: usize, held: bool) {
        self.writers[writer] = Writer::InFlight {
            expected: self.row.version,
            left_ms: BLOCK_MS,
            held,
        };
    }

    fn take_bus(&mut self, step: Step) {
        match step {
            Step::Receive => {
                self.on_its_way.remove(0);
                self.raise_generation();
            }
            Step::Break => {
                self.gaps -= 1;
                let mut missed = std::mem::take(&mut self.on_its_way);
                missed.sort_unstable();
                missed.dedup();
                self.subscription = Subscription::Broken { missed };
            }
            Step::NoticeBreak => {
                let kept = self.near;
                self.raise_generation();
                if self.mutation == Mutation::NearKeptOverGap {
                    self.near = kept;
                }
                self.subscription = Subscription::Gap;
            }
            Step::Subscribe => self.subscription = Subscription::Subscribed,
            Step::Resume => self.subscription = Subscription::Receives,
            _ => {}
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
        self.steps_of_bus(&mut steps);
        if self.faults.short_pauses > 0 {
            steps.push(Step::ShortPause);
        }
        if self.faults.floor_pauses > 0 {
            steps.push(Step::FloorPause);
        }
        if self.faults.evictions > 0 && self.cell.is_some() {
            steps.push(Step::Evict);
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Stamp(at)
            | Step::Get(at)
            | Step::StampLate(at)
            | Step::Keep(at)
            | Step::AskForLease(at)
            | Step::Select(at)
            | Step::StampFill(at)
            | Step::Fill(at) => self.read(at),
            Step::AskForRefresh(at) => self.readers[at] = self.lease(at, Want::Refresh),
            Step::Receive | Step::Break | Step::NoticeBreak | Step::Subscribe | Step::Resume => {
                self.take_bus(step);
            }
            Step::ShortPause => {
                self.faults.short_pauses -= 1;
                self.pause(SHORT_MS);
            }
            Step::FloorPause => {
                self.faults.floor_pauses -= 1;
                self.pause(FLOOR_MS);
            }
            Step::Evict => {
                self.faults.evictions -= 1;
                self.cell = None;
            }
            _ => self.take_writer(step),
        }
    }

    fn violation(&self) -> Option<String> {
        let served = self.served_near()?;
        let newer = (0..self.writes.len())
            .filter(|writer| self.binds(*writer))
            .filter_map(|writer| self.writes[writer].state)
            .find(|state| *state > served)?;
        let known = match self.case.whose {
            Whose::Writers => "acknowledged by the same process",
            Whose::Another => "no longer on its way",
        };
        Some(format!(
            "state {served} is served near while state {newer} is {known}"
        ))
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cell {
            None => write!(f, "cache: nothing")?,
            Some(Stored { entry, .. }) => {
                let kind = char::from(entry.to_bytes()[0]);
                let (version, state) = (entry.version.get(), entry.payload.first());
                let writers = entry.claims.writers().len();
                write!(f, "cache: {kind} {version} {state:?} writers {writers}")?;
            }
        }
        let (near, row, subscription, on_its_way) =
            (self.near, self.row, &self.subscription, &self.on_its_way);
        write!(
            f,
            "; database: state {} version {:?}; near: {near:?}; {subscription:?}, on its way {on_its_way:?}",
            row.state, row.version
        )
    }
}
