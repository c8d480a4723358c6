//! The one clock.
//!
//! Monotonic, anchored to the wall clock once, and on tokio's time, so that a test that pauses
//! tokio's clock pauses this one. A shared tier has a clock of its own, the server's; this one is
//! for the in-process tier and for measuring.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::protocol::Timestamp;

/// A duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 that never go backwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    origin_since_epoch: Duration,
    coarse_origin: coarsetime::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            coarse_origin: coarsetime::Instant::now_without_cache_update(),
            // A wall clock before 1970 counts as 1970.
            origin_since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// The moment it is, a few milliseconds late at most (a tick of the kernel): for whom reading
    /// the processor's clock would take longer than all else.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        let now = coarsetime::Instant::now_without_cache_update();
        Moment(now.duration_since(self.coarse_origin).as_nanos())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.after(self.origin.elapsed())
    }

    /// As exact as [`moment`](Self::moment); does not pause with tokio's time.
    #[cfg(feature = "redis")]
    pub(crate) fn coarse_now(&self) -> Timestamp {
        self.after(self.moment().since(Moment::START))
    }

    fn after(&self, elapsed: Duration) -> Timestamp {
        let now = self.origin_since_epoch + elapsed;
        Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A moment of this process, in nanoseconds since its clock was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// When the clock was started.
    pub(crate) const START: Self = Self(0);
    /// Later than any.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    #[cfg_attr(
        not(any(test, feature = "redis")),
        expect(dead_code, reason = "only a heartbeat carries a moment")
    )]
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn plus(self, duration: Duration) -> Self {
        let seconds = duration.as_secs().saturating_mul(1_000_000_000);
        let nanos = seconds.saturating_add(duration.subsec_nanos() as u64);
        Self(self.0.saturating_add(nanos))
    }

    /// The moment so much earlier, at the earliest the start.
    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(Self::START.plus(duration).0))
    }

    /// How long `earlier` lies back, zero if it does not.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
