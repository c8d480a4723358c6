//! The in-process tier: the protocol's state machine over a bounded map.
//!
//! Invariants:
//! - Every operation runs under the lock of its key's shard, and never waits while it holds it.
//! - What protects a write (a tombstone that has not expired) is pinned: only values are evicted.
//!
//! Does not share anything between processes.

use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, unsync::Cache};

use super::{Held, Reply, Tier};
use crate::{
    clock::Clock,
    protocol::{
        Key, Kind, Timestamp,
        state::{self, Block, Blocked, Cell, Done, Fill, Filled, Lease, Leased, Published, Stored},
    },
};

/// Independent locks; more than the threads of most machines.
const SHARDS: usize = 16;
/// What a key and an entry cost besides their bytes, roughly.
const OVERHEAD_BYTES: u64 = 200;

type Shard = Mutex<Cache<Key, Stored, ByBytes, DefaultHashBuilder, PinTombstones>>;

/// The in-process tier.
pub(crate) struct MemoryTier {
    shards: Box<[Shard]>,
    hasher: DefaultHashBuilder,
    clock: Clock,
}

impl MemoryTier {
    /// A tier that keeps about `capacity_bytes` of keys and values.
    pub(crate) fn new(capacity_bytes: u64, clock: Clock) -> Self {
        let per_shard = (capacity_bytes / SHARDS as u64).max(OVERHEAD_BYTES);
        let shard = || {
            let options = OptionsBuilder::new()
                .estimated_items_capacity((per_shard / (2 * OVERHEAD_BYTES)) as usize)
                .weight_capacity(per_shard)
                .build()
                .expect("both capacities are given");
            Mutex::new(Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                PinTombstones(clock),
            ))
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: DefaultHashBuilder::default(),
            clock,
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Runs one operation of the state machine on one key.
    fn apply<T>(&self, key: &Key, operation: impl FnOnce(&mut Cell, Timestamp) -> T) -> T {
        let mut shard = self.shard(key).lock();
        let now = self.clock.now();
        let before = shard
            .peek(key)
            .filter(|stored| stored.expires_at >= now)
            .cloned();
        let mut cell = before.clone();
        let reply = operation(&mut cell, now);
        match cell {
            Some(stored) if Some(&stored) != before.as_ref() => shard.insert(key.clone(), stored),
            Some(_) => {}
            None => {
                shard.remove(key);
            }
        }
        reply
    }
}

impl Tier for MemoryTier {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Held> {
        let found = self.shard(key).lock().get(key).cloned();
        let held = match found {
            Some(stored) if stored.expires_at >= self.clock.now() => Held::Entry(stored.entry),
            _ => Held::Nothing,
        };
        Box::pin(std::future::ready(Ok(held)))
    }

    fn lease<'a>(&'a self, key: &'a Key, request: Lease) -> Reply<'a, Leased> {
        let reply = self.apply(key, |cell, now| state::lease(cell, now, &request));
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn fill<'a>(&'a self, key: &'a Key, request: Fill) -> Reply<'a, Filled> {
        let reply = self.apply(key, |cell, now| state::fill(cell, now, request));
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, Blocked> {
        let reply = self.apply(key, |cell, now| state::block(cell, now, &request));
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        let reply = self.apply(key, |cell, now| state::done(cell, now, request));
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn invalidate_all<'a>(&'a self, prefix: &'a str, request: Done) -> Reply<'a, u64> {
        let mut invalidated = 0;
        for shard in &self.shards {
            // A key that is added after its shard was listed was leased after this call began.
            let keys: Vec<Key> = shard
                .lock()
                .iter()
                .map(|(key, _)| key)
                .filter(|key| key.as_str().starts_with(prefix))
                .cloned()
                .collect();
            invalidated += keys.len() as u64;
            for key in keys {
                self.apply(&key, |cell, now| state::done(cell, now, request.clone()));
            }
        }
        Box::pin(std::future::ready(Ok(invalidated)))
    }
}

impl std::fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries: usize = self.shards.iter().map(|shard| shard.lock().len()).sum();
        f.debug_struct("MemoryTier")
            .field("entries", &entries)
            .finish()
    }
}

/// Weighs an entry by what it keeps allocated.
#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<Key, Stored> for ByBytes {
    fn weight(&self, key: &Key, stored: &Stored) -> u64 {
        let claims = stored.entry.claims.writers().len() * 24;
        OVERHEAD_BYTES + (key.as_str().len() + stored.entry.payload.len() + claims) as u64
    }
}

/// Keeps what protects a write until it expires.
struct PinTombstones(Clock);

impl Lifecycle<Key, Stored> for PinTombstones {
    type RequestState = ();

    fn is_pinned(&self, _: &Key, stored: &Stored) -> bool {
        let protects =
            stored.entry.kind == Kind::Tombstone || !stored.entry.claims.writers().is_empty();
        protects && stored.expires_at >= self.0.now()
    }

    fn begin_request(&self) {}
}
