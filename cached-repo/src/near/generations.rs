//! Generations decide which rows of the near caches may still be served.
//!
//! Each key has a generation, which it shares with the keys of the same hash. A reader takes a stamp
//! of the generation before it asks the tier, and keeps the row with the stamp. An invalidation
//! raises the generation, so the stamp is outdated: for a row that is kept already, and for one that
//! a reader is about to keep. An invalidation that comes while a row is being read thus wins.
//!
//! Invariants:
//! - An invalidation is one atomic addition. It waits for nobody.
//! - After a gap, in which an invalidation may have been missed, no earlier stamp is current.
//! - No stamp is current for longer than the last heartbeat says, even if the listener has stopped.
//!
//! Does not know entities, and does not free outdated rows: a newer row replaces them, or the store
//! evicts them.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use quick_cache::DefaultHashBuilder;

use crate::{
    clock::Moment,
    protocol::Key,
    tier::{Invalidated, InvalidationListener},
};

/// Many more than most near caches have entries, so that an invalidation rarely ends the stamp of
/// another key.
const GENERATIONS: usize = 1 << 16;

/// The generations of all keys.
pub(crate) struct Generations {
    /// Even while invalidations are delivered; another number after a gap.
    epoch: AtomicU64,
    /// Until when the last heartbeat is good: a [`Moment`].
    until: AtomicU64,
    /// Made by the first stamp.
    generations: OnceLock<Box<[AtomicU32]>>,
    hasher: DefaultHashBuilder,
}

/// The generation of a key at the moment when the stamp was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GenerationStamp {
    epoch: u64,
    slot: u32,
    generation: u32,
}

impl Generations {
    /// Generations that receive no invalidations yet.
    pub(crate) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            until: AtomicU64::new(Moment::START.as_nanos()),
            generations: OnceLock::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The stamp of a key; `None` while invalidations may be missed.
    pub(crate) fn stamp(&self, key: &Key) -> Option<GenerationStamp> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let slot = self.slot(key.as_str());
        let generations = self
            .generations
            .get_or_init(|| (0..GENERATIONS).map(|_| AtomicU32::new(0)).collect());
        let generation = generations[slot].load(Ordering::Acquire);
        epoch.is_multiple_of(2).then_some(GenerationStamp {
            epoch,
            slot: slot as u32,
            generation,
        })
    }

    /// Whether no invalidation of the key has come since the stamp was taken, and none was missed.
    #[inline]
    pub(crate) fn is_current(&self, stamp: GenerationStamp, now: Moment) -> bool {
        let Some(generations) = self.generations.get() else {
            return false;
        };
        now.as_nanos() < self.until.load(Ordering::Acquire)
            && self.epoch.load(Ordering::Acquire) == stamp.epoch
            && generations[stamp.slot as usize].load(Ordering::Acquire) == stamp.generation
    }

    fn slot(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % GENERATIONS
    }
}

impl InvalidationListener for Generations {
    fn on_invalidate(&self, invalidated: Invalidated<'_>) {
        match (invalidated, self.generations.get()) {
            (Invalidated::Key(key), Some(generations)) => {
                generations[self.slot(key)].fetch_add(1, Ordering::AcqRel);
            }
            // Without generations there are no stamps, unless another thread makes them just now.
            (Invalidated::Key(_), None) | (Invalidated::All, _) => {
                self.epoch.fetch_add(2, Ordering::AcqRel);
            }
        }
    }

    fn heartbeat(&self, until: Moment) {
        self.until.fetch_max(until.as_nanos(), Ordering::AcqRel);
        let on = |epoch: u64| (!epoch.is_multiple_of(2)).then_some(epoch + 1);
        // Even already: nothing has been missed.
        let _ = self
            .epoch
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, on);
    }

    fn on_gap(&self) {
        self.epoch.fetch_or(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generations")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::KeySpace;

    const NOW: Moment = Moment::from_nanos(1_000);
    const LATER: Moment = Moment::from_nanos(2_000);

    fn key(id: i64) -> Key {
        KeySpace::new("test", "row").row(id)
    }

    fn receiving() -> Generations {
        let stamps = Generations::new();
        stamps.heartbeat(LATER);
        stamps
    }

    /// Goal: a change ends what was stamped before it, and nothing that is stamped after it.
    #[test]
    fn a_change_ends_the_stamps_of_its_key_from_before_it() {
        let stamps = receiving();
        let before = stamps.stamp(&key(1)).unwrap();
        stamps.on_invalidate(Invalidated::Key(key(1).as_str()));
        assert!(!stamps.is_current(before, NOW));
        assert!(stamps.is_current(stamps.stamp(&key(1)).unwrap(), NOW));
        let others: Vec<_> = (2..102).map(|id| stamps.stamp(&key(id)).unwrap()).collect();
        stamps.on_invalidate(Invalidated::Key(key(1).as_str()));
        let hold = others
            .iter()
            .filter(|stamp| stamps.is_current(**stamp, NOW));
        assert!(hold.count() > 90, "strangers share a generation rarely");
    }

    /// Goal: after a gap no earlier stamp is current, whether anything may have changed at
    /// once or only that something was missed.
    #[test]
    fn a_gap_ends_every_stamp_and_nothing_is_stamped_in_it() {
        let stamps = Generations::new();
        assert!(stamps.stamp(&key(1)).is_none(), "no heartbeat has come yet");
        stamps.heartbeat(LATER);
        let first = stamps.stamp(&key(1)).unwrap();
        stamps.on_invalidate(Invalidated::All);
        assert!(!stamps.is_current(first, NOW));
        let second = stamps.stamp(&key(1)).unwrap();
        stamps.on_gap();
        stamps.on_gap();
        assert!(!stamps.is_current(second, NOW));
        assert!(stamps.stamp(&key(1)).is_none());
        stamps.on_invalidate(Invalidated::All);
        assert!(stamps.stamp(&key(1)).is_none(), "the gap goes on");
        stamps.heartbeat(LATER);
        assert!(!stamps.is_current(first, NOW) && !stamps.is_current(second, NOW));
        let third = stamps.stamp(&key(1)).unwrap();
        stamps.heartbeat(LATER);
        assert!(stamps.is_current(third, NOW), "nothing was missed");
    }

    /// Goal: whoever listens may stop without a word; what is kept then ends by itself, and is good
    /// again if it turns out that nothing was missed.
    #[test]
    fn nothing_holds_for_longer_than_hearing_is_vouched_for() {
        let stamps = receiving();
        let stamp = stamps.stamp(&key(1)).unwrap();
        assert!(!stamps.is_current(stamp, LATER));
        stamps.heartbeat(NOW);
        assert!(
            !stamps.is_current(stamp, LATER),
            "an old word changes nothing"
        );
        stamps.heartbeat(Moment::from_nanos(2_001));
        assert!(stamps.is_current(stamp, LATER));
    }

    /// Goal: an invalidation that comes before the first stamp is not lost on a reader that is
    /// about to take the first stamp.
    #[test]
    fn a_change_before_the_first_stamp_counts() {
        let stamps = receiving();
        let epoch = stamps.epoch.load(Ordering::Acquire);
        stamps.on_invalidate(Invalidated::Key(key(1).as_str()));
        assert!(stamps.generations.get().is_none());
        assert_ne!(stamps.epoch.load(Ordering::Acquire), epoch);
    }
}
