//! Which faults happen when: a pure function of the seed.
//!
//! Invariants:
//! - The same seed gives the same faults at the same times, whatever the machine does meanwhile; a
//!   longer run begins like a shorter one.
//! - Nothing here is carried out; that is [`crate::stage`]'s.

use std::{fmt, time::Duration};

use crate::{
    entities::{Key, Table},
    settings::{BLOCK, CACHE_TIMEOUT, LEASE, NEAR_BOUND, ROWS, WORKERS},
};

/// The mean time between two faults, in milliseconds.
const MEAN_GAP_MS: u64 = 50;

/// Between a worker and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) worker: usize,
    pub(crate) to: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Cache,
    /// The cache too, but only the connection on which a worker listens.
    Subscription,
    Database,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    CutBefore,
    CutAfter,
    Hold(Duration),
}

/// The request that it happens to: the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Any,
    Commit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Delay {
        on: Wire,
        requests: Duration,
        replies: Duration,
        lasting: Duration,
    },
    Strike {
        on: Wire,
        victim: Victim,
        blow: Blow,
    },
    /// Every connection breaks.
    Cut { on: Wire },
    /// Every connection breaks, and new ones do too.
    Partition { on: Wire, lasting: Duration },
    /// `kill -9`, and a new process after a while.
    Kill { worker: usize, down: Duration },
    /// The process stands still.
    Pause { worker: usize, lasting: Duration },
    /// The cache forgets some keys.
    Evict { keys: Vec<Key> },
    /// The cache forgets everything.
    Flush,
    /// The cache has no memory left and evicts any key.
    Squeeze { lasting: Duration },
    /// The cache dies and comes back empty.
    RestartCache { down: Duration },
}

impl Fault {
    /// What it is called in the summary.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Strike { blow, .. } => match blow {
                Blow::CutBefore => "cut before the request",
                Blow::CutAfter => "cut before the reply",
                Blow::Hold(_) => "hold",
            },
            Self::Cut { .. } => "cut",
            Self::Partition { .. } => "partition",
            Self::Kill { .. } => "kill -9",
            Self::Pause { .. } => "pause",
            Self::Evict { .. } => "eviction",
            Self::Flush => "flush",
            Self::Squeeze { .. } => "squeeze",
            Self::RestartCache { .. } => "cache restart",
        }
    }
}

/// The faults of a run, one after another, without an end.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    random: fastrand::Rng,
    at: Duration,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            at: Duration::ZERO,
        }
    }

    /// A number for the faults before `end`, to compare two runs by.
    pub(crate) fn digest(seed: u64, end: Duration) -> u64 {
        // FNV-1a: the same on every machine and in every version of Rust.
        let mut digest = 0xcbf2_9ce4_8422_2325u64;
        for (at, fault) in Self::new(seed).take_while(|(at, _)| *at < end) {
            for byte in format!("{} {fault}\n", at.as_millis()).bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        digest
    }

    fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.random.u64(range))
    }

    fn worker(&mut self) -> usize {
        self.random.usize(..WORKERS)
    }

    fn wire(&mut self) -> Wire {
        let to = match self.random.u8(..5) {
            0 | 1 => Server::Cache,
            2 => Server::Subscription,
            _ => Server::Database,
        };
        Wire {
            worker: self.worker(),
            to,
        }
    }

    fn delay(&mut self) -> Fault {
        let on = self.wire();
        // From a delay that nobody notices to one that looks like a dead cache or that ends near
        // hits.
        let (longest, lasting) = match on.to {
            Server::Subscription => (NEAR_BOUND, 2000),
            Server::Cache | Server::Database => (CACHE_TIMEOUT, 400),
        };
        let longest = longest.as_millis() as u64;
        let (mut requests, mut replies) = (self.millis(0..=longest), self.millis(0..=longest));
        if self.random.bool() {
            (requests, replies) = (requests / 20, replies / 20);
        }
        Fault::Delay {
            on,
            requests,
            replies,
            lasting: self.millis(50..=lasting),
        }
    }

    fn strike(&mut self) -> Fault {
        let on = self.wire();
        let victim = match on.to {
            Server::Database if self.random.bool() => Victim::Commit,
            _ => Victim::Any,
        };
        let blow = match self.random.u8(..3) {
            0 => Blow::CutBefore,
            1 => Blow::CutAfter,
            // Around the time-out, around a lease, and past a block.
            _ => Blow::Hold(match self.random.u8(..3) {
                0 => self.millis(20..=CACHE_TIMEOUT.as_millis() as u64 * 2),
                1 => self.millis(100..=LEASE.as_millis() as u64 * 2),
                _ => BLOCK + self.millis(50..=900),
            }),
        };
        Fault::Strike { on, victim, blow }
    }

    fn evict(&mut self) -> Fault {
        let keys = (0..self.random.usize(1..=4))
            .map(|_| Key {
                table: Table::ALL[self.random.usize(..Table::ALL.len())],
                id: self.random.i64(1..=ROWS).min(self.random.i64(1..=ROWS)),
            })
            .collect();
        Fault::Evict { keys }
    }

    fn fault(&mut self) -> Fault {
        match self.random.u8(..100) {
            0..12 => self.delay(),
            12..52 => self.strike(),
            52..57 => Fault::Cut { on: self.wire() },
            57..61 => Fault::Partition {
                on: self.wire(),
                lasting: self.millis(20..=600),
            },
            61..69 => Fault::Kill {
                worker: self.worker(),
                down: self.millis(10..=200),
            },
            69..73 => Fault::Pause {
                worker: self.worker(),
                lasting: self.millis(50..=900),
            },
            73..93 => self.evict(),
            93..97 => Fault::Flush,
            97..99 => Fault::Squeeze {
                lasting: self.millis(20..=200),
            },
            _ => Fault::RestartCache {
                down: self.millis(5..=200),
            },
        }
    }
}

impl Iterator for Schedule {
    type Item = (Duration, Fault);

    fn next(&mut self) -> Option<Self::Item> {
        let gap = self.millis(1..=2 * MEAN_GAP_MS - 1);
        self.at += gap;
        Some((self.at, self.fault()))
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to {
            Server::Cache => "cache",
            Server::Subscription => "subscription",
            Server::Database => "database",
        };
        write!(f, "w{} and the {to}", self.worker)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Delay {
                on,
                requests,
                replies,
                lasting,
            } => write!(
                f,
                "{name} between {on}: requests {requests:?}, replies {replies:?}, for {lasting:?}"
            ),
            Self::Strike { on, victim, blow } => {
                let victim = match victim {
                    Victim::Any => "the next request",
                    Victim::Commit => "the next COMMIT",
                };
                match blow {
                    Blow::Hold(time) => write!(f, "{name} {victim} between {on} for {time:?}"),
                    _ => write!(f, "{name}: {victim} between {on}"),
                }
            }
            Self::Cut { on } => write!(f, "{name} between {on}"),
            Self::Partition { on, lasting } => write!(f, "{name} of {on} for {lasting:?}"),
            Self::Kill { worker, down } => write!(f, "{name} of w{worker}, gone for {down:?}"),
            Self::Pause { worker, lasting } => write!(f, "{name} of w{worker} for {lasting:?}"),
            Self::Evict { keys } => {
                write!(f, "{name} of")?;
                keys.iter().try_for_each(|key| write!(f, " {key}"))
            }
            Self::Flush => f.write_str(name),
            Self::Squeeze { lasting } => write!(f, "{name} for {lasting:?}"),
            Self::RestartCache { down } => write!(f, "{name}, gone for {down:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn faults(seed: u64, end: Duration) -> Vec<(Duration, Fault)> {
        Schedule::new(seed)
            .take_while(|(at, _)| *at < end)
            .collect()
    }

    /// Goal: a run can be repeated, and its digest says so.
    #[test]
    fn the_seed_decides_everything() {
        let end = Duration::from_secs(60);
        assert_eq!(faults(7, end), faults(7, end));
        assert_eq!(Schedule::digest(7, end), Schedule::digest(7, end));
        assert_ne!(faults(7, end), faults(8, end));
        assert_ne!(Schedule::digest(7, end), Schedule::digest(8, end));
    }

    /// Goal: the digest is the same in every process and release: a constant.
    #[test]
    fn the_digest_does_not_depend_on_the_process() {
        let digest = Schedule::digest(1, Duration::from_secs(10));
        assert_eq!(format!("{digest:016x}"), "856f2beb35115143");
    }

    /// Goal: what a short run shows, a long one with its seed shows too.
    #[test]
    fn a_longer_run_begins_like_a_shorter_one() {
        let short = faults(3, Duration::from_secs(10));
        assert_eq!(short, faults(3, Duration::from_secs(30))[..short.len()]);
    }

    /// Goal: every kind of fault happens, and ten seconds show most of them.
    #[test]
    fn every_kind_of_fault_happens() {
        let names = |end| -> HashSet<&'static str> {
            faults(1, end)
                .iter()
                .map(|(_, fault)| fault.name())
                .collect()
        };
        assert_eq!(names(HOUR).len(), 12);
        assert!(names(Duration::from_secs(10)).len() >= 10);
        let held_commits = faults(1, HOUR).into_iter().any(|(_, fault)| {
            matches!(fault, Fault::Strike { victim: Victim::Commit, blow: Blow::Hold(time), .. }
                if time > BLOCK)
        });
        assert!(held_commits, "a zombie's COMMIT");
    }
}
