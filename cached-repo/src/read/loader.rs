//! The batch loader: rows of one entity that are missed at the same time are loaded by one
//! statement.
//!
//! Rows that are asked for while a statement runs wait for the next one. Beside running statements
//! another one starts only if it asks for half as many rows again as they do, or if a caller has
//! waited for [`PATIENCE`]. So a few readers do not wait for each other, and many share statements.
//! One statement at a time loads fewer rows per second, and one that stalls holds up everyone. Two
//! that start with any number of rows spend a statement on every few of them.
//!
//! Invariants:
//! - A row is read by a statement that began after it was asked for.
//! - A caller that has waited for [`PATIENCE`] waits for no running statement, unless
//!   [`MAX_STATEMENTS`] run.
//! - A row that cannot be loaded, or panics when it is decoded, fails nobody else: the rows of its
//!   batch are then loaded one by one. A database that cannot be reached fails all of them.
//! - Nobody waits for its statement to start longer than `load_queue_timeout`, or [`PATIENCE`] if
//!   that is longer: without waiting at all no statement would start.
//!
//! Does not know the cache.

use std::{collections::HashMap, mem, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use parking_lot::Mutex;
use sea_orm::sea_query::ValueTuple;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::select::{Selects, has_others};
use crate::{
    cached::Row, context::EntityContext, database::is_connection_failure, error::ReadError,
    protocol::Key, session::Scope,
};

/// Statements that load rows of one entity at the same time.
const STATEMENTS: usize = 2;
/// The same if some of them stall.
const MAX_STATEMENTS: usize = 4;
/// Rows that one of them asks for.
const MAX_ROWS: usize = 256;
/// Longer than a statement takes, unless the database is far away or stalls.
const PATIENCE: Duration = Duration::from_millis(5);

/// What a load gives: the row, or that there is none.
pub(super) type Loaded = Result<Option<Row>, ReadError>;

/// The batch loader of one entity.
pub(super) struct Loader {
    selects: Arc<Selects>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// In the order of their tickets.
    wanted: Vec<Wanted>,
    batching: Batching,
    tickets: u64,
}

struct Wanted {
    /// Tells it from others that ask for the same row.
    ticket: u64,
    id: ValueTuple,
    key: Key,
    reply: oneshot::Sender<Loaded>,
}

/// Decides when a statement starts, by how many rows are wanted. Knows no rows.
#[derive(Debug, Default)]
struct Batching {
    /// Workers that were started and have not ended.
    under_way: usize,
    /// Of these, those whose statement has not started yet, and takes every row that comes.
    starting: usize,
    /// Rows that the running statements ask for.
    rows: usize,
}

impl Batching {
    /// Whether so many rows are worth a statement beside those under way: half as many again as
    /// theirs, so that batches grow as long as more is asked for than they bring.
    fn are_enough(&self, wanted: usize) -> bool {
        wanted >= self.rows + self.rows / 2
    }

    /// Whether one more statement is to be started; then it is.
    fn starts(&mut self, wanted: usize, impatient: bool) -> bool {
        let starts = match impatient {
            // One that is about to start may be on a runtime that is busy.
            true => self.under_way < MAX_STATEMENTS,
            false => self.are_enough(wanted) && self.starting == 0 && self.under_way < STATEMENTS,
        };
        self.under_way += usize::from(starts);
        self.starting += usize::from(starts);
        starts
    }

    /// With how many rows a worker's next statement starts, for the first time or after one that
    /// asked for `back_with` rows; with none the worker has ended.
    fn leaves(&mut self, back_with: Option<usize>, wanted: usize) -> usize {
        self.comes_back(back_with);
        let goes = back_with.is_none() || self.are_enough(wanted);
        let rows = if goes { wanted.min(MAX_ROWS) } else { 0 };
        self.rows += rows;
        self.under_way -= usize::from(rows == 0);
        rows
    }

    fn comes_back(&mut self, back_with: Option<usize>) {
        match back_with {
            Some(rows) => self.rows -= rows,
            None => self.starting -= 1,
        }
    }
}

impl Queue {
    /// Whether one more statement is to be started.
    fn starts(&mut self, impatient: bool) -> bool {
        self.batching.starts(self.wanted.len(), impatient)
    }

    fn place_of(&self, ticket: u64) -> Option<usize> {
        let place = self
            .wanted
            .binary_search_by_key(&ticket, |wanted| wanted.ticket);
        place.ok()
    }
}

impl Loader {
    pub(super) fn new(selects: &Arc<Selects>) -> Self {
        Self {
            selects: Arc::clone(selects),
            queue: Mutex::default(),
        }
    }

    /// Loads a row, with others that are asked for at the same time.
    pub(super) async fn load(self: &Arc<Self>, id: ValueTuple, key: Key) -> Loaded {
        let context = &self.selects.context;
        let (reply, mut row) = oneshot::channel();
        let (ticket, starts) = {
            let mut queue = self.queue.lock();
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
        let overdue = Instant::now() + context.shared.config.load_queue_timeout.max(PATIENCE);
        let row = loop {
            let patient_until = overdue.min(Instant::now() + PATIENCE);
            match timeout_at(patient_until, &mut row).await {
                Ok(row) => break row,
                Err(_) if Instant::now() >= overdue && self.leave(ticket) => {
                    return Err(context.overloaded());
                }
                Err(_) => match self.hurry(ticket) {
                    Some(true) => self.start_statement(),
                    Some(false) => {}
                    None => break row.await,
                },
            }
        };
        // Nobody replies if the runtime ends.
        row.unwrap_or_else(|_| Err(context.load_aborted()))
    }

    /// For a caller that has waited too long: whether a statement is to be started; `None` if its
    /// own has started.
    fn hurry(&self, ticket: u64) -> Option<bool> {
        let mut queue = self.queue.lock();
        queue.place_of(ticket)?;
        Some(queue.starts(true))
    }

    /// Takes a caller out of the queue; says whether it was still there.
    fn leave(&self, ticket: u64) -> bool {
        let mut queue = self.queue.lock();
        let place = queue.place_of(ticket);
        place.map(|place| queue.wanted.remove(place)).is_some()
    }

    fn start_statement(self: &Arc<Self>) {
        let worker = Worker {
            loader: Arc::clone(self),
            rows: None,
            ended: false,
        };
        let tasks = &self.selects.context.shared.tasks;
        tasks.spawn(worker.run());
    }

    async fn load_batch(&self, batch: Vec<Wanted>) {
        let context = &self.selects.context;
        let ids: Vec<_> = batch.iter().map(|wanted| wanted.id.clone()).collect();
        let loaded = match &ids[..] {
            // One row is one plain statement; a failure is its own.
            [_] => None,
            _ => AssertUnwindSafe(self.selects.by_ids(&Scope::Pool, ids))
                .catch_unwind()
                .await
                .ok(),
        };
        let rows: Option<HashMap<Key, Row>> = match loaded {
            // Once more, row by row, would not help.
            Some(Err(error)) if concerns_all(&error) => {
                for Wanted { reply, .. } in batch {
                    // A caller that has left does not need it.
                    let _ = reply.send(Err(error.clone()));
                }
                return;
            }
            Some(Ok(rows)) => {
                let by_key = |row: Row| (context.entity.key_of(&*row.model), row);
                Some(rows.into_iter().map(by_key).collect())
            }
            Some(Err(_)) | None => None,
        };
        let is_complete = rows
            .as_ref()
            .is_some_and(|rows| !has_others(rows, batch.iter().map(|wanted| &wanted.key)));
        let replies = batch
            .into_iter()
            .map(async |Wanted { id, key, reply, .. }| {
                let row = match rows.as_ref().map(|rows| rows.get(&key)) {
                    Some(Some(row)) => Ok(Some(row.clone())),
                    Some(None) if is_complete || context.entity.row_key_is_exact(&id) => Ok(None),
                    // Not loaded yet, or the database may call an id equal that is spelt otherwise.
                    _ => self.load_alone(context, &id).await,
                };
                // A caller that has left does not need it.
                let _ = reply.send(row);
            });
        join_all(replies).await;
    }

    async fn load_alone(&self, context: &EntityContext, id: &ValueTuple) -> Loaded {
        AssertUnwindSafe(self.selects.by_id(&Scope::Pool, id))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(context.load_aborted()))
    }
}

/// Whether an error says nothing about any row: there was no turn, or no connection.
fn concerns_all(error: &ReadError) -> bool {
    match error {
        ReadError::Overloaded { .. } => true,
        ReadError::Database { source, .. } => is_connection_failure(source),
        _ => false,
    }
}

/// Runs statements one after the other; makes room for another worker however it ends.
struct Worker {
    loader: Arc<Loader>,
    /// Rows that its statement asks for; `None` until it starts for the first time.
    rows: Option<usize>,
    ended: bool,
}

impl Worker {
    /// Loads batch after batch, until too few rows are asked for.
    async fn run(mut self) {
        loop {
            // Callers that are ready to ask at this moment join the batch.
            tokio::task::yield_now().await;
            let Some(batch) = self.next_batch() else {
                return;
            };
            self.loader.load_batch(batch).await;
        }
    }

    /// What has gathered; `None` ends the worker.
    fn next_batch(&mut self) -> Option<Vec<Wanted>> {
        let mut queue = self.loader.queue.lock();
        queue.wanted.retain(|wanted| !wanted.reply.is_closed());
        // Under the same lock as the look: a row that is asked for from now on is for those still
        // running, or starts a statement.
        let wanted = queue.wanted.len();
        let rows = queue.batching.leaves(self.rows, wanted);
        if rows == 0 {
            self.ended = true;
            return None;
        }
        self.rows = Some(rows);
        let rest = queue.wanted.split_off(rows);
        Some(mem::replace(&mut queue.wanted, rest))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let abandoned = {
            let mut queue = self.loader.queue.lock();
            queue.batching.comes_back(self.rows);
            queue.batching.under_way -= 1;
            // The runtime ends: nobody else would load them.
            (queue.batching.under_way == 0).then(|| mem::take(&mut queue.wanted))
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
        let mut batching = Batching::default();
        for under_way in 0..MAX_STATEMENTS {
            assert_eq!(batching.under_way, under_way);
            let at_once = under_way < STATEMENTS;
            assert_eq!(batching.starts(1, false), at_once);
            assert!(at_once || batching.starts(1, true));
            assert_eq!(batching.leaves(None, 1), 1, "however little it asks for");
        }
        assert!(!batching.starts(100, false));
        assert!(!batching.starts(1, true));
        // One is back, and too little has gathered for it to leave again by itself.
        assert_eq!(batching.leaves(Some(1), 1), 0);
        assert!(batching.starts(1, true), "there is room for who has waited");
    }

    /// Goal: while many rows are being loaded, others gather, until they are more or nothing is
    /// under way that they could wait for.
    #[test]
    fn beside_a_large_statement_no_small_one_leaves() {
        let mut batching = Batching::default();
        assert!(batching.starts(1, false));
        // More come before it leaves, and start none of their own.
        assert!(!batching.starts(30, false));
        assert_eq!(batching.leaves(None, 30), 30);
        assert!(!batching.starts(44, false));
        assert!(batching.starts(45, false));
        assert_eq!(batching.leaves(None, 50), 50);
        // The first one is back: what has gathered meanwhile waits for the second one.
        assert_eq!(batching.leaves(Some(30), 5), 0);
        assert_eq!(batching.leaves(Some(50), 5), 5);
        assert_eq!(batching.leaves(Some(5), 0), 0);
        assert_eq!((batching.under_way, batching.rows), (0, 0));
    }

    #[test]
    fn no_statement_asks_for_more_than_it_may() {
        let mut batching = Batching::default();
        assert!(batching.starts(1, false));
        assert_eq!(batching.leaves(None, MAX_ROWS + 1), MAX_ROWS);
        assert_eq!(batching.leaves(Some(MAX_ROWS), 1), 1);
    }

    /// Goal: a statement that is never polled, because its runtime is busy, holds up nobody.
    #[test]
    fn who_has_waited_does_not_wait_for_one_that_does_not_leave() {
        let mut batching = Batching::default();
        assert!(batching.starts(1, false));
        assert!(!batching.starts(2, false));
        assert!(batching.starts(2, true));
        assert_eq!(batching.leaves(None, 2), 2);
        assert_eq!(
            batching.leaves(None, 0),
            0,
            "nothing is left for the first one"
        );
        assert_eq!((batching.under_way, batching.starting), (1, 0));
    }
}
