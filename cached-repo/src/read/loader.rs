//! The batch loader: rows of one entity that are missed at the same time are loaded by one
//! statement.
//!
//! Batching is natural: what is asked for while a statement is under way gathers for the next one.
//! Beside others a statement leaves only if it asks for half as many rows again as they do, or
//! if somebody has waited for [`PATIENCE`]: few readers do not wait for each other, and many do not
//! spend a statement on every few of them.
//!
//! Invariants:
//! - A row is read by a statement that began after it was asked for.
//! - Who has waited for [`PATIENCE`] waits for no statement that is under way, unless
//!   [`MOST_STATEMENTS`] are.
//! - A row that cannot be loaded, or panics when it is decoded, fails nobody else: the rows of its
//!   batch are then loaded one by one. A database that cannot be reached fails all of them.
//! - Nobody waits for its batch to leave longer than `load_wait`, or [`PATIENCE`] if that is longer:
//!   without waiting at all no statement would leave.
//!
//! Does not know the cache.

use std::{mem, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use parking_lot::Mutex;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Flown;
use crate::{CachedEntity, Id, ReadError, db::EntityState, protocol::Key, session::Scope};

/// Statements that load rows of one entity at the same time.
const STATEMENTS: usize = 2;
/// The same if some of them stall.
const MOST_STATEMENTS: usize = 4;
/// Rows that one of them asks for.
const MOST_ROWS: usize = 256;
/// Longer than a statement takes, unless the database is far away or stalls.
const PATIENCE: Duration = Duration::from_millis(5);

/// The loads of one entity.
pub(crate) struct Loader<M: CachedEntity> {
    queue: Mutex<Queue<M>>,
}

struct Queue<M: CachedEntity> {
    /// In the order of their tickets.
    wanted: Vec<Wanted<M>>,
    traffic: Traffic,
    tickets: u64,
}

/// Which statements leave, by how many rows are wanted. Knows no rows.
#[derive(Debug, Default)]
struct Traffic {
    /// Statements that were started and have not ended.
    under_way: usize,
    /// Of these, those that have not left yet, and take along whoever comes.
    boarding: usize,
    /// Rows that those that have left ask for.
    rows: usize,
}

impl Traffic {
    /// Whether so many rows are worth a statement beside those under way: half as many again as
    /// theirs, so that batches grow as long as more is asked for than they bring.
    fn are_enough(&self, wanted: usize) -> bool {
        wanted >= self.rows + self.rows / 2
    }

    /// Whether one more statement is to be started; then it is.
    fn starts(&mut self, wanted: usize, impatient: bool) -> bool {
        let starts = match impatient {
            // One that is about to leave may belong to a runtime that is busy.
            true => self.under_way < MOST_STATEMENTS,
            false => self.are_enough(wanted) && self.boarding == 0 && self.under_way < STATEMENTS,
        };
        self.under_way += usize::from(starts);
        self.boarding += usize::from(starts);
        starts
    }

    /// With how many rows one leaves, for the first time or, with how many it is back, again; with
    /// none it has ended.
    fn leaves(&mut self, back_with: Option<usize>, wanted: usize) -> usize {
        self.comes_back(back_with);
        let goes = back_with.is_none() || self.are_enough(wanted);
        let rows = if goes { wanted.min(MOST_ROWS) } else { 0 };
        self.rows += rows;
        self.under_way -= usize::from(rows == 0);
        rows
    }

    fn comes_back(&mut self, back_with: Option<usize>) {
        match back_with {
            Some(rows) => self.rows -= rows,
            None => self.boarding -= 1,
        }
    }
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
                traffic: Traffic::default(),
                tickets: 0,
            }),
        }
    }
}

impl<M: CachedEntity> Queue<M> {
    /// Whether one more statement is to be started.
    fn starts(&mut self, impatient: bool) -> bool {
        self.traffic.starts(self.wanted.len(), impatient)
    }

    fn place_of(&self, ticket: u64) -> Option<usize> {
        let place = self
            .wanted
            .binary_search_by_key(&ticket, |wanted| wanted.ticket);
        place.ok()
    }
}

impl<M: CachedEntity> Loader<M> {
    /// For one who has waited too long: whether a statement is to be started; `None` if its batch
    /// has left.
    fn hurry(&self, ticket: u64) -> Option<bool> {
        let mut queue = self.queue.lock();
        queue.place_of(ticket)?;
        Some(queue.starts(true))
    }

    /// Takes one who waits out of the queue; says whether it was still there.
    fn leave(&self, ticket: u64) -> bool {
        let mut queue = self.queue.lock();
        let place = queue.place_of(ticket);
        place.map(|place| queue.wanted.remove(place)).is_some()
    }
}

impl<M: CachedEntity> EntityState<M> {
    /// Loads a row, with others that are asked for at the same time.
    pub(super) async fn load(self: &Arc<Self>, id: Id<M>, key: Key) -> Flown<M> {
        let (reply, mut row) = oneshot::channel();
        let (ticket, starts) = {
            let mut queue = self.loader.queue.lock();
            queue.tickets += 1;
            let ticket = queue.tickets;
            queue.wanted.push(Wanted {
                ticket,
                id,
                key,
                reply,
            });
            (ticket, queue.starts(false))
        };
        if starts {
            self.start_statement();
        }
        let overdue = Instant::now() + self.core.config.load_wait.max(PATIENCE);
        let row = loop {
            let patient_until = overdue.min(Instant::now() + PATIENCE);
            match timeout_at(patient_until, &mut row).await {
                Ok(row) => break row,
                Err(_) if Instant::now() >= overdue && self.loader.leave(ticket) => {
                    return Err(self.overloaded());
                }
                Err(_) => match self.loader.hurry(ticket) {
                    Some(true) => self.start_statement(),
                    Some(false) => {}
                    None => break row.await,
                },
            }
        };
        // Nobody answers if the runtime ends.
        row.unwrap_or_else(|_| Err(self.aborted()))
    }

    fn start_statement(self: &Arc<Self>) {
        let statement = Statement {
            state: Arc::clone(self),
            rows: None,
            ended: false,
        };
        self.core.tasks.spawn(work(statement));
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

/// Loads batch after batch, until too little is asked for.
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
    /// Rows that it asks for; `None` until it leaves for the first time.
    rows: Option<usize>,
    ended: bool,
}

impl<M: CachedEntity> Statement<M> {
    /// What has gathered; `None` ends the statement.
    fn next_batch(&mut self) -> Option<Vec<Wanted<M>>> {
        let mut queue = self.state.loader.queue.lock();
        queue.wanted.retain(|wanted| !wanted.reply.is_closed());
        // In the same breath as the look: who asks from now on is for those still under way, or starts
        // a statement.
        let wanted = queue.wanted.len();
        let rows = queue.traffic.leaves(self.rows, wanted);
        if rows == 0 {
            self.ended = true;
            return None;
        }
        self.rows = Some(rows);
        let rest = queue.wanted.split_off(rows);
        Some(mem::replace(&mut queue.wanted, rest))
    }
}

impl<M: CachedEntity> Drop for Statement<M> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let abandoned = {
            let mut queue = self.state.loader.queue.lock();
            queue.traffic.comes_back(self.rows);
            queue.traffic.under_way -= 1;
            // The runtime ends: nobody else would load them.
            (queue.traffic.under_way == 0).then(|| mem::take(&mut queue.wanted))
        };
        drop(abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: two readers at a time wait for nobody, others only until they lose patience, and no
    /// more statements leave than may.
    #[test]
    fn few_statements_leave_at_once_and_more_for_the_impatient() {
        let mut traffic = Traffic::default();
        for under_way in 0..MOST_STATEMENTS {
            assert_eq!(traffic.under_way, under_way);
            let at_once = under_way < STATEMENTS;
            assert_eq!(traffic.starts(1, false), at_once);
            assert!(at_once || traffic.starts(1, true));
            assert_eq!(traffic.leaves(None, 1), 1, "however little it asks for");
        }
        assert!(!traffic.starts(100, false));
        assert!(!traffic.starts(1, true));
        // One is back, and too little has gathered for it to leave again by itself.
        assert_eq!(traffic.leaves(Some(1), 1), 0);
        assert!(traffic.starts(1, true), "there is room for who has waited");
    }

    /// Goal: while many rows are being loaded, others gather, until they are more or nothing is
    /// under way that they could wait for.
    #[test]
    fn beside_a_large_statement_no_small_one_leaves() {
        let mut traffic = Traffic::default();
        assert!(traffic.starts(1, false));
        // More come before it leaves, and start none of their own.
        assert!(!traffic.starts(30, false));
        assert_eq!(traffic.leaves(None, 30), 30);
        assert!(!traffic.starts(44, false));
        assert!(traffic.starts(45, false));
        assert_eq!(traffic.leaves(None, 50), 50);
        // The first one is back: what has gathered meanwhile waits for the second one.
        assert_eq!(traffic.leaves(Some(30), 5), 0);
        assert_eq!(traffic.leaves(Some(50), 5), 5);
        assert_eq!(traffic.leaves(Some(5), 0), 0);
        assert_eq!((traffic.under_way, traffic.rows), (0, 0));
    }

    #[test]
    fn no_statement_asks_for_more_than_it_may() {
        let mut traffic = Traffic::default();
        assert!(traffic.starts(1, false));
        assert_eq!(traffic.leaves(None, MOST_ROWS + 1), MOST_ROWS);
        assert_eq!(traffic.leaves(Some(MOST_ROWS), 1), 1);
    }

    /// Goal: a statement that is never polled, because its runtime is busy, holds up nobody.
    #[test]
    fn who_has_waited_does_not_wait_for_one_that_does_not_leave() {
        let mut traffic = Traffic::default();
        assert!(traffic.starts(1, false));
        assert!(!traffic.starts(2, false));
        assert!(traffic.starts(2, true));
        assert_eq!(traffic.leaves(None, 2), 2);
        assert_eq!(
            traffic.leaves(None, 0),
            0,
            "nothing is left for the first one"
        );
        assert_eq!((traffic.under_way, traffic.boarding), (1, 0));
    }
}
