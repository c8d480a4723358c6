//! The state machine: what each operation does to what a key holds.
//!
//! Pure functions over a [`Cell`] and a time. The in-process tier runs them under a lock; the
//! Redis tier runs `tier/redis/scripts/*.lua`, which say the same; a differential test drives
//! both with the same operations and compares every reply and every resulting entry.
//!
//! Why it is safe, in short: a write *blocks* its key before its SQL, which revokes the lease of
//! every reader whose SELECT may have seen the old row; a reader may *fill* only while it holds
//! the lease, so only with a row it read after the last block; and a writer may *put* its row
//! only while its own block still stands and nothing newer is known. A writer that dies leaves
//! its block behind: until it lapses nothing is served, and afterwards nothing older than the
//! floor may be stored.

use bytes::Bytes;

use super::{Claims, Entry, Kind, Slot, Timestamp, Token, Version};

/// What a key holds and when the tier forgets it; `None` for a key that holds nothing.
pub type Cell = Option<Stored>;

/// An entry and its expiry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// After this moment the tier holds nothing.
    pub expires_at: Timestamp,
}

/// What a reader asks [`lease`] for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A value if there is one by now, else the right to load it.
    Value,
    /// The right to load, also over a usable value, which stays readable meanwhile.
    Refresh,
}

/// Asks for the right to load a row.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Names this attempt.
    pub token: Token,
    /// How long the right lasts.
    pub lease_ms: u64,
    /// The caller knows of this version, and takes nothing older.
    pub floor: Version,
    /// The schema fingerprints, with the epoch, of the rows and of the absences that it takes.
    pub schemas: Schemas,
    /// Whether a usable value will do.
    pub want: Want,
}

/// The schema fingerprints of what a reader can use, each with the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// Of rows and of the keys in an index entry.
    pub value: u32,
    /// Of absences.
    pub absence: u32,
}

impl Schemas {
    fn include(&self, entry: &Entry) -> bool {
        match entry.kind {
            Kind::Tombstone => false,
            Kind::Value => entry.schema == self.value,
            Kind::Absent => entry.schema == self.absence,
        }
    }
}

/// What became of a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// Load the row, then [`fill`].
    Granted,
    /// A usable value arrived meanwhile.
    Hit(Entry),
    /// Another reader holds the lease; ask again shortly.
    Wait,
    /// A write is in flight: read the database and store nothing.
    Blocked,
}

/// Ends a lease.
#[derive(Clone, Debug)]
pub struct Fill {
    /// The lease's token.
    pub token: Token,
    /// What the load found.
    pub loaded: Loaded,
}

/// What a load found.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// The row.
    Row {
        /// Its version, [`Version::ZERO`] without one.
        version: Version,
        /// The sealed row and how long to keep it.
        value: Value,
    },
    /// No row.
    Absent(Value),
    /// Nothing that may be stored: the load failed, or negative caching is off.
    Nothing,
}

impl Loaded {
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Row { value, .. } | Self::Absent(value) => Some(value),
            Self::Nothing => None,
        }
    }
}

/// A payload and how long to keep it.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// The sealed payload.
    pub payload: Bytes,
    /// Fingerprint of the struct's shape.
    pub schema: u32,
    /// How long the load took.
    pub load_cost_ms: u32,
    /// How long it is fresh.
    pub fresh_ms: u64,
    /// How long it is kept; longer than fresh if stale rows may be served.
    pub ttl_ms: u64,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// The entry now serves it.
    Stored,
    /// The lease was given back without a value.
    Released,
    /// The lease was gone: a write came, it lapsed, or the key was evicted or flushed.
    LeaseLost,
    /// The row is older than what the cache knows of; the lease was given back.
    BelowFloor,
}

/// Announces a write, before its SQL or just before its COMMIT.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Names this attempt.
    pub token: Token,
    /// How long the write may take.
    pub block_ms: u64,
    /// How long after that the floor is kept.
    pub tombstone_ms: u64,
}

/// Ends a write.
#[derive(Clone, Debug)]
pub struct Done {
    /// The block's token.
    pub token: Token,
    /// How long a tombstone keeps its floor.
    pub tombstone_ms: u64,
    /// What happened.
    pub outcome: Outcome,
}

/// What a write did.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing was committed.
    RolledBack,
    /// This row was committed, at this version.
    Put {
        /// The row's version.
        version: Version,
        /// It was inserted, so an earlier life of the key may have had higher versions.
        inserted: bool,
        /// The sealed row and how long to keep it.
        value: Value,
    },
    /// Something was committed, or may have been; nothing below the version may be stored, and
    /// without one nothing that a write in flight has read.
    Invalidate {
        /// The floor; for a deleted row its version + 1, [`Version::ZERO`] if unknown.
        floor: Version,
    },
}

/// What became of [`done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The block is gone, nothing else changed.
    RolledBack,
    /// The entry holds the row.
    Put,
    /// A later write has already put its own row, which stays.
    Superseded,
    /// The entry is a tombstone.
    Invalidated,
}

/// Asks for the right to load a row.
pub fn lease(cell: &mut Cell, now: Timestamp, request: &Lease) -> Leased {
    let lease = Slot {
        token: request.token,
        until: now.plus_ms(request.lease_ms),
    };
    let Some(Stored { entry, expires_at }) = cell else {
        *cell = Some(placeholder(Version::ZERO, now, now, lease, lease.until));
        return Leased::Granted;
    };

    let in_flight = entry.claims.writers();
    if in_flight.iter().any(|writer| writer.until > now) {
        return Leased::Blocked;
    }
    if !in_flight.is_empty() {
        // Every write outlived its time, so what they did is unknown: the value goes, the floor
        // stays at least as long as this lease.
        let floor_until = floor_until(entry).max(lease.until);
        let expires_at = (*expires_at).max(lease.until);
        *cell = Some(placeholder(
            entry.version,
            now,
            floor_until,
            lease,
            expires_at,
        ));
        return Leased::Granted;
    }

    let usable = request.schemas.include(entry) && entry.version >= request.floor;
    if usable && request.want == Want::Value {
        return Leased::Hit(entry.clone());
    }
    if matches!(entry.claims, Claims::Lease(other) if other.until > now) {
        return Leased::Wait;
    }
    if usable {
        entry.claims = Claims::Lease(lease);
        return Leased::Granted;
    }
    // A value that the caller cannot use goes; its version is the floor for this load.
    let floor_until = match entry.kind {
        Kind::Tombstone => entry.fresh_until(),
        Kind::Value | Kind::Absent => lease.until,
    };
    let version = if floor_until > now {
        entry.version
    } else {
        Version::ZERO
    };
    let expires_at = (*expires_at).max(lease.until);
    *cell = Some(placeholder(version, now, floor_until, lease, expires_at));
    Leased::Granted
}

/// Ends a lease with what the load found.
pub fn fill(cell: &mut Cell, now: Timestamp, request: Fill) -> Filled {
    let Some(Stored { entry, .. }) = cell else {
        // A flush must not revive the leases from before it.
        return Filled::LeaseLost;
    };
    match entry.claims {
        Claims::Lease(lease) if lease.token == request.token && lease.until > now => {}
        _ => return Filled::LeaseLost,
    }
    let floor = floor(entry, now);
    let (kind, version, value) = match request.loaded {
        Loaded::Row { version, .. } if version < floor => {
            release(cell, now);
            return Filled::BelowFloor;
        }
        Loaded::Row { version, value } => (Kind::Value, version, value),
        Loaded::Absent(value) => (Kind::Absent, floor, value),
        Loaded::Nothing => {
            release(cell, now);
            return Filled::Released;
        }
    };
    *cell = Some(holding(kind, version, now, value, Claims::None));
    Filled::Stored
}

/// Gives a lease back; a placeholder without a floor goes with it.
fn release(cell: &mut Cell, now: Timestamp) {
    let Some(Stored { entry, .. }) = cell else {
        return;
    };
    entry.claims = Claims::None;
    if entry.kind == Kind::Tombstone && entry.fresh_until() <= now {
        *cell = None;
    }
}

/// Announces a write: until it is done or its time is up, nothing is served or stored.
pub fn block(cell: &mut Cell, now: Timestamp, request: &Block) {
    block_within(cell, now, request, Claims::MAX_WRITERS);
}

/// The same with so many slots, at least two: for checkers that cannot try fifty writers.
pub fn block_within(cell: &mut Cell, now: Timestamp, request: &Block, slots: usize) {
    let writer = Slot {
        token: request.token,
        until: now.plus_ms(request.block_ms),
    };
    let keep_until = now.plus_ms(request.tombstone_ms);
    let gone_at = writer.until.plus_ms(request.tombstone_ms);
    let (version, floor_until, mut writers, expires_at) = match cell {
        None => (Version::ZERO, keep_until, Vec::new(), gone_at),
        Some(Stored { entry, expires_at }) => (
            floor(entry, now),
            floor_until(entry).max(keep_until),
            condensed(entry.claims.writers(), now, slots - 1),
            (*expires_at).max(gone_at),
        ),
    };
    writers.push(writer);
    *cell = Some(Stored {
        entry: tombstone(version, now, floor_until, Claims::Writers(writers)),
        expires_at,
    });
}

/// The writers in at most so many slots. Those whose time is up share one, and so do the oldest
/// that find no room. None is left out: while one is listed, nobody can be sure what it did. A
/// writer whose slot is shared cannot take it off, and can no longer put its row.
fn condensed(writers: &[Slot], now: Timestamp, room: usize) -> Vec<Slot> {
    let (lapsed, mut slots): (Vec<Slot>, Vec<Slot>) = writers
        .iter()
        .copied()
        .partition(|writer| writer.until <= now);
    slots.splice(0..0, shared(&lapsed));
    let too_many = slots.len().saturating_sub(room);
    if too_many > 0 {
        let oldest = shared(&slots[..=too_many]);
        slots.splice(..=too_many, oldest);
    }
    slots
}

/// One slot for all of these.
fn shared(slots: &[Slot]) -> Option<Slot> {
    match slots {
        [one] => Some(*one),
        _ => Some(Slot {
            token: Token::SHARED,
            until: slots.iter().map(|slot| slot.until).max()?,
        }),
    }
}

/// Ends a write.
pub fn done(cell: &mut Cell, now: Timestamp, request: Done) -> Published {
    let mut own = None;
    let mut others = Vec::new();
    if let Some(Stored { entry, .. }) = cell {
        for writer in entry.claims.writers() {
            if writer.token.is_of(&request.token) {
                own = Some(*writer);
            } else {
                others.push(*writer);
            }
        }
    }
    if let Outcome::Invalidate { floor } = request.outcome
        && (own.is_none() || floor == Version::ZERO)
    {
        // The row has changed in a way that no version orders against these writes, perhaps after
        // they have read what they would put. Their blocks stand, their puts do not.
        for writer in &mut others {
            writer.token = writer.token.voided();
        }
    }
    let known = cell
        .as_ref()
        .map_or(Version::ZERO, |stored| floor(&stored.entry, now));
    let is_value = matches!(cell, Some(Stored { entry, .. }) if entry.kind == Kind::Value);
    let floor = match request.outcome {
        Outcome::RolledBack => {
            disown(cell, own, others);
            return Published::RolledBack;
        }
        Outcome::Put {
            version,
            inserted: false,
            ..
        } if is_value && known > version => {
            disown(cell, own, others);
            return Published::Superseded;
        }
        Outcome::Put { version, value, .. }
            if known <= version
                && own.is_some_and(|own| own.until > now && !own.token.is_void()) =>
        {
            let claims = Claims::from_writers(others);
            let kept = expiry_of(cell, &claims);
            let mut stored = holding(Kind::Value, version, now, value, claims);
            stored.expires_at = stored.expires_at.max(kept);
            *cell = Some(stored);
            return Published::Put;
        }
        // Not provably the newest: whoever reads next asks the database.
        Outcome::Put { version, .. } => version,
        Outcome::Invalidate { floor } => floor,
    };
    let claims = Claims::from_writers(others);
    let keep_until = now.plus_ms(request.tombstone_ms);
    let floor_until = cell.as_ref().map_or(keep_until, |stored| {
        floor_until(&stored.entry).max(keep_until)
    });
    let expires_at = expiry_of(cell, &claims).max(floor_until);
    *cell = Some(Stored {
        entry: tombstone(known.max(floor), now, floor_until, claims),
        expires_at,
    });
    Published::Invalidated
}

/// Takes a writer's own claim off the entry, if it is still there.
fn disown(cell: &mut Cell, own: Option<Slot>, others: Vec<Slot>) {
    if let (Some(Stored { entry, .. }), Some(_)) = (cell, own) {
        entry.claims = Claims::from_writers(others);
    }
}

/// How long the key must last for the sake of the writes still in flight.
fn expiry_of(cell: &Cell, others: &Claims) -> Timestamp {
    match (cell, others) {
        (Some(stored), Claims::Writers(_)) => stored.expires_at,
        _ => Timestamp::default(),
    }
}

/// The version below which nothing may be stored: a tombstone's lapses.
fn floor(entry: &Entry, now: Timestamp) -> Version {
    if entry.kind == Kind::Tombstone && entry.fresh_until() <= now {
        Version::ZERO
    } else {
        entry.version
    }
}

/// Until when a tombstone's floor holds; other entries have their value instead.
fn floor_until(entry: &Entry) -> Timestamp {
    match entry.kind {
        Kind::Tombstone => entry.fresh_until(),
        Kind::Value | Kind::Absent => Timestamp::default(),
    }
}

fn placeholder(
    version: Version,
    now: Timestamp,
    floor_until: Timestamp,
    lease: Slot,
    expires_at: Timestamp,
) -> Stored {
    Stored {
        entry: tombstone(version, now, floor_until, Claims::Lease(lease)),
        expires_at,
    }
}

fn tombstone(version: Version, now: Timestamp, floor_until: Timestamp, claims: Claims) -> Entry {
    Entry {
        kind: Kind::Tombstone,
        version,
        at: now,
        span_ms: floor_until
            .as_millis()
            .saturating_sub(now.as_millis())
            .min(Entry::MAX_SPAN_MS),
        load_cost_ms: 0,
        schema: 0,
        claims,
        payload: Bytes::new(),
    }
}

fn holding(kind: Kind, version: Version, now: Timestamp, value: Value, claims: Claims) -> Stored {
    Stored {
        entry: Entry {
            kind,
            version,
            at: now,
            span_ms: value.fresh_ms,
            load_cost_ms: value.load_cost_ms.min(Entry::MAX_COST_MS),
            schema: value.schema,
            claims,
            payload: value.payload,
        },
        expires_at: now.plus_ms(value.ttl_ms),
    }
}
