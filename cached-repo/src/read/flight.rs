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

    /// How many wait.
    pub(crate) fn passengers(&self) -> u64 {
        self.0.receiver_count() as u64
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::protocol::KeySpace;

    /// A control tower: each flight reports its turn, then waits to be told its result.
    struct Tower {
        flights: Flights<u32>,
        tasks: TaskTracker,
        began: mpsc::UnboundedReceiver<(Turn, u64)>,
        report: mpsc::UnboundedSender<(Turn, u64)>,
        /// One permit lets one flight land; the results count up from 1.
        may_land: Arc<Semaphore>,
        landed: Arc<AtomicUsize>,
    }

    const CRASH: u32 = 13;

    impl Tower {
        fn new() -> Self {
            let (report, began) = mpsc::unbounded_channel();
            Self {
                flights: Flights::new(),
                tasks: TaskTracker::new(),
                began,
                report,
                may_land: Arc::new(Semaphore::new(0)),
                landed: Arc::default(),
            }
        }

        /// Boards, and is aboard when this returns.
        async fn board(&self) -> tokio::task::JoinHandle<Result<u32, Lost>> {
            let (flights, tasks) = (Arc::clone(&self.flights.table), self.tasks.clone());
            let (report, may_land) = (self.report.clone(), Arc::clone(&self.may_land));
            let landed = Arc::clone(&self.landed);
            let passenger = tokio::spawn(async move {
                let flights = Flights { table: flights };
                let pilot = move |turn, landing: Landing<u32>| {
                    let (report, may_land) = (report.clone(), Arc::clone(&may_land));
                    let landed = Arc::clone(&landed);
                    async move {
                        report.send((turn, landing.passengers())).unwrap();
                        may_land.acquire().await.unwrap().forget();
                        let result = landed.fetch_add(1, Ordering::SeqCst) as u32 + 1;
                        assert!(result != CRASH, "this flight crashes");
                        landing.land(result);
                    }
                };
                flights.board(&key(), &tasks, pilot).await
            });
            // On one thread: the passenger is aboard once it waits.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            passenger
        }

        fn is_idle(&self) -> bool {
            self.flights.table.lock().is_empty()
        }

        async fn until_idle(&self) {
            tokio::time::timeout(Duration::from_secs(10), async {
                while !self.is_idle() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("the key is never freed");
        }
    }

    fn key() -> Key {
        KeySpace::new("test", "row").row(1i64)
    }

    #[tokio::test]
    async fn who_comes_after_a_flight_began_waits_for_the_next() {
        let mut tower = Tower::new();
        let first = tower.board().await;
        assert_eq!(tower.began.recv().await, Some((Turn::First, 1)));
        let late = [tower.board().await, tower.board().await];
        assert!(tower.began.try_recv().is_err(), "one flight at a time");
        tower.may_land.add_permits(1);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(tower.began.recv().await, Some((Turn::Following, 2)));
        tower.may_land.add_permits(1);
        for passenger in late {
            assert_eq!(passenger.await.unwrap(), Ok(2));
        }
        tower.until_idle().await;
    }

    #[tokio::test]
    async fn a_flight_nobody_waits_for_does_not_start() {
        let mut tower = Tower::new();
        let first = tower.board().await;
        tower.began.recv().await.unwrap();
        let late = tower.board().await;
        late.abort();
        late.await.unwrap_err();
        tower.may_land.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        tower.until_idle().await;
        assert!(tower.began.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_passenger_that_leaves_takes_nothing_with_it() {
        let mut tower = Tower::new();
        let leader = tower.board().await;
        tower.began.recv().await.unwrap();
        let waiter = tower.board().await;
        leader.abort();
        leader.await.unwrap_err();
        tower.may_land.add_permits(2);
        assert_eq!(waiter.await.unwrap(), Ok(2));
        tower.until_idle().await;
    }

    #[tokio::test]
    async fn a_flight_that_crashes_wakes_everyone_and_frees_the_key() {
        let mut tower = Tower::new();
        tower.landed.store(CRASH as usize - 1, Ordering::SeqCst);
        let first = tower.board().await;
        tower.began.recv().await.unwrap();
        let next = tower.board().await;
        tower.may_land.add_permits(1);
        assert_eq!(first.await.unwrap(), Err(Lost));
        assert_eq!(next.await.unwrap(), Err(Lost));
        assert!(tower.is_idle());
        tower.may_land.add_permits(1);
        assert_eq!(tower.board().await.await.unwrap(), Ok(CRASH + 1));
    }

    #[tokio::test]
    async fn the_end_of_the_tasks_wakes_everyone() {
        let flights = Arc::new(Flights::<u32>::new());
        let passenger = {
            // A runtime of its own, which ends under the flight.
            let doomed = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()
                .unwrap();
            let tasks = TaskTracker::new();
            let began = Arc::new(Semaphore::new(0));
            let aboard = Arc::clone(&began);
            let handle = doomed.handle().clone();
            let passenger = tokio::spawn({
                let flights = Arc::clone(&flights);
                async move {
                    let pilot = move |_, landing| {
                        aboard.add_permits(1);
                        async move {
                            std::future::pending::<()>().await;
                            drop::<Landing<u32>>(landing);
                        }
                    };
                    let key = key();
                    let mut boarding = Box::pin(flights.board(&key, &tasks, pilot));
                    // The flight is spawned onto the runtime that is current at the first poll.
                    let first = std::future::poll_fn(|context| {
                        let _inside = handle.enter();
                        std::task::Poll::Ready(boarding.as_mut().poll(context))
                    });
                    assert!(first.await.is_pending());
                    boarding.await
                }
            });
            began.acquire().await.unwrap().forget();
            doomed.shutdown_background();
            passenger
        };
        let landed = tokio::time::timeout(Duration::from_secs(10), passenger).await;
        assert_eq!(landed.expect("a passenger hangs").unwrap(), Err(Lost));
        // The passengers hear of it a moment before the key is free.
        tokio::time::timeout(Duration::from_secs(10), async {
            while !flights.table.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the key is never freed");
    }
}
