//! The one clock.
//!
//! Monotonic, anchored to the wall clock once, and on tokio's time, so that a test that pauses
//! tokio's clock pauses this one. A shared tier has a clock of its own, the server's; this one is
//! for the in-process tier and for measuring.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::protocol::Timestamp;

/// Milliseconds since 1970 that never go backwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    origin_since_epoch: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            // A wall clock before 1970 counts as 1970.
            origin_since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let now = self.origin_since_epoch + self.origin.elapsed();
        Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}
