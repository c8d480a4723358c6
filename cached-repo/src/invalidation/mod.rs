//! What writes tell the cache: the journal of their changes, and the queue of what the cache did
//! not acknowledge.
//!
//! Does not run statements or the protocol's operations, but for the replay of the queue.

mod journal;
mod queue;

pub(crate) use self::{
    journal::{Change, Journal, Put, UnreadRow},
    queue::{EnqueueOnDrop, Invalidation, InvalidationQueue},
};
