//! Breadth-first search over every reachable state, so that the first violation found has the
//! shortest interleaving.
//!
//! Visited states are remembered by a 128-bit hash: with 20 million of them, the chance that two
//! share one is below 10^-24.
//!
//! Does not know what a state means.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, RandomState},
};

/// A system whose states are explored.
pub(crate) trait System: Clone + Hash {
    /// One atomic step.
    type Step: Copy;

    /// The steps that may come next.
    fn steps(&self) -> Vec<Self::Step>;

    /// Takes a step.
    fn take(&mut self, step: Self::Step);

    /// Why this state violates an invariant, if it does.
    fn violation(&self) -> Option<String>;
}

/// The result of an exploration.
pub(crate) enum Verdict<Step> {
    /// No reachable state violates an invariant.
    Holds { states: usize },
    /// The shortest way to a state that violates one.
    Violated {
        states: usize,
        path: Vec<Step>,
        why: String,
    },
    /// There are more states than the limit.
    TooLarge { states: usize },
}

/// How a state was reached: from which, by which step.
struct Reached<Step> {
    from: usize,
    by: Option<Step>,
}

pub(crate) fn explore<S: System>(start: S, most_states: usize) -> Verdict<S::Step> {
    let (high, low) = (RandomState::new(), RandomState::new());
    let hash = |state: &S| (high.hash_one(state), low.hash_one(state));
    let mut seen = HashSet::from([hash(&start)]);
    let mut history = vec![Reached { from: 0, by: None }];
    let mut layer = vec![(0, start)];
    while !layer.is_empty() {
        let mut next_layer = Vec::new();
        for (at, state) in layer {
            if let Some(why) = state.violation() {
                return Verdict::Violated {
                    states: history.len(),
                    path: path(&history, at),
                    why,
                };
            }
            for step in state.steps() {
                let mut next = state.clone();
                next.take(step);
                if seen.insert(hash(&next)) {
                    next_layer.push((history.len(), next));
                    history.push(Reached {
                        from: at,
                        by: Some(step),
                    });
                }
            }
            if history.len() > most_states {
                return Verdict::TooLarge {
                    states: history.len(),
                };
            }
        }
        layer = next_layer;
    }
    Verdict::Holds {
        states: history.len(),
    }
}

fn path<Step: Copy>(history: &[Reached<Step>], mut at: usize) -> Vec<Step> {
    let mut path = Vec::new();
    while let Reached {
        from,
        by: Some(step),
    } = &history[at]
    {
        path.push(*step);
        at = *from;
    }
    path.reverse();
    path
}
