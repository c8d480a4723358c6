//! Which of the things that near caches hold may still be served.
//!
//! Each key has a generation, which it shares with the keys of the same hash. A change raises it,
//! and what was stamped before is worth nothing from then on, wherever it is by then: on a shelf,
//! or in the hands of a reader that is about to put it there. So nobody has to find out what is
//! where, and a change that comes while a row is being fetched wins.
//!
//! Invariants:
//! - A change is one atomic step; it waits for nobody and drops nothing that others wait for.
//! - While changes may go unheard the epoch is odd, and nothing is stamped or holds.
//!
//! Does not know entities, and does not free what is worth nothing: its successor does, or the
//! shelf's eviction.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use quick_cache::DefaultHashBuilder;

use crate::{
    protocol::Key,
    tier::{Changed, Listener},
};

/// Many more than most near caches have entries, so that a change rarely takes a stranger with it.
const GENERATIONS: usize = 1 << 16;

/// The generations of all keys.
pub(crate) struct Stamps {
    /// Even while changes are heard; different after everything may have changed.
    epoch: AtomicU64,
    generations: Box<[AtomicU32]>,
    hasher: DefaultHashBuilder,
}

/// That nothing was known to have changed when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    epoch: u64,
    slot: u32,
    generation: u32,
}

impl Stamps {
    /// Of someone who does not hear changes yet.
    pub(crate) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            generations: (0..GENERATIONS).map(|_| AtomicU32::new(0)).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The stamp of a key; `None` while changes may go unheard.
    pub(crate) fn stamp(&self, key: &Key) -> Option<Stamp> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let slot = self.slot(key.as_str());
        let generation = self.generations[slot].load(Ordering::Acquire);
        epoch.is_multiple_of(2).then_some(Stamp {
            epoch,
            slot: slot as u32,
            generation,
        })
    }

    /// Whether nothing has been heard to change since the stamp was taken.
    #[inline]
    pub(crate) fn hold(&self, stamp: Stamp) -> bool {
        self.epoch.load(Ordering::Acquire) == stamp.epoch
            && self.generations[stamp.slot as usize].load(Ordering::Acquire) == stamp.generation
    }

    fn slot(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % GENERATIONS
    }
}

impl Listener for Stamps {
    fn hear(&self, changed: Changed<'_>) {
        match changed {
            Changed::Key(key) => {
                self.generations[self.slot(key)].fetch_add(1, Ordering::AcqRel);
            }
            Changed::Anything => {
                self.epoch.fetch_add(2, Ordering::AcqRel);
            }
        }
    }

    fn deaf(&self) {
        self.epoch.fetch_or(1, Ordering::AcqRel);
    }

    fn hears(&self) {
        let _ = self
            .epoch
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |epoch| {
                Some((epoch | 1) + 1)
            });
    }
}

impl std::fmt::Debug for Stamps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamps")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::KeySpace;

    fn key(id: i64) -> Key {
        KeySpace::new("test", "row").row(id)
    }

    fn hearing() -> Stamps {
        let stamps = Stamps::new();
        stamps.hears();
        stamps
    }

    /// Goal: a change ends what was stamped before it, and nothing that is stamped after it.
    #[test]
    fn a_change_ends_the_stamps_of_its_key_from_before_it() {
        let stamps = hearing();
        let (before, other) = (
            stamps.stamp(&key(1)).unwrap(),
            stamps.stamp(&key(2)).unwrap(),
        );
        stamps.hear(Changed::Key(key(1).as_str()));
        let after = stamps.stamp(&key(1)).unwrap();
        assert!(!stamps.hold(before));
        assert!(stamps.hold(after));
        assert!(stamps.hold(other) || stamps.slot(key(1).as_str()) == stamps.slot(key(2).as_str()));
    }

    /// Goal: after anything may have changed nothing from before holds, whether it was heard at
    /// once or only that something was missed.
    #[test]
    fn a_gap_ends_every_stamp_and_nothing_is_stamped_in_it() {
        let stamps = Stamps::new();
        assert!(stamps.stamp(&key(1)).is_none(), "nothing is heard yet");
        stamps.hears();
        let first = stamps.stamp(&key(1)).unwrap();
        stamps.hear(Changed::Anything);
        assert!(!stamps.hold(first));
        let second = stamps.stamp(&key(1)).unwrap();
        stamps.deaf();
        stamps.deaf();
        assert!(!stamps.hold(second));
        assert!(stamps.stamp(&key(1)).is_none());
        stamps.hear(Changed::Anything);
        assert!(stamps.stamp(&key(1)).is_none(), "still deaf");
        stamps.hears();
        stamps.hears();
        assert!(!stamps.hold(first) && !stamps.hold(second));
        assert!(stamps.hold(stamps.stamp(&key(1)).unwrap()));
    }
}
