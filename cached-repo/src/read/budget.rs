//! How long one call may wait for the shared tier: `cache_timeout` in all, however many operations
//! it takes. A call for very many keys has that for each portion of its misses.
//!
//! Does not count the time in which the call waits for the database or for another load.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use crate::tier::{Reply, TierError};

/// What is left of a call's time for the tier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    until: Instant,
    timeout: Duration,
    /// An operation has had its share.
    is_spent: bool,
}

impl Budget {
    /// The whole time of a call that begins now.
    pub(crate) fn of(timeout: Duration) -> Self {
        Self {
            until: Instant::now() + timeout,
            timeout,
            is_spent: false,
        }
    }

    /// The same budget after an operation.
    pub(super) fn continued(self) -> Self {
        Self {
            is_spent: true,
            ..self
        }
    }

    /// Runs an operation of the tier for as long as there is time. An operation has a time-out of its
    /// own, as long as the whole budget: while little is spent, that will do, and outside a runtime,
    /// where there are no timers.
    pub(super) async fn within<T>(self, operation: Reply<'_, T>) -> Result<T, TierError> {
        let little = self.timeout / 8;
        let is_whole = !self.is_spent || Instant::now() + self.timeout < self.until + little;
        if is_whole || Handle::try_current().is_err() {
            return operation.await;
        }
        let in_time = timeout_at(self.until, operation).await;
        in_time.unwrap_or(Err(TierError::Timeout(self.timeout)))
    }

    /// The same budget after time that was not spent on the tier.
    pub(super) fn resumed_after(self, elsewhere: Duration) -> Self {
        Self {
            until: self.until + elsewhere,
            ..self
        }
    }

    /// What is left of it, to be resumed after a wait for another load.
    pub(super) fn pause(self) -> Paused {
        Paused {
            left: self.until.saturating_duration_since(Instant::now()),
            timeout: self.timeout,
        }
    }

    /// Waits for a task that tells the tier something, for as long as there is time. Then the
    /// task goes on by itself.
    pub(super) async fn wait_for<T>(self, task: tokio::task::JoinHandle<T>) {
        // If its runtime has ended, so has the tier's connection.
        let _ = timeout_at(self.until, task).await;
    }
}

/// A budget of a call that waits for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Paused {
    left: Duration,
    timeout: Duration,
}

impl Paused {
    pub(super) fn resume(self) -> Budget {
        Budget {
            until: Instant::now() + self.left,
            timeout: self.timeout,
            is_spent: true,
        }
    }
}
