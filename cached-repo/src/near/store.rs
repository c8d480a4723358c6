//! The store of a near cache: rows of one entity in this process, by their primary keys.
//!
//! `#[cached(near)]` turns it on. A hit formats no key, decodes nothing and awaits nothing.
//!
//! Invariants:
//! - It keeps only what the shared tier held or has just stored, under a stamp that was taken
//!   before the tier was asked.
//! - It serves nothing longer than its own TTL, nor longer than the shared tier would.
//!
//! Does not read tiers or databases, and keeps nothing while invalidations may be missed.

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync};

use super::generations::{GenerationStamp, Generations};
use crate::{
    clock::{Clock, Moment},
    protocol::Key,
};

/// What an entry costs besides its row, its key and [`Item`], roughly.
const OVERHEAD_BYTES: u64 = 64;
/// The weight of a row that sizes the store before there is any.
const TYPICAL_BYTES: u64 = 512;

/// A shard's share of a bound in bytes, at least, and the most shards.
const LEAST_SHARD_BYTES: u64 = 1 << 20;
const MOST_SHARDS: u64 = 64;

/// How much a near cache keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearCapacity {
    /// So many rows and absences.
    Entries(u64),
    /// About so many bytes, taking for a row's heap what its encoding takes.
    Bytes(u64),
}

/// `#[cached(near(…))]`; what is `None` comes from the [`CachedDb`](crate::CachedDb).
pub struct NearOptions<K, R> {
    capacity: Option<NearCapacity>,
    ttl: Option<Duration>,
    /// The only place that asks the key for `Hash` and `Eq`, which other entities need not have.
    open: fn(NearCapacity) -> Box<dyn RowMap<K, R>>,
}

/// A primary key that a near cache can look up.
#[diagnostic::on_unimplemented(
    message = "a near cache cannot look up a primary key of the type `{Self}`",
    label = "`near` needs a key with `Hash` and `Eq`",
    note = "derive both on the key's type: `#[derive(Clone, Debug, PartialEq, Eq, Hash, …)]`, or \
            remove `near`"
)]
pub trait NearKey: Hash + Eq {}

#[diagnostic::do_not_recommend]
impl<T: Hash + Eq> NearKey for T {}

impl<K, R> NearOptions<K, R> {
    /// What the attribute says.
    #[must_use]
    pub const fn new(capacity: Option<NearCapacity>, ttl: Option<Duration>) -> Self
    where
        K: NearKey + Send + Sync + 'static,
        R: Send + Sync + 'static,
    {
        Self {
            capacity,
            ttl,
            open: open::<K, R>,
        }
    }
}

impl<K, R> fmt::Debug for NearOptions<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearOptions")
            .field("capacity", &self.capacity)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// The near cache of one entity.
pub(crate) struct NearStore<K, R> {
    rows_by_key: Box<dyn RowMap<K, R>>,
    ttl: Duration,
    generations: Arc<Generations>,
    clock: Clock,
}

/// What a near cache keeps of a row.
pub(crate) struct NearHit<R> {
    /// `None` if it is known that there is no row.
    pub(crate) row: Option<Arc<R>>,
    /// Since when the shared tier has it.
    pub(crate) age: Duration,
}

/// How long something has been in the shared tier, and how long it may still be served.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) age: Duration,
    pub(crate) left: Duration,
}

impl<K, R> NearStore<K, R> {
    pub(crate) fn open(
        options: &NearOptions<K, R>,
        capacity: NearCapacity,
        ttl: Duration,
        generations: &Arc<Generations>,
        clock: Clock,
    ) -> Self {
        Self {
            rows_by_key: (options.open)(options.capacity.unwrap_or(capacity)),
            ttl: options.ttl.unwrap_or(ttl),
            generations: Arc::clone(generations),
            clock,
        }
    }

    /// What is known of the row with this key, if anything is.
    #[inline]
    pub(crate) fn get(&self, id: &K) -> Option<NearHit<R>> {
        let item = self.rows_by_key.get(id)?;
        let now = self.clock.moment();
        if now >= item.until || !self.generations.is_current(item.stamp, now) {
            return None;
        }
        Some(NearHit {
            row: item.row,
            age: now.since(item.since),
        })
    }

    /// To be taken before the shared tier is asked for what is to be kept; `None` while
    /// invalidations may be missed.
    pub(crate) fn stamp(&self, key: &Key) -> Option<GenerationStamp> {
        self.generations.stamp(key)
    }

    /// Keeps a row, or that there is none, unless it has changed since the stamp was taken.
    pub(crate) fn keep(
        &self,
        id: K,
        stamp: GenerationStamp,
        row: Option<Arc<R>>,
        encoded_bytes: usize,
        life: Life,
    ) {
        let left = life.left.min(self.ttl);
        let now = self.clock.moment();
        if left.is_zero() || !self.generations.is_current(stamp, now) {
            return;
        }
        let fixed = size_of::<K>() + size_of::<Item<R>>() + size_of::<R>();
        let item = Item {
            row,
            stamp,
            since: now.minus(life.age),
            until: now.plus(left),
            bytes: OVERHEAD_BYTES + (fixed + encoded_bytes) as u64,
        };
        self.rows_by_key.put(id, item);
    }
}

impl<K, R> fmt::Debug for NearStore<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearStore").finish_non_exhaustive()
    }
}

struct Item<M> {
    /// `None` if it is known that there is no row.
    row: Option<Arc<M>>,
    stamp: GenerationStamp,
    /// Since when the shared tier has it.
    since: Moment,
    until: Moment,
    bytes: u64,
}

impl<M> Clone for Item<M> {
    fn clone(&self) -> Self {
        Self {
            row: self.row.clone(),
            ..*self
        }
    }
}

/// The map of the rows; its callers need not know the bounds of its keys.
trait RowMap<K, R>: Send + Sync {
    fn get(&self, id: &K) -> Option<Item<R>>;
    fn put(&self, id: K, item: Item<R>);
}

impl<K, R, We> RowMap<K, R> for sync::Cache<K, Item<R>, We>
where
    K: Hash + Eq + Send + Sync,
    R: Send + Sync,
    We: Weighter<K, Item<R>> + Clone + Send + Sync,
{
    fn get(&self, id: &K) -> Option<Item<R>> {
        self.get(id)
    }

    fn put(&self, id: K, item: Item<R>) {
        self.insert(id, item);
    }
}

fn open<K, R>(capacity: NearCapacity) -> Box<dyn RowMap<K, R>>
where
    K: Hash + Eq + Send + Sync + 'static,
    R: Send + Sync + 'static,
{
    match capacity {
        NearCapacity::Entries(entries) => rows_by_key(
            OptionsBuilder::new()
                .estimated_items_capacity(usize::try_from(entries).unwrap_or(usize::MAX))
                .weight_capacity(entries),
            quick_cache::UnitWeighter,
        ),
        NearCapacity::Bytes(bytes) => rows_by_key(
            OptionsBuilder::new()
                .estimated_items_capacity(
                    usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX),
                )
                .weight_capacity(bytes)
                // A row that is larger than a shard's share is not kept.
                .shards((bytes / LEAST_SHARD_BYTES).clamp(1, MOST_SHARDS) as usize),
            ByBytes,
        ),
    }
}

fn rows_by_key<K, R, We>(options: &mut OptionsBuilder, weighter: We) -> Box<dyn RowMap<K, R>>
where
    K: Hash + Eq + Send + Sync + 'static,
    R: Send + Sync + 'static,
    We: Weighter<K, Item<R>> + Clone + Send + Sync + 'static,
{
    Box::new(sync::Cache::with_options(
        options.build().expect("both capacities are given"),
        weighter,
        DefaultHashBuilder::default(),
        sync::DefaultLifecycle::default(),
    ))
}

#[derive(Clone, Copy)]
struct ByBytes;

impl<K, M> Weighter<K, Item<M>> for ByBytes {
    fn weight(&self, _: &K, item: &Item<M>) -> u64 {
        item.bytes
    }
}
