//! Many questions at a time, as the pipeline hands them on.
//!
//! Does no I/O.

use super::{
    lease::LeaseGuard,
    question::{By, Question, Rows},
};
use crate::{
    cached::Row,
    places::Places,
    protocol::{Key, state::Want},
};

/// Different questions of one kind.
pub(super) struct Batch {
    pub(super) keys: Vec<Key>,
    pub(super) by: Vec<By>,
    places: Places,
}

impl Batch {
    pub(super) fn with_capacity(questions: usize) -> Self {
        Self {
            keys: Vec::with_capacity(questions),
            by: Vec::with_capacity(questions),
            places: Places::with_capacity(questions),
        }
    }

    /// Adds a question unless it is there already; says where it is.
    pub(super) fn add(&mut self, key: Key, by: By) -> usize {
        let next = self.keys.len();
        let at = self.places.of(&key, next, |place| self.keys.get(place));
        if at == next {
            self.keys.push(key);
            self.by.push(by);
        }
        at
    }
}

/// Where the row of a batch is found.
pub(super) enum Place {
    Near(Option<Row>),
    /// Among the others, at this position.
    At(usize),
}

/// A question that the cache does not answer.
pub(super) struct Missed {
    pub(super) question: Question,
    pub(super) at: usize,
    /// What to ask the tier for; `None` to load past the cache.
    pub(super) want: Option<Want>,
}

/// How an answer that the cache does not give is come by.
pub(super) enum Load {
    /// The cache gives it by now.
    Known(Rows),
    /// This reader loads it; with a lease, it is stored.
    Mine(Option<LeaseGuard>),
    /// Another reader loads it.
    Others,
}
