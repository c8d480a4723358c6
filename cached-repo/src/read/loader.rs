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
//! - A statement waits for its turn under the load limit before it takes its rows, so that callers wait
//!   in one queue. It has a bound, and one timer for all: nobody waits for its statement to start longer
//!   than `load_queue_timeout`, or [`PATIENCE`] if that is longer. Without waiting at all no statement
//!   would start.
//!
//! Does not know the cache.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use sea_orm::sea_query::ValueTuple;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    load_limit::Permit,
    select::{Selects, Spellings},
};
use crate::{cached::Row, database::is_connection_failure, error::ReadError, protocol::Key};

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
    /// In the order in which they came.
    wanted: VecDeque<Wanted>,
    batching: Batching,
    /// A task watches for callers that have waited for too long.
    is_watched: bool,
}

struct Wanted {
    id: ValueTuple,
    key: Key,
    since: Instant,
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

    /// With how many rows a worker's statement starts; with none the worker has ended.
    fn leaves(&mut self, wanted: usize) -> usize {
        self.starting -= 1;
        let rows = wanted.min(MAX_ROWS);
        self.rows += rows;
        self.under_way -= usize::from(rows == 0);
        rows
    }

    /// A statement that asked for so many rows is back: whether its worker starts another one, or has
    /// ended.
    fn comes_back(&mut self, rows: usize, wanted: usize) -> bool {
        self.rows -= rows;
        let goes_on = wanted > 0 && self.are_enough(wanted);
        self.starting += usize::from(goes_on);
        self.under_way -= usize::from(!goes_on);
        goes_on
    }
}

impl Loader {
    pub(super) fn new(selects: &Arc<Selects>) -> Self {
        Self {
            selects: Arc::clone(selects),
            queue: Mutex::default(),
        }
    }

    /// Whether so many rows wait already that another one is turned away.
    pub(super) fn is_full(&self) -> bool {
        let config = &self.selects.context.shared.config;
        self.queue.lock().wanted.len() >= config.max_queued_loads
    }

    /// Loads a row, with others that are asked for at the same time.
    pub(super) async fn load(self: &Arc<Self>, id: ValueTuple, key: Key) -> Loaded {
        let context = &self.selects.context;
        let (reply, row) = oneshot::channel();
        let (starts, watches) = {
            let mut queue = self.queue.lock();
            if queue.wanted.len() >= context.shared.config.max_queued_loads {
                drop(queue);
                return Err(context.overloaded());
            }
            queue.wanted.push_back(Wanted {
                id,
                key,
                since: Instant::now(),
                reply,
            });
            let wanted = queue.wanted.len();
            let watches = !std::mem::replace(&mut queue.is_watched, true);
            (queue.batching.starts(wanted, false), watches)
        };
        if starts {
            self.start_statement();
        }
        if watches {
            context.shared.tasks.spawn(Arc::clone(self).watch());
        }
        // Nobody replies if the runtime ends.
        row.await.unwrap_or_else(|_| Err(context.load_aborted()))
    }

    /// Watches the queue until it is empty: starts a statement if the oldest caller has waited for
    /// [`PATIENCE`], and fails the callers whose time is up.
    async fn watch(self: Arc<Self>) {
        while let Some(next) = self.look() {
            sleep_until(next).await;
        }
    }

    /// When to look at the queue again; `None` if it is empty.
    fn look(self: &Arc<Self>) -> Option<Instant> {
        let context = &self.selects.context;
        let limit = context.shared.config.load_queue_timeout.max(PATIENCE);
        let now = Instant::now();
        let (overdue, starts, next) = {
            let mut queue = self.queue.lock();
            let count = queue.wanted.partition_point(|it| it.since + limit <= now);
            let overdue: Vec<Wanted> = queue.wanted.drain(..count).collect();
            let oldest = queue.wanted.front().map(|first| first.since);
            queue.is_watched = oldest.is_some();
            let is_impatient = oldest.is_some_and(|oldest| oldest + PATIENCE <= now);
            let wanted = queue.wanted.len();
            let starts = is_impatient && queue.batching.starts(wanted, true);
            let next = oldest.map(|oldest| match is_impatient {
                true => (now + PATIENCE).min(oldest + limit),
                false => oldest + PATIENCE,
            });
            (overdue, starts, next)
        };
        if starts {
            self.start_statement();
        }
        for Wanted { reply, .. } in overdue.into_iter().filter(|it| !it.reply.is_closed()) {
            // A caller that has just left does not need it.
            let _ = reply.send(Err(context.overloaded()));
        }
        next
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

    async fn load_batch(&self, batch: Vec<Wanted>, turn: &Permit<'_>) {
        let context = &self.selects.context;
        let ids: Vec<_> = batch.iter().map(|wanted| wanted.id.clone()).collect();
        let loaded = match &ids[..] {
            // One row is one plain statement; a failure is its own.
            [_] => None,
            _ => AssertUnwindSafe(self.selects.by_ids_in_turn(turn, ids))
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
        let is_exact = |wanted: &Wanted| context.entity.row_key_is_exact(&wanted.id);
        let spellings = match &rows {
            Some(rows) if !batch.iter().all(is_exact) => {
                let asked = batch.iter().map(|wanted| &wanted.key);
                Spellings::of(context.entity.backend, rows.keys(), asked)
            }
            _ => Spellings::default(),
        };
        let mut alone = Vec::new();
        for wanted in batch {
            let row = match rows.as_ref().map(|rows| rows.get(&wanted.key)) {
                Some(Some(row)) => Some(row.clone()),
                Some(None) if !spellings.may_have(&wanted.key) || is_exact(&wanted) => None,
                // Not loaded yet, or the database may call an id equal that is spelt otherwise.
                _ => {
                    alone.push(wanted);
                    continue;
                }
            };
            // A caller that has left does not need it.
            let _ = wanted.reply.send(Ok(row));
        }
        for Wanted { id, reply, .. } in alone {
            let row = AssertUnwindSafe(self.selects.by_id_in_turn(turn, &id))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(context.load_aborted()));
            // As above.
            let _ = reply.send(row);
        }
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
    /// Rows that its statement asks for; `None` until it starts.
    rows: Option<usize>,
    ended: bool,
}

impl Worker {
    /// Loads batch after batch, until too few rows are asked for.
    async fn run(mut self) {
        let loader = Arc::clone(&self.loader);
        // Callers that are ready to ask at this moment join the batch.
        tokio::task::yield_now().await;
        loop {
            let turn = loader.selects.turn().await;
            let Some(batch) = self.next_batch() else {
                return;
            };
            loader.load_batch(batch, &turn).await;
            drop(turn);
            // As above: those that were just answered may ask for more.
            tokio::task::yield_now().await;
            if !self.goes_on() {
                return;
            }
        }
    }

    /// What has gathered; `None` ends the worker.
    fn next_batch(&mut self) -> Option<Vec<Wanted>> {
        let mut queue = self.loader.queue.lock();
        let mut batch = Vec::with_capacity(queue.wanted.len().min(MAX_ROWS));
        while batch.len() < MAX_ROWS
            && let Some(wanted) = queue.wanted.pop_front()
        {
            // A caller that has left wants nothing any more.
            if !wanted.reply.is_closed() {
                batch.push(wanted);
            }
        }
        // Under the same lock as the look: a row that is asked for from now on is for those still
        // running, or starts a statement.
        let rows = queue.batching.leaves(batch.len());
        self.ended = rows == 0;
        self.rows = Some(rows);
        (rows > 0).then_some(batch)
    }

    /// Whether enough has gathered meanwhile for another statement; if not, the worker has ended.
    fn goes_on(&mut self) -> bool {
        let mut queue = self.loader.queue.lock();
        let wanted = queue.wanted.len();
        let rows = self.rows.take().unwrap_or_default();
        let goes_on = queue.batching.comes_back(rows, wanted);
        self.ended = !goes_on;
        goes_on
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let abandoned = {
            let mut queue = self.loader.queue.lock();
            match self.rows {
                Some(rows) => queue.batching.rows -= rows,
                None => queue.batching.starting -= 1,
            }
            queue.batching.under_way -= 1;
            // The runtime ends: nobody else would load them.
            (queue.batching.under_way == 0).then(|| std::mem::take(&mut queue.wanted))
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
            assert_eq!(batching.leaves(1), 1, "however little it asks for");
        }
        assert!(!batching.starts(100, false));
        assert!(!batching.starts(1, true));
        // One is back, and too little has gathered for it to leave again by itself.
        assert!(!batching.comes_back(1, 1));
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
        assert_eq!(batching.leaves(30), 30);
        assert!(!batching.starts(44, false));
        assert!(batching.starts(45, false));
        assert_eq!(batching.leaves(50), 50);
        // The first one is back: what has gathered meanwhile waits for the second one.
        assert!(!batching.comes_back(30, 5));
        assert!(batching.comes_back(50, 5));
        assert_eq!(batching.leaves(5), 5);
        assert!(!batching.comes_back(5, 0));
        assert_eq!((batching.under_way, batching.rows), (0, 0));
    }

    #[test]
    fn no_statement_asks_for_more_than_it_may() {
        let mut batching = Batching::default();
        assert!(batching.starts(1, false));
        assert_eq!(batching.leaves(MAX_ROWS + 1), MAX_ROWS);
        assert!(batching.comes_back(MAX_ROWS, 1));
        assert_eq!(batching.leaves(1), 1);
    }

    /// Goal: a statement that is never polled, because its runtime is busy, holds up nobody.
    #[test]
    fn who_has_waited_does_not_wait_for_one_that_does_not_leave() {
        let mut batching = Batching::default();
        assert!(batching.starts(1, false));
        assert!(!batching.starts(2, false));
        assert!(batching.starts(2, true));
        assert_eq!(batching.leaves(2), 2);
        assert_eq!(batching.leaves(0), 0, "nothing is left for the first one");
        assert_eq!((batching.under_way, batching.starting), (1, 0));
    }
}
