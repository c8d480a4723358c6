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

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;

/// The load limit of one [`CachedDb`](crate::CachedDb).
#[derive(Debug)]
pub(crate) struct LoadLimit {
    permits: Semaphore,
    wait: Duration,
}

/// The right to run one SELECT, given back on drop.
pub(super) type Permit<'a> = SemaphorePermit<'a>;

/// All permits were taken for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TurnedAway;

impl LoadLimit {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            permits: Semaphore::new(config.max_loads.min(Semaphore::MAX_PERMITS)),
            wait: config.load_queue_timeout,
        }
    }

    /// Waits for its turn, in the order of arrival.
    pub(super) async fn admit(&self) -> Result<Permit<'_>, TurnedAway> {
        match tokio::time::timeout(self.wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(TurnedAway),
        }
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

    #[tokio::test]
    async fn any_number_of_loads_can_be_allowed() {
        assert!(limit(usize::MAX).admit().await.is_ok());
    }
}
