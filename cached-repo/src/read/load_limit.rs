//! The load limit: how many SELECTs load rows at a time.
//!
//! The pool bounds how many statements run; this bounds how many loads stand in line for it, so
//! that readers who find no cache cannot keep everyone else's statements waiting. Who waits too
//! long is turned away.
//!
//! Invariants:
//! - Nobody waits for a permit while holding a connection: reads inside a transaction need none.
//!   Otherwise those who have permits and those who have connections could wait for each other.
//!
//! Does not run statements.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;

/// The load limit of one [`CachedDb`](crate::CachedDb).
#[derive(Debug)]
pub(crate) struct LoadLimit {
    permits: Semaphore,
    wait: Duration,
    /// Loads that wait in [`admit`](LoadLimit::admit), and how many may.
    waiting: AtomicUsize,
    capacity: usize,
}

/// The right to run one SELECT, given back on drop.
pub(super) type Permit<'a> = SemaphorePermit<'a>;

/// All permits were taken for too long, or too many wait for one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TurnedAway;

impl LoadLimit {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            permits: Semaphore::new(config.max_loads.min(Semaphore::MAX_PERMITS)),
            wait: config.load_queue_timeout,
            waiting: AtomicUsize::new(0),
            capacity: config.max_queued_loads,
        }
    }

    /// Waits for its turn for as long as that takes: callers of the batch loader have a queue with a
    /// bound and a time-out of its own.
    pub(super) async fn turn(&self) -> Permit<'_> {
        self.permits.acquire().await.expect("it is never closed")
    }

    /// Waits for its turn, in the order of arrival.
    pub(super) async fn admit(&self) -> Result<Permit<'_>, TurnedAway> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let Some(_waiting) = Waiting::begin(self) else {
            return Err(TurnedAway);
        };
        match tokio::time::timeout(self.wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(TurnedAway),
        }
    }
}

/// A load that waits for a permit.
struct Waiting<'a>(&'a LoadLimit);

impl<'a> Waiting<'a> {
    /// `None` if too many wait already.
    fn begin(limit: &'a LoadLimit) -> Option<Self> {
        let waiting = Self(limit);
        let before = limit.waiting.fetch_add(1, Ordering::Relaxed);
        (before < limit.capacity).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const WAIT: Duration = Duration::from_millis(300);

    fn limit(max_loads: usize) -> LoadLimit {
        LoadLimit::of(&Config {
            max_loads,
            load_queue_timeout: WAIT,
            ..Config::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_turned_away_and_no_sooner() {
        let limit = limit(2);
        let _held = (limit.admit().await.unwrap(), limit.admit().await.unwrap());
        let began = tokio::time::Instant::now();
        assert_eq!(limit.admit().await.unwrap_err(), TurnedAway);
        assert_eq!(began.elapsed(), WAIT);
    }

    /// Goal: a caller that goes away while it waits, or while it loads, takes no permit along.
    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_leaves_its_permit() {
        let limit = limit(1);
        let held = limit.admit().await.unwrap();
        assert!(limit.admit().now_or_never().is_none(), "it has to wait");
        let mut gone = Box::pin(limit.admit());
        assert!(gone.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        assert!(
            limit
                .admit()
                .now_or_never()
                .is_some_and(|turn| turn.is_ok())
        );
    }

    /// Goal: no more wait than may, and whoever has waited makes room.
    #[tokio::test(start_paused = true)]
    async fn one_waiter_too_many_is_turned_away_at_once() {
        let limit = LoadLimit::of(&Config {
            max_loads: 1,
            max_queued_loads: 1,
            load_queue_timeout: WAIT,
            ..Config::default()
        });
        let _held = limit.admit().await.unwrap();
        for _ in 0..2 {
            let mut waits = Box::pin(limit.admit());
            assert!(waits.as_mut().now_or_never().is_none());
            let refused = limit.admit().now_or_never();
            assert_eq!(refused.unwrap().unwrap_err(), TurnedAway);
            assert_eq!(waits.await.unwrap_err(), TurnedAway);
        }
    }

    #[tokio::test]
    async fn any_number_of_loads_can_be_allowed() {
        assert!(limit(usize::MAX).admit().await.is_ok());
    }
}
