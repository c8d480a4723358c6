//! Single flight: at most one load per key at a time, shared by everyone who waits for it.
//!
//! Invariants:
//! - A caller shares a flight only if it arrived before the flight's first read began. A later
//!   one may have seen a newer write acknowledged, so it waits for the next flight, which starts
//!   when this one has ended and looks at the cache first. A stampede is thus one load and one
//!   look.
//! - A flight runs in a task of its own: a caller that goes away takes nothing with it, whoever
//!   it was. A flight that nobody waits for any more does not start.
//! - Whatever ends a flight (a panic, the end of the runtime) wakes its waiters and frees the key.
//! - Nothing is spawned while the table is locked: a runtime that has ended drops the task at once,
//!   and its drop takes the lock.
//!
//! Does not know what a load does. Flights belong to one entity of one `CachedDb`, never to a bare
//! key.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::budget::{Budget, Paused};
use crate::{protocol::Key, tasks::Tasks};

/// The flights of one entity; `T` is what a load gives each waiter.
#[derive(Debug)]
pub(crate) struct SingleFlight<T> {
    table: Arc<Table<T>>,
}

type Table<T> = Mutex<HashMap<Key, Option<Waiters<T>>>>;

/// Whether a flight is the first of its key or follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its waiters have just looked at the cache.
    First,
    /// The cache may have been filled since they looked.
    Following,
}

/// Those who wait for a flight's result.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    result: watch::Sender<Option<T>>,
    /// The most time that any of them has left for the cache; `None` if it answered none of them.
    budget: Option<Paused>,
}

impl<T> Waiters<T> {
    fn none_yet() -> Self {
        Self {
            result: watch::Sender::new(None),
            budget: None,
        }
    }

    fn add(&mut self, budget: Option<Budget>) -> watch::Receiver<Option<T>> {
        self.budget = self.budget.max(budget.map(Budget::pause));
        self.result.subscribe()
    }

    /// The time that the flight has for the cache, from now on; `None` if it is not to be asked.
    pub(crate) fn budget(&self) -> Option<Budget> {
        self.budget.map(Paused::resume)
    }

    /// Gives every waiter the result.
    pub(crate) fn resolve(&self, result: T) {
        self.result.send_replace(Some(result));
    }

    /// How many wait.
    pub(crate) fn count(&self) -> u64 {
        self.result.receiver_count() as u64
    }
}

/// The flight ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self {
            table: Arc::default(),
        }
    }

    /// Waits for the next flight of `key` that has not begun to read, and starts it if need be.
    ///
    /// `budget` is the time that the caller has left for the cache, `None` if it did not answer.
    /// `load` makes the flight: it loads, resolves the waiters, and then cleans up; the next
    /// flight starts when it returns.
    pub(crate) async fn join<L, F>(
        &self,
        key: &Key,
        tasks: &Tasks,
        budget: Option<Budget>,
        load: L,
    ) -> Result<T, Lost>
    where
        L: Fn(Turn, Waiters<T>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut result = match self.enter(key, budget) {
            Entered::Waiting(result) => result,
            Entered::First(mut waiters, flights) => {
                let result = waiters.add(budget);
                tasks.spawn(fly(flights, waiters, load));
                result
            }
        };
        let result = result.wait_for(Option::is_some).await.map_err(|_| Lost)?;
        result.clone().ok_or(Lost)
    }

    fn enter(&self, key: &Key, budget: Option<Budget>) -> Entered<T> {
        match self.table.lock().entry(key.clone()) {
            Entry::Occupied(mut next) => {
                let next = next.get_mut().get_or_insert_with(Waiters::none_yet);
                Entered::Waiting(next.add(budget))
            }
            Entry::Vacant(vacant) => {
                vacant.insert(None);
                let flights = KeyFlights {
                    table: Arc::clone(&self.table),
                    key: key.clone(),
                    ended: false,
                };
                Entered::First(Waiters::none_yet(), flights)
            }
        }
    }
}

enum Entered<T> {
    /// Another flight of the key is under way; this is the result of the one after it.
    Waiting(watch::Receiver<Option<T>>),
    /// The key was free.
    First(Waiters<T>, KeyFlights<T>),
}

/// Makes the flights of one key, one after another, until nobody waits.
async fn fly<T, L, F>(mut flights: KeyFlights<T>, first: Waiters<T>, load: L)
where
    L: Fn(Turn, Waiters<T>) -> F,
    F: Future<Output = ()>,
{
    load(Turn::First, first).await;
    while let Some(next) = flights.next() {
        load(Turn::Following, next).await;
    }
}

/// Frees the key when its last flight has ended, however it ended.
struct KeyFlights<T> {
    table: Arc<Table<T>>,
    key: Key,
    ended: bool,
}

impl<T> KeyFlights<T> {
    /// The next flight's waiters. Whoever arrives from now on waits for the one after it.
    fn next(&mut self) -> Option<Waiters<T>> {
        let mut table = self.table.lock();
        let next = table.get_mut(&self.key).and_then(Option::take);
        let next = next.filter(|waiters| waiters.count() > 0);
        if next.is_none() {
            table.remove(&self.key);
            self.ended = true;
        }
        next
    }
}

impl<T> Drop for KeyFlights<T> {
    fn drop(&mut self) {
        // After a panic or the end of the runtime the key is still this one's; after a normal end
        // it may already be another's.
        if !self.ended {
            let waiters = self.table.lock().remove(&self.key);
            // Their drop wakes tasks, which may run at once.
            drop(waiters);
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

    /// Each flight reports its turn, then waits for permission to resolve.
    struct Flights {
        flights: SingleFlight<u32>,
        tasks: Tasks,
        began: mpsc::UnboundedReceiver<(Turn, u64)>,
        report: mpsc::UnboundedSender<(Turn, u64)>,
        /// One permit lets one flight resolve; the results count up from 1.
        may_resolve: Arc<Semaphore>,
        resolved: Arc<AtomicUsize>,
    }

    const CRASH: u32 = 13;

    impl Flights {
        fn new() -> Self {
            let (report, began) = mpsc::unbounded_channel();
            Self {
                flights: SingleFlight::new(),
                tasks: Tasks::on(tokio::runtime::Handle::current()),
                began,
                report,
                may_resolve: Arc::new(Semaphore::new(0)),
                resolved: Arc::default(),
            }
        }

        /// Joins, and waits when this returns.
        async fn join(&self) -> tokio::task::JoinHandle<Result<u32, Lost>> {
            let (flights, tasks) = (Arc::clone(&self.flights.table), self.tasks.clone());
            let (report, may_resolve) = (self.report.clone(), Arc::clone(&self.may_resolve));
            let resolved = Arc::clone(&self.resolved);
            let waiter = tokio::spawn(async move {
                let flights = SingleFlight { table: flights };
                let load = move |turn, waiters: Waiters<u32>| {
                    let (report, may_resolve) = (report.clone(), Arc::clone(&may_resolve));
                    let resolved = Arc::clone(&resolved);
                    async move {
                        report.send((turn, waiters.count())).unwrap();
                        may_resolve.acquire().await.unwrap().forget();
                        let result = resolved.fetch_add(1, Ordering::SeqCst) as u32 + 1;
                        assert!(result != CRASH, "this flight crashes");
                        waiters.resolve(result);
                    }
                };
                flights.join(&key(), &tasks, None, load).await
            });
            // On one thread: it waits once it was polled.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            waiter
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
        let mut flights = Flights::new();
        let first = flights.join().await;
        assert_eq!(flights.began.recv().await, Some((Turn::First, 1)));
        let late = [flights.join().await, flights.join().await];
        assert!(flights.began.try_recv().is_err(), "one flight at a time");
        flights.may_resolve.add_permits(1);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(flights.began.recv().await, Some((Turn::Following, 2)));
        flights.may_resolve.add_permits(1);
        for waiter in late {
            assert_eq!(waiter.await.unwrap(), Ok(2));
        }
        flights.until_idle().await;
    }

    #[tokio::test]
    async fn a_flight_nobody_waits_for_does_not_start() {
        let mut flights = Flights::new();
        let first = flights.join().await;
        flights.began.recv().await.unwrap();
        let late = flights.join().await;
        late.abort();
        late.await.unwrap_err();
        flights.may_resolve.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(1));
        flights.until_idle().await;
        assert!(flights.began.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_takes_nothing_with_it() {
        let mut flights = Flights::new();
        let leader = flights.join().await;
        flights.began.recv().await.unwrap();
        let waiter = flights.join().await;
        leader.abort();
        leader.await.unwrap_err();
        flights.may_resolve.add_permits(2);
        assert_eq!(waiter.await.unwrap(), Ok(2));
        flights.until_idle().await;
    }

    #[tokio::test]
    async fn a_flight_that_crashes_wakes_everyone_and_frees_the_key() {
        let mut flights = Flights::new();
        flights.resolved.store(CRASH as usize - 1, Ordering::SeqCst);
        let first = flights.join().await;
        flights.began.recv().await.unwrap();
        let next = flights.join().await;
        flights.may_resolve.add_permits(1);
        assert_eq!(first.await.unwrap(), Err(Lost));
        assert_eq!(next.await.unwrap(), Err(Lost));
        assert!(flights.is_idle());
        flights.may_resolve.add_permits(1);
        assert_eq!(flights.join().await.await.unwrap(), Ok(CRASH + 1));
    }

    /// A runtime of its own, and tasks on it.
    fn another_runtime() -> (tokio::runtime::Runtime, Tasks) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let tasks = {
            let _inside = runtime.enter();
            Tasks::on(tokio::runtime::Handle::current())
        };
        (runtime, tasks)
    }

    #[tokio::test]
    async fn the_end_of_the_runtime_wakes_everyone() {
        let flights = Arc::new(SingleFlight::<u32>::new());
        let (doomed, tasks) = another_runtime();
        let began = Arc::new(Semaphore::new(0));
        let waiter = tokio::spawn({
            let (flights, began) = (Arc::clone(&flights), Arc::clone(&began));
            async move {
                let load = move |_, waiters| {
                    began.add_permits(1);
                    async move {
                        std::future::pending::<()>().await;
                        drop::<Waiters<u32>>(waiters);
                    }
                };
                flights.join(&key(), &tasks, None, load).await
            }
        });
        began.acquire().await.unwrap().forget();
        doomed.shutdown_background();
        let resolved = tokio::time::timeout(Duration::from_secs(10), waiter).await;
        assert_eq!(resolved.expect("a waiter hangs").unwrap(), Err(Lost));
        // The waiters fail a moment before the key is free.
        tokio::time::timeout(Duration::from_secs(10), async {
            while !flights.table.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the key is never freed");
    }

    /// Goal: a runtime that has ended drops the flight inside `spawn`, and nobody hangs on it.
    #[tokio::test]
    async fn a_flight_on_a_runtime_that_has_ended_fails_at_once() {
        let flights = SingleFlight::<u32>::new();
        let (ended, tasks) = another_runtime();
        ended.shutdown_background();
        let load = |_, waiters: Waiters<u32>| async move { waiters.resolve(1) };
        let key = key();
        let joined = flights.join(&key, &tasks, None, load);
        let joined = tokio::time::timeout(Duration::from_secs(10), joined).await;
        assert_eq!(joined.expect("it hangs"), Err(Lost));
        assert!(flights.table.lock().is_empty());
    }
}
