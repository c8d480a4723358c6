//! The clock that every process of a run shares: the machine's monotonic one.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on the machine's monotonic clock, comparable between processes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Later than anything.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// # Panics
    /// On a system without a monotonic clock.
    pub(crate) fn now() -> Self {
        read(ClockId::CLOCK_MONOTONIC).expect("the system has a monotonic clock")
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    pub(crate) fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// How long after `earlier`; zero if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How the wall clock, by which the database stamps its commits, reads on the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    /// Wall clock minus monotonic clock, in nanoseconds.
    ahead: u64,
}

impl WallClock {
    /// # Errors
    /// On a system without these clocks.
    pub(crate) fn observe() -> Result<Self> {
        let before = read(ClockId::CLOCK_MONOTONIC)?;
        let wall = read(ClockId::CLOCK_REALTIME)?;
        let after = read(ClockId::CLOCK_MONOTONIC)?;
        let middle = before.0 + after.since(before).as_nanos() as u64 / 2;
        Ok(Self {
            ahead: wall.0.saturating_sub(middle),
        })
    }

    pub(crate) fn moment(self, micros_since_epoch: u64) -> Moment {
        Moment(
            micros_since_epoch
                .saturating_mul(1000)
                .saturating_sub(self.ahead),
        )
    }

    /// How far it moved between two observations: someone set the wall clock.
    pub(crate) fn drift(self, other: Self) -> Duration {
        Duration::from_nanos(self.ahead.abs_diff(other.ahead))
    }
}

fn read(clock: ClockId) -> Result<Moment> {
    let now = Duration::from(clock_gettime(clock).context("reading a clock")?);
    Ok(Moment(nanos(now)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a commit's stamp lands where it happened on the monotonic clock.
    #[test]
    fn the_wall_clock_is_translated() {
        let wall = WallClock::observe().unwrap();
        let before = Moment::now();
        let micros = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        let after = Moment::now();
        let slack = Duration::from_millis(5);
        let moment = wall.moment(micros);
        assert!(moment.plus(slack) >= before && moment <= after.plus(slack));
    }
}
