//! Which committed writes the protocol could not protect, and until when reads may miss them.
//!
//! See [the checker](super) for the reasoning.

use std::collections::{BTreeMap, HashMap};

use super::{
    Evidence, Findings,
    operations::{Operation, Operations},
    timeline::{State, Timeline},
};
use crate::{
    clock::Moment,
    entities::Key,
    history::Invalidated,
    settings::{BLOCK, BOUND, Policy},
    stage::Loss,
};

/// Why a write was not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cause {
    /// It went past the library, and was invalidated afterwards.
    Bypassing,
    /// Its process wrote although the cache had failed it.
    Unblocked,
    /// It was committed after its block may have lapsed.
    Late,
    /// The cache lost its block before it was committed.
    Forgotten,
    /// The database made its key, so that there was no block.
    Keyless,
}

/// When readers may miss a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) cause: Cause,
}

impl Exposure {
    /// Whether a read in that time may miss it.
    pub(super) fn covers(&self, from: Moment, to: Moment) -> bool {
        from <= self.until && self.from <= to
    }
}

/// Of every state of every row.
#[derive(Debug, Default)]
pub(super) struct Exposures(HashMap<Key, BTreeMap<usize, Exposure>>);

impl Exposures {
    pub(super) fn of(
        evidence: &Evidence,
        operations: &Operations<'_>,
        timelines: &HashMap<Key, Timeline<'_>>,
        findings: &mut Findings,
    ) -> Self {
        let mut exposures = Self::default();
        for (key, timeline) in timelines {
            for (at, state) in timeline.states.iter().enumerate() {
                let of_writers = state.writers.iter().filter_map(|(writer, _)| {
                    let operation = &operations.all()[*writer];
                    exposure(operation, state, *key, &evidence.losses)
                });
                // If several operations may have done it: the one that is excused for longest.
                if let Some(exposure) = of_writers.max_by_key(|exposure| exposure.until) {
                    *findings.exposed.entry(exposure.cause).or_default() += 1;
                    exposures.0.entry(*key).or_default().insert(at, exposure);
                }
            }
        }
        exposures
    }

    pub(super) fn get(&self, key: Key, state: usize) -> Option<&Exposure> {
        self.0.get(&key)?.get(&state)
    }
}

fn exposure(
    operation: &Operation<'_>,
    state: &State<'_>,
    key: Key,
    losses: &[Loss],
) -> Option<Exposure> {
    // By then every read of the database saw it.
    let visible = match operation.acknowledged() {
        Some(at) => at.min(state.visible),
        None => state.visible,
    };
    let forgotten = |loss: &Loss| {
        loss.key.is_none_or(|lost| lost == key)
            && operation.armed <= loss.to
            && loss.from <= visible
    };
    let troubled = operation.end.as_ref().is_none_or(|end| end.troubled);
    let cause = if operation.invalidated == Invalidated::Keyless {
        Cause::Keyless
    } else if operation.invalidated != Invalidated::Before {
        Cause::Bypassing
    } else if operation.policy == Policy::Proceed && troubled {
        Cause::Unblocked
    } else if visible > operation.armed.plus(BLOCK) {
        Cause::Late
    } else if losses.iter().any(forgotten) {
        Cause::Forgotten
    } else {
        return None;
    };
    Some(Exposure {
        from: operation.begin,
        until: invalidated(operation).min(visible.plus(BOUND)),
        cause,
    })
}

/// When the cache has certainly received the invalidation of a committed write.
fn invalidated(operation: &Operation<'_>) -> Moment {
    let Some(end) = operation.end.filter(|_| operation.acknowledged().is_some()) else {
        // No invalidation is queued for a write whose outcome is unknown.
        return Moment::NEVER;
    };
    match (operation.invalidated, end.troubled) {
        (_, false) => end.at,
        // No invalidation is queued for a refresh that failed.
        (Invalidated::Perhaps, true) => Moment::NEVER,
        (_, true) => end.settled.unwrap_or(Moment::NEVER),
    }
}
