//! Coalescing: the reads of many callers become a few `MGET`s.
//!
//! A caller that finds the connection idle sends a plain `GET` itself, without a task or a queue.
//! Up to [`MAX_ALONE`] callers may do so at a time. Everyone else waits in the queue, and when a read
//! comes back, all that wait are sent together. Nothing is delayed by a timer, and batches are as
//! large as the load makes them.
//!
//! A batch is read by a task and not by one of its callers. A caller may be cancelled, which would
//! cost all others their replies. It may not be polled for a while (in a `buffered` stream, say),
//! which would hold them up. And a caller that has its reply would have to stay for the next batch.
//! The task costs one hop per batch, not per read, and takes batch after batch.
//!
//! Invariants:
//! - If a caller waits, [`MAX_READS`] reads run, and at least one of them is a batch: it depends on no
//!   other caller.
//! - A caller waits at most the time-out, counted from its own call. One timer serves a batch, since
//!   all callers have the same time-out and are in order.
//! - A caller that goes away takes nothing with it. If a batch task ends early (its runtime ends),
//!   nobody goes on waiting for it.
//!
//! Does not know what the values mean, and never asks twice.

use std::{collections::VecDeque, future::poll_fn, io, pin::pin, sync::Arc, task::Poll};

use deadpool_redis::redis::{self, Cmd, FromRedisValue, ParsingError, Value as Reply};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{connection::Connection, wire::Raw};
use crate::{places::Places, protocol::Key, tier::TierError};

/// Reads at a time, each for one key or a batch. More of them keep the server busy while replies
/// are read, and make batches smaller.
const MAX_READS: usize = 4;
/// Of these, reads by callers themselves; the rest is for those who wait.
const MAX_ALONE: usize = MAX_READS - 1;
/// Keys that one `MGET` asks for; a server serves nobody else meanwhile.
pub(super) const KEYS_PER_MGET: usize = 512;

/// What a read gives its caller.
type ReadResult = Result<Raw, TierError>;

/// The readers of one conn.
pub(super) struct Coalescer {
    conn: Arc<Connection>,
    queue: Mutex<Queue>,
    /// How many may wait.
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Reader>,
    /// Callers that read alone.
    alone: usize,
    batches: usize,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.alone + self.batches < MAX_READS
    }
}

/// A caller that waits.
struct Reader {
    key: Key,
    began: Instant,
    reply: oneshot::Sender<ReadResult>,
}

impl Coalescer {
    pub(super) fn over(conn: Arc<Connection>, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            conn,
            queue: Mutex::default(),
            capacity,
        })
    }

    /// Reads one key, alone or with others.
    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> ReadResult {
        let Some(reply) = self.queue(key)? else {
            let _alone = Alone(self);
            return self.conn.query(redis::cmd("GET").arg(key.as_str())).await;
        };
        reply.await.unwrap_or_else(|_| {
            let error = TierError::Failed("the read was aborted".into());
            self.conn.count(&error, 1);
            Err(error)
        })
    }

    /// Where to wait for the reply; `None` for a caller that reads alone.
    fn queue(
        self: &Arc<Self>,
        key: &Key,
    ) -> Result<Option<oneshot::Receiver<ReadResult>>, TierError> {
        let mut queue = self.queue.lock();
        if queue.alone < MAX_ALONE && queue.has_room() {
            queue.alone += 1;
            return Ok(None);
        }
        if queue.waiting.len() >= self.capacity {
            drop(queue);
            self.conn.count(&TierError::Overloaded, 1);
            return Err(TierError::Overloaded);
        }
        let (reply, replied) = oneshot::channel();
        queue.waiting.push_back(Reader {
            key: key.clone(),
            began: Instant::now(),
            reply,
        });
        if queue.has_room() {
            self.start_batch(queue);
        }
        Ok(Some(replied))
    }

    fn start_batch(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        queue.batches += 1;
        // A runtime that has ended drops the task at once, and its drop takes the lock.
        drop(queue);
        self.conn.runtime().spawn(BatchTask::of(self).run());
    }

    /// Fails one caller.
    fn fail(&self, reply: oneshot::Sender<ReadResult>, error: TierError) {
        // A caller that has gone away is not counted.
        if !reply.is_closed() {
            self.conn.count(&error, 1);
        }
        // It does not need the error either.
        let _ = reply.send(Err(error));
    }
}

/// A caller that reads alone, until it has its reply or goes away.
struct Alone<'a>(&'a Arc<Coalescer>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.alone -= 1;
        if !queue.waiting.is_empty() && queue.has_room() {
            self.0.start_batch(queue);
        }
    }
}

/// A task that reads batch after batch, until nobody waits.
struct BatchTask {
    coalescer: Arc<Coalescer>,
    taken: Vec<Reader>,
    /// The callers of this batch, in the order in which they came.
    reads: VecDeque<BatchedRead>,
    /// The keys that they ask for, each once.
    keys: Vec<Key>,
    /// How many callers ask for each key.
    askers: Vec<usize>,
    places: Places,
    /// It is no longer counted in the queue.
    ended: bool,
}

struct BatchedRead {
    /// The place of its key in the batch.
    place: usize,
    began: Instant,
    reply: oneshot::Sender<ReadResult>,
}

impl BatchTask {
    fn of(coalescer: &Arc<Coalescer>) -> Self {
        Self {
            coalescer: Arc::clone(coalescer),
            taken: Vec::new(),
            reads: VecDeque::new(),
            keys: Vec::new(),
            askers: Vec::new(),
            places: Places::default(),
            ended: false,
        }
    }

    async fn run(mut self) {
        others_first().await;
        while self.take_waiting() {
            self.admit();
            if !self.reads.is_empty() {
                self.read().await;
            }
            others_first().await;
        }
        self.ended = true;
    }

    /// Takes those that have waited longest; false if nobody waits.
    fn take_waiting(&mut self) -> bool {
        let mut queue = self.coalescer.queue.lock();
        if queue.waiting.is_empty() {
            queue.batches -= 1;
            return false;
        }
        let count = queue.waiting.len().min(KEYS_PER_MGET);
        self.taken.extend(queue.waiting.drain(..count));
        true
    }

    /// Puts them into the batch, but for those that have gone away or whose time is up.
    fn admit(&mut self) {
        self.keys.clear();
        self.askers.clear();
        self.places.clear();
        let (now, timeout) = (Instant::now(), self.coalescer.conn.timeout());
        for reader in self.taken.drain(..) {
            if reader.reply.is_closed() {
                continue;
            }
            if reader.began + timeout <= now {
                self.coalescer
                    .fail(reader.reply, TierError::Timeout(timeout));
                continue;
            }
            let next = self.keys.len();
            let key_at = |place: usize| self.keys.get(place);
            let place = self.places.of(&reader.key, next, key_at);
            if place == next {
                self.keys.push(reader.key);
                self.askers.push(0);
            }
            self.askers[place] += 1;
            self.reads.push_back(BatchedRead {
                place,
                began: reader.began,
                reply: reader.reply,
            });
        }
    }

    /// Reads the batch; gives every caller its value, or its time-out.
    async fn read(&mut self) {
        let conn = Arc::clone(&self.coalescer.conn);
        let timeout = conn.timeout();
        let verb = if self.keys.len() == 1 { "GET" } else { "MGET" };
        let cmd = read(verb, &self.keys);
        let found = conn.attempt(async |mut connection| {
            let mut reading = pin!(cmd.query_async(&mut connection));
            while let Some(first) = self.reads.front() {
                match timeout_at(first.began + timeout, reading.as_mut()).await {
                    Ok(found) => return found,
                    Err(_) => self.time_out(Instant::now() - timeout),
                }
            }
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        });
        match found.await {
            Ok(Values(values)) if values.len() == self.keys.len() => self.deliver(values),
            Ok(_) => self.fail(&TierError::Failed("MGET: wrong number of values".into())),
            Err(error) => self.fail(&error),
        }
    }

    /// Fails the callers that came at `until` or before.
    fn time_out(&mut self, until: Instant) {
        while let Some(read) = self.reads.pop_front_if(|first| first.began <= until) {
            let error = TierError::Timeout(self.coalescer.conn.timeout());
            self.coalescer.fail(read.reply, error);
        }
    }

    fn deliver(&mut self, mut values: Vec<Raw>) {
        for read in self.reads.drain(..) {
            let (value, askers) = (&mut values[read.place], &mut self.askers[read.place]);
            *askers -= 1;
            // The last caller needs no copy, unless one has timed out before.
            let value = match askers {
                0 => value.take(),
                _ => value.clone(),
            };
            // A caller that has gone away needs none.
            let _ = read.reply.send(Ok(value));
        }
    }

    fn fail(&mut self, error: &TierError) {
        for read in self.reads.drain(..) {
            self.coalescer.fail(read.reply, error.clone());
        }
    }
}

impl Drop for BatchTask {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The runtime has ended, or a bug made it panic: nobody else would read for those that wait.
        let abandoned = {
            let mut queue = self.coalescer.queue.lock();
            queue.batches -= 1;
            std::mem::take(&mut queue.waiting)
        };
        drop(abandoned);
    }
}

/// The command that reads these keys.
pub(super) fn read(verb: &str, keys: &[Key]) -> Cmd {
    let len: usize = keys.iter().map(|key| key.as_str().len()).sum();
    let mut cmd = Cmd::with_capacity(1 + keys.len(), verb.len() + len);
    cmd.arg(verb);
    for key in keys {
        cmd.arg(key.as_str());
    }
    cmd
}

/// The reply to a `GET` or an `MGET`.
struct Values(Vec<Raw>);

impl FromRedisValue for Values {
    fn from_redis_value(reply: Reply) -> Result<Self, ParsingError> {
        match reply {
            Reply::Array(values) => {
                let values = values.into_iter().map(Raw::from_redis_value);
                values.collect::<Result<_, _>>().map(Self)
            }
            one => Raw::from_redis_value(one).map(|one| Self(vec![one])),
        }
    }
}

/// Lets other tasks run first: callers that were just answered are likely to ask again, and then
/// share the next batch.
async fn others_first() {
    let mut first = true;
    poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
