//! What writes tell the cache: the journal of their changes, the epochs of entities, and the queue of
//! what the cache did not acknowledge.
//!
//! Does not run statements or the protocol's operations, but for the replay of the queue.

mod epochs;
mod journal;
mod queue;

pub(crate) use self::{
    epochs::{Epoch, Epochs, Usable},
    journal::{Change, Journal, Put, UnreadRow},
    queue::{EnqueueOnDrop, Invalidation, InvalidationQueue},
};
