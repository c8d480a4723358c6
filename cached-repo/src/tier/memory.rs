//! The in-process tier: the protocol's state machine over a bounded map.
//!
//! Invariants:
//! - Every operation runs under the lock of its key's shard, and never waits while it holds it.
//! - A block or a lease that stands is pinned: there are as many as writes and loads are under way.
//!   All else may be evicted, tombstones too, whose floors then are forgotten as in Redis.
//!
//! Does not share anything between processes.

use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, unsync::Cache};

use super::{Fetched, InvalidationListener, Reply, Tier};
use crate::{
    clock::{Clock, Moment},
    protocol::{
        Claims, Key, Timestamp,
        epoch::{self, EpochReply, EpochRequest, Epochs},
        state::{self, Block, Cell, Done, Fill, Filled, Lease, Leased, Published, Stored},
    },
};

/// Independent locks; more than the threads of most machines.
const SHARDS: usize = 16;
/// What a key and an entry cost besides their bytes, roughly.
const OVERHEAD_BYTES: u64 = 200;

type Shard = Mutex<Cache<Key, Stored, ByBytes, DefaultHashBuilder, PinClaims>>;

/// The in-process tier.
pub(crate) struct MemoryTier {
    shards: Box<[Shard]>,
    epochs: Mutex<Option<Epochs>>,
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
                PinClaims(clock),
            ))
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            epochs: Mutex::default(),
            hasher: DefaultHashBuilder::default(),
            clock,
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// What a key holds now.
    fn held(&self, key: &Key) -> Fetched {
        let found = self.shard(key).lock().get(key).cloned();
        match found {
            Some(stored) if stored.expires_at >= self.clock.now() => Fetched::Entry(stored.entry),
            _ => Fetched::Empty,
        }
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

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Fetched> {
        Box::pin(std::future::ready(Ok(self.held(key))))
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Reply<'a, Vec<Fetched>> {
        let held = keys.iter().map(|key| self.held(key)).collect();
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

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, ()> {
        self.apply(key, |cell, now| state::block(cell, now, &request));
        Box::pin(std::future::ready(Ok(())))
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        let reply = self.apply(key, |cell, now| state::done(cell, now, request));
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply> {
        let reply = epoch::change(&mut self.epochs.lock(), self.clock.now(), &request);
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn announce<'a>(&'a self, _: &'a Key) -> Reply<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Nobody else can change anything here.
    fn listen(&self, listener: Arc<dyn InvalidationListener>) {
        listener.heartbeat(Moment::NEVER);
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

/// Keeps blocks and leases as long as they stand.
struct PinClaims(Clock);

impl Lifecycle<Key, Stored> for PinClaims {
    type RequestState = ();

    fn is_pinned(&self, _: &Key, stored: &Stored) -> bool {
        let claims = match &stored.entry.claims {
            Claims::None => return false,
            Claims::Lease(lease) => std::slice::from_ref(lease),
            Claims::Writers(writers) => writers,
        };
        let now = self.0.now();
        claims.iter().any(|claim| claim.until >= now)
    }

    fn begin_request(&self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::protocol::{
        KeySpace, Kind, Token, Version,
        state::{Loaded, Outcome, Schemas, Value, Want},
    };

    const BLOCK_MS: u64 = 5_000;
    const KEEP_MS: u64 = 30_000;

    fn key(id: i64) -> Key {
        KeySpace::new("test", "row").row(id)
    }

    fn tier(capacity_bytes: u64) -> MemoryTier {
        MemoryTier::new(capacity_bytes, Clock::start())
    }

    fn lease(token: Token) -> Lease {
        Lease {
            token,
            lease_ms: 3_000,
            floor: Version::ZERO,
            schemas: Schemas::default(),
            want: Want::Value,
        }
    }

    fn block(token: Token) -> Block {
        Block {
            token,
            block_ms: BLOCK_MS,
            tombstone_ms: KEEP_MS,
        }
    }

    fn row(token: Token, bytes: usize, ttl_ms: u64) -> Fill {
        let value = Value {
            payload: Bytes::from(vec![0; bytes]),
            fresh_ms: ttl_ms,
            ttl_ms,
            ..Value::default()
        };
        let version = Version::new(1).unwrap();
        Fill {
            token,
            loaded: Loaded::Row { version, value },
        }
    }

    fn invalidation() -> Done {
        Done {
            token: Token::fresh(),
            tombstone_ms: KEEP_MS,
            outcome: Outcome::Invalidate {
                floor: Version::ZERO,
            },
        }
    }

    async fn fill(tier: &MemoryTier, id: i64, bytes: usize, ttl_ms: u64) -> Filled {
        let token = Token::fresh();
        tier.lease(&key(id), lease(token)).await.unwrap();
        tier.fill(&key(id), row(token, bytes, ttl_ms))
            .await
            .unwrap()
    }

    async fn holds(tier: &MemoryTier, id: i64) -> Option<Kind> {
        match tier.get(&key(id)).await.unwrap() {
            Fetched::Entry(entry) => Some(entry.kind),
            Fetched::Empty | Fetched::Foreign => None,
        }
    }

    /// Goal: what several keys hold comes back in their order, whatever they repeat or lack.
    #[tokio::test]
    async fn several_keys_are_answered_in_the_order_they_were_asked() {
        let tier = tier(64 * 1024);
        fill(&tier, 1, 11, 600_000).await;
        fill(&tier, 2, 12, 600_000).await;
        let keys = [key(2), key(3), key(1), key(2)];
        let held = tier.get_many(&keys).await.unwrap();
        let bytes = held.iter().map(|held| match held {
            Fetched::Entry(entry) => Some(entry.payload.len()),
            Fetched::Empty | Fetched::Foreign => None,
        });
        assert_eq!(
            bytes.collect::<Vec<_>>(),
            [Some(12), None, Some(11), Some(12)]
        );
    }

    #[tokio::test]
    async fn rows_are_evicted_and_blocks_are_not() {
        let tier = tier(64 * 1024);
        let blocked = Token::fresh();
        tier.block(&key(-1), block(blocked)).await.unwrap();
        for id in 0..2_000 {
            fill(&tier, id, 500, 600_000).await;
        }
        let mut rows = 0;
        for id in 0..2_000 {
            rows += usize::from(holds(&tier, id).await.is_some());
        }
        assert!(rows < 200, "{rows} rows of 500 bytes in 64 KiB");
        assert_eq!(holds(&tier, -1).await, Some(Kind::Tombstone));
        let leased = tier.lease(&key(-1), lease(Token::fresh())).await.unwrap();
        assert_eq!(leased, Leased::Blocked);
    }

    /// Goal: many invalidations take no more memory than they may, and the last one as long as the first.
    #[tokio::test]
    async fn invalidations_are_bounded_in_memory_and_flat_in_cost() {
        const KEYS: i64 = 300_000;
        const CAPACITY: u64 = 1024 * 1024;
        let tier = tier(CAPACITY);
        let mut laps = Vec::new();
        for lap in 0..3 {
            let began = std::time::Instant::now();
            for id in lap * KEYS / 3..(lap + 1) * KEYS / 3 {
                tier.done(&key(id), invalidation()).await.unwrap();
            }
            laps.push(began.elapsed());
        }
        let entries: usize = tier.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(
            entries as u64 * OVERHEAD_BYTES <= CAPACITY,
            "{entries} entries"
        );
        // The tier is full before the first lap ends. A machine may be busy in one of them.
        assert!(laps[2] < laps[0] * 5, "{laps:?}");
    }

    #[tokio::test]
    async fn a_row_that_is_too_large_leaves_nothing_stale_behind() {
        let tier = tier(16 * 1024);
        assert_eq!(fill(&tier, 1, 10, 600_000).await, Filled::Stored);
        let token = Token::fresh();
        tier.block(&key(1), block(token)).await.unwrap();
        let value = Value {
            payload: Bytes::from(vec![0; 100_000]),
            fresh_ms: 600_000,
            ttl_ms: 600_000,
            ..Value::default()
        };
        let put = Done {
            token,
            tombstone_ms: KEEP_MS,
            outcome: Outcome::Put {
                version: Version::new(2).unwrap(),
                inserted: false,
                value,
            },
        };
        tier.done(&key(1), put).await.unwrap();
        assert_ne!(holds(&tier, 1).await, Some(Kind::Value));
    }

    #[tokio::test]
    async fn a_block_holds_in_a_tier_too_small_for_it() {
        let tier = tier(1);
        tier.block(&key(1), block(Token::fresh())).await.unwrap();
        let leased = tier.lease(&key(1), lease(Token::fresh())).await.unwrap();
        assert_eq!(leased, Leased::Blocked);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_forgotten_when_its_time_is_up() {
        let tier = tier(64 * 1024);
        fill(&tier, 1, 10, 1_000).await;
        tokio::time::advance(Duration::from_millis(1_000)).await;
        assert_eq!(holds(&tier, 1).await, Some(Kind::Value), "Redis too");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(holds(&tier, 1).await, None);
        // A tombstone that has lapsed protects nothing and need not be kept.
        tier.block(&key(2), block(Token::fresh())).await.unwrap();
        tokio::time::advance(Duration::from_millis(BLOCK_MS + KEEP_MS + 1)).await;
        assert_eq!(holds(&tier, 2).await, None);
        let shard = tier.shard(&key(2)).lock();
        let stored = shard.peek(&key(2)).unwrap();
        assert!(!PinClaims(tier.clock).is_pinned(&key(2), stored));
    }
}
