//! The batch loader: rows of one entity that are missed at the same time are loaded by one
//! statement.
//!
//! Batching is natural, without a timer: a statement leaves at once while fewer than
//! [`MOST_STATEMENTS`] are under way, and what is asked for meanwhile gathers for the next one.
//!
//! Invariants:
//! - A row is read by a statement that began after it was asked for.
//! - A row that cannot be loaded, or panics when it is decoded, fails nobody else: the rows of its
//!   batch are then loaded one by one. A database that cannot be reached fails all of them.
//! - Nobody waits for its batch to leave longer than `load_wait`.
//!
//! Does not know the cache.

use std::{mem, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::join_all};
use parking_lot::Mutex;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokio::sync::oneshot;

use super::Flown;
use crate::{CachedEntity, Id, ReadError, db::EntityState, protocol::Key, session::Scope};

/// Statements that load rows of one entity at the same time.
const MOST_STATEMENTS: usize = 2;
/// Rows that one of them asks for.
const MOST_ROWS: usize = 256;

/// The loads of one entity.
pub(crate) struct Loader<M: CachedEntity> {
    queue: Mutex<Queue<M>>,
}

struct Queue<M: CachedEntity> {
    wanted: Vec<Wanted<M>>,
    statements: usize,
    tickets: u64,
}

struct Wanted<M: CachedEntity> {
    /// Tells it from others that ask for the same row.
    ticket: u64,
    id: Id<M>,
    key: Key,
    reply: oneshot::Sender<Flown<M>>,
}

impl<M: CachedEntity> Loader<M> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                wanted: Vec::new(),
                statements: 0,
                tickets: 0,
            }),
        }
    }
}

impl<M: CachedEntity> Loader<M> {
    /// Takes one who waits out of the queue; says whether it was still there.
    fn leave(&self, ticket: u64) -> bool {
        let mut queue = self.queue.lock();
        let place = queue
            .wanted
            .iter()
            .position(|wanted| wanted.ticket == ticket);
        place.map(|place| queue.wanted.remove(place)).is_some()
    }
}

impl<M: CachedEntity> EntityState<M> {
    /// Loads a row, with others that are asked for at the same time.
    pub(super) async fn load(self: &Arc<Self>, id: Id<M>, key: Key) -> Flown<M> {
        let (reply, mut row) = oneshot::channel();
        let (ticket, may_start) = {
            let mut queue = self.loader.queue.lock();
            queue.tickets += 1;
            let ticket = queue.tickets;
            queue.wanted.push(Wanted {
                ticket,
                id,
                key,
                reply,
            });
            let may_start = queue.statements < MOST_STATEMENTS;
            queue.statements += usize::from(may_start);
            (ticket, may_start)
        };
        if may_start {
            let statement = Statement {
                state: Arc::clone(self),
                counted: true,
            };
            self.core.tasks.spawn(work(statement));
        }
        let wait = self.core.config.load_wait;
        let row = match tokio::time::timeout(wait, &mut row).await {
            Ok(row) => row,
            Err(_) if self.loader.leave(ticket) => return Err(self.overloaded()),
            // Its batch has left.
            Err(_) => row.await,
        };
        // Nobody answers if the runtime ends.
        row.unwrap_or_else(|_| Err(self.aborted()))
    }

    async fn load_batch(self: &Arc<Self>, batch: Vec<Wanted<M>>) {
        let ids: Vec<_> = batch.iter().map(|wanted| wanted.id.clone()).collect();
        let loaded = match &ids[..] {
            // One row is one plain statement; a failure is its own.
            [_] => None,
            _ => AssertUnwindSafe(self.select_by_ids(&Scope::Pool, ids))
                .catch_unwind()
                .await
                .ok(),
        };
        let rows = match loaded {
            // Once more, row by row, would not help.
            Some(Err(error)) if concerns_all(&error) => {
                for Wanted { reply, .. } in batch {
                    // Who has left does not need it.
                    let _ = reply.send(Err(error.clone()));
                }
                return;
            }
            Some(Ok(rows)) => Some(rows),
            Some(Err(_)) | None => None,
        };
        let replies = batch
            .into_iter()
            .map(async |Wanted { id, key, reply, .. }| {
                let row = match rows.as_ref().map(|rows| rows.get(&key)) {
                    Some(Some(row)) => Ok(Some(row.clone())),
                    Some(None) if self.spelling_is_exact(&id) => Ok(None),
                    // Not loaded yet, or the database may call equal what is spelt otherwise.
                    _ => AssertUnwindSafe(self.select_by_id(&Scope::Pool, id))
                        .catch_unwind()
                        .await
                        .unwrap_or_else(|_| Err(self.aborted())),
                };
                // Who has left does not need it.
                let _ = reply.send(row);
            });
        join_all(replies).await;
    }

    pub(super) fn aborted(&self) -> ReadError {
        ReadError::Aborted {
            entity: self.name.clone(),
        }
    }
}

/// Whether an error says nothing about any row: there was no turn, or no connection.
fn concerns_all(error: &ReadError) -> bool {
    match error {
        ReadError::Overloaded { .. } => true,
        ReadError::Database { source, .. } => match source {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
            DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => {
                matches!(
                    **error,
                    sqlx::Error::Io(_)
                        | sqlx::Error::Tls(_)
                        | sqlx::Error::PoolTimedOut
                        | sqlx::Error::PoolClosed
                        | sqlx::Error::WorkerCrashed
                )
            }
            _ => false,
        },
        _ => false,
    }
}

/// Loads batch after batch, until nothing is asked for.
async fn work<M: CachedEntity>(mut statement: Statement<M>) {
    loop {
        // Who is ready to ask at this moment goes along.
        tokio::task::yield_now().await;
        let Some(batch) = statement.next_batch() else {
            return;
        };
        statement.state.load_batch(batch).await;
    }
}

/// One of the statements that may be under way; makes room for another however it ends.
struct Statement<M: CachedEntity> {
    state: Arc<EntityState<M>>,
    counted: bool,
}

impl<M: CachedEntity> Statement<M> {
    /// What has gathered; `None` ends the statement.
    fn next_batch(&mut self) -> Option<Vec<Wanted<M>>> {
        let mut queue = self.state.loader.queue.lock();
        queue.wanted.retain(|wanted| !wanted.reply.is_closed());
        if queue.wanted.is_empty() {
            // In the same breath as the look: who asks from now on starts a statement.
            queue.statements -= 1;
            self.counted = false;
            return None;
        }
        let most = queue.wanted.len().min(MOST_ROWS);
        let rest = queue.wanted.split_off(most);
        Some(mem::replace(&mut queue.wanted, rest))
    }
}

impl<M: CachedEntity> Drop for Statement<M> {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let abandoned = {
            let mut queue = self.state.loader.queue.lock();
            queue.statements -= 1;
            // The runtime ends: nobody else would load them.
            (queue.statements == 0).then(|| mem::take(&mut queue.wanted))
        };
        drop(abandoned);
    }
}
