//! Single flight: at most one load per key at a time, shared by everyone who waits for it.
//!
//! Invariants:
//! - A caller shares a flight only if it arrived before the flight's first read began. A later
//!   one may have seen a newer write acknowledged, so it boards the next flight, which starts when
//!   this one has ended and looks at the cache first. A stampede is thus one load and one look.
//! - A flight runs in a task of its own: a caller that goes away takes nothing with it, whoever
//!   it was. A flight that nobody waits for any more does not start.
//! - Whatever ends a flight (a panic, the runtime's end) wakes its passengers, and the key is free
//!   for the next one.
//!
//! Does not know what a load does. Flights belong to one repository of one `CachedDb`, never to a
//! bare key.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::protocol::Key;

/// The flights of one repository; `T` is what a load gives each passenger.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    table: Arc<Table<T>>,
}

type Table<T> = Mutex<HashMap<Key, Boarding<T>>>;
type Boarding<T> = Option<Landing<T>>;

/// Whether a flight is the first of its key or follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its passengers have just looked at the cache.
    First,
    /// The cache may have been filled since they looked.
    Following,
}

/// Where a flight's passengers wait; the pilot holds the sender.
#[derive(Debug)]
pub(crate) struct Landing<T>(watch::Sender<Option<T>>);

impl<T> Landing<T> {
    /// Gives every passenger the result.
    pub(crate) fn land(&self, result: T) {
        self.0.send_replace(Some(result));
    }
}

/// The flight ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self {
            table: Arc::default(),
        }
    }

    /// Waits for the next flight of `key` that has not begun to read, and starts it if need be.
    ///
    /// `pilot` makes the flight: it loads, lands the result, and then cleans up; the next
    /// flight starts when it returns.
    pub(crate) async fn board<P, F>(
        &self,
        key: &Key,
        tasks: &TaskTracker,
        pilot: P,
    ) -> Result<T, Lost>
    where
        P: Fn(Turn, Landing<T>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut passenger = {
            let mut table = self.table.lock();
            match table.entry(key.clone()) {
                Entry::Occupied(mut occupied) => {
                    let next = occupied.get_mut();
                    next.get_or_insert_with(|| Landing(watch::Sender::new(None)))
                        .0
                        .subscribe()
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(None);
                    let landing = Landing(watch::Sender::new(None));
                    let passenger = landing.0.subscribe();
                    let ground = Ground {
                        table: Arc::clone(&self.table),
                        key: key.clone(),
                        freed: false,
                    };
                    tasks.spawn(fly(ground, landing, pilot));
                    passenger
                }
            }
        };
        let landed = passenger
            .wait_for(Option::is_some)
            .await
            .map_err(|_| Lost)?;
        landed.clone().ok_or(Lost)
    }
}

/// Flies the flights of one key, one after another, until nobody waits.
async fn fly<T, P, F>(mut ground: Ground<T>, first: Landing<T>, pilot: P)
where
    P: Fn(Turn, Landing<T>) -> F,
    F: Future<Output = ()>,
{
    pilot(Turn::First, first).await;
    while let Some(next) = ground.next() {
        pilot(Turn::Following, next).await;
    }
}

/// Frees the key when its last flight has ended, however it ended.
struct Ground<T> {
    table: Arc<Table<T>>,
    key: Key,
    freed: bool,
}

impl<T> Ground<T> {
    /// The next flight's passengers. Whoever arrives from now on boards the one after it.
    fn next(&mut self) -> Option<Landing<T>> {
        let mut table = self.table.lock();
        let next = table.get_mut(&self.key).and_then(Option::take);
        let next = next.filter(|landing| landing.0.receiver_count() > 0);
        if next.is_none() {
            table.remove(&self.key);
            self.freed = true;
        }
        next
    }
}

impl<T> Drop for Ground<T> {
    fn drop(&mut self) {
        // After a panic or the end of the runtime the key is still this one's; after a normal end
        // it may already be another's.
        if !self.freed {
            self.table.lock().remove(&self.key);
        }
    }
}
