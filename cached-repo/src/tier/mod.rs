//! The shared tier: where entries live.
//!
//! A tier runs the operations of [`crate::protocol::state`], each atomically on one key, by one
//! clock of its own. Redis does it in scripts, the in-process tier under a lock; nothing above
//! can tell which one it talks to.
//!
//! Does not know rows, entities or databases, and never retries: what a failure means is up to
//! the read and the write pipeline.

pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg_attr(not(feature = "tamper"), path = "no_tamper.rs")]
pub(crate) mod tamper;

use std::{fmt, sync::Arc};

use futures_util::{
    StreamExt,
    future::{BoxFuture, try_join_all},
    stream,
};

use crate::{
    clock::Moment,
    protocol::{
        Entry, Key, Timestamp,
        epoch::{EpochReply, EpochRequest},
        state::{Block, Done, Fill, Filled, Lease, Leased, Published},
    },
};

/// What reading a key gave.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// An entry.
    Entry(Entry),
    /// The key holds nothing.
    Empty,
    /// The key holds something that is not an entry.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "nobody else writes to this process's memory")
    )]
    Foreign,
}

/// Why a tier could not say.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// No answer in time; the operation may still happen.
    #[error("no answer from the cache within {0:?}")]
    Timeout(std::time::Duration),
    /// There is no connection; nothing was sent.
    #[error("no connection to the cache")]
    Unavailable,
    /// Too many reads wait for the cache already; nothing was sent.
    #[error("too many reads wait for the cache")]
    Overloaded,
    /// The namespace belongs to another database; nothing was read or written.
    #[error("the namespace belongs to the database `{0}`: give each database one of its own")]
    OtherDatabase(String),
    /// The cache is at its memory limit, and evicts nothing; nothing was stored.
    #[error("the cache is full")]
    Full,
    /// The connection broke or the server refused; the operation may have happened.
    #[error("the cache failed: {0}")]
    Failed(String),
}

/// The future of a tier's reply.
pub(crate) type Reply<'a, T> = BoxFuture<'a, Result<T, TierError>>;

/// Where entries live.
pub(crate) trait Tier: fmt::Debug + Send + Sync {
    /// The tier's clock, or the best estimate of it.
    fn now(&self) -> Timestamp;

    /// Reads what a key holds.
    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Fetched>;

    /// Reads what several keys hold, in their order, as one operation: all of them or none.
    ///
    /// A key whose value the server cannot hand over as bytes may be [`Fetched::Empty`] here
    /// where [`get`](Self::get) says [`Fetched::Foreign`]; either is a miss.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Reply<'a, Vec<Fetched>> {
        Box::pin(try_join_all(keys.iter().map(|key| self.get(key))))
    }

    /// [`crate::protocol::state::lease`].
    fn lease<'a>(&'a self, key: &'a Key, request: Lease) -> Reply<'a, Leased>;

    /// [`crate::protocol::state::fill`].
    fn fill<'a>(&'a self, key: &'a Key, request: Fill) -> Reply<'a, Filled>;

    /// [`crate::protocol::state::block`].
    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, ()>;

    /// [`crate::protocol::state::done`].
    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published>;

    /// [`crate::protocol::epoch::change`]. If an epoch was raised, tells every listener that anything
    /// may have changed.
    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply>;

    /// Whether other processes use it too.
    fn is_shared(&self) -> bool;

    /// Tells every listener that the row with this key may have changed. [`block`](Self::block) and
    /// [`done`](Self::done) do so themselves.
    fn announce<'a>(&'a self, key: &'a Key) -> Reply<'a, ()>;

    /// From now on tells the listener of changes by other processes, and whether it can.
    fn listen(&self, listener: Arc<dyn InvalidationListener>);

    /// Why it cannot be used now; `None` if it can.
    fn problem(&self) -> Option<TierError> {
        None
    }
}

/// Operations of one caller that run at a time. Each has a time-out of its own, which starts when
/// it is sent: a server that had to do thousands of others first would miss it.
const AT_A_TIME: usize = 256;

/// Runs operations of one caller, so many at a time; gives their results in their order.
pub(crate) fn run_bounded<F: Future>(
    operations: impl IntoIterator<Item = F>,
) -> impl Future<Output = Vec<F::Output>> {
    // None of them starts before it is its turn.
    let mut operations: Vec<F> = operations.into_iter().collect();
    async move {
        // Most callers have one, which needs no queue.
        if operations.len() == 1 {
            return vec![operations.remove(0).await];
        }
        stream::iter(operations).buffered(AT_A_TIME).collect().await
    }
}

/// What may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidated<'a> {
    /// The row with this key.
    Key(&'a str),
    /// Any row.
    All,
}

/// Something that keeps what a tier holds, and is told of changes.
pub(crate) trait InvalidationListener: Send + Sync {
    /// A row, or any row, may have changed.
    fn on_invalidate(&self, invalidated: Invalidated<'_>);

    /// Every invalidation until then is delivered. Some may have been missed before if this is the
    /// first heartbeat, or the first after [`on_gap`](Self::on_gap).
    fn heartbeat(&self, until: Moment);

    /// Invalidations may have been missed, and may be from now on.
    #[cfg_attr(
        not(any(test, feature = "redis")),
        allow(dead_code, reason = "in this process no invalidation is missed")
    )]
    fn on_gap(&self);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Goal: the results come in order, and no operation begins before there is room for it.
    #[tokio::test]
    async fn operations_of_one_caller_take_turns() {
        let (under_way, most) = (Cell::new(0), Cell::new(0));
        let operations = (0..3 * AT_A_TIME).map(async |number| {
            under_way.set(under_way.get() + 1);
            most.set(most.get().max(under_way.get()));
            tokio::task::yield_now().await;
            under_way.set(under_way.get() - 1);
            number
        });
        let results = run_bounded(operations).await;
        assert_eq!(results, (0..3 * AT_A_TIME).collect::<Vec<_>>());
        assert_eq!(most.get(), AT_A_TIME);
        assert_eq!(run_bounded([async { 7 }]).await, [7]);
    }
}
