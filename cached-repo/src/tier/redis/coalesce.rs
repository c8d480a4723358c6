//! Gathering: the reads of many callers become a few `MGET`s.
//!
//! A caller that finds the conn idle goes straight through: a plain `GET` on its own task, without
//! a hop, a queue or a wake-up of anyone else. Up to [`MAX_ALONE`] may at a time; everyone else
//! waits, and whoever is waiting when a read comes back goes out together. So nothing is ever
//! delayed on purpose, and batches are as large as the load makes them.
//!
//! A batch flies in a task, not with one of its readers. A reader that is cancelled would
//! otherwise take the replies of all others with it; one that nobody polls for a while (in a
//! `buffered` stream, say) would hold them up; and one that has its reply would have to stay for
//! the next batch. The hop that this costs is paid per batch and not per read, and one flight
//! takes batch after batch, so that under load no task is spawned either.
//!
//! Invariants:
//! - Nobody waits while fewer than [`MAX_READS`] reads are under way, and one of these at least
//!   is a flight: those who wait depend on no other caller.
//! - A reader waits at most its conn's time-out, counted from its own call, and one timer per
//!   batch sees to it. All have the same time-out and board in order, and a flight ends with the
//!   last of those reads: so it has ended, and takes along who waits, before their time is up.
//! - A reader that goes away takes nothing with it. Whatever ends a flight (the end of the runtime
//!   of the caller that sent it), nobody goes on waiting for it.
//!
//! Does not know what the values mean, and never asks twice.

use std::{collections::VecDeque, future::poll_fn, io, pin::pin, sync::Arc, task::Poll};

use deadpool_redis::redis::{self, Cmd, FromRedisValue, ParsingError, Value as Reply};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{connection::Connection, wire::Raw};
use crate::{places::Places, protocol::Key, tier::TierError};

/// Reads under way at a time, each for one key or a batch. More keep the server busy while replies
/// are read, and make batches smaller.
const MAX_READS: usize = 4;
/// Of these, reads by callers themselves; the rest is for those who wait.
const MAX_ALONE: usize = MAX_READS - 1;
/// Keys that one `MGET` asks for; a server serves nobody else meanwhile.
pub(super) const KEYS_PER_MGET: usize = 512;

/// What a read gives its reader.
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
    /// Callers that went straight through.
    alone: usize,
    batches: usize,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.alone + self.batches < MAX_READS
    }
}

/// One who waits.
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

    /// Where to wait for the reply; `None` for a caller that may go straight through.
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
            self.start_batch(queue, &Handle::current());
        }
        Ok(Some(replied))
    }

    fn start_batch(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>, runtime: &Handle) {
        queue.batches += 1;
        drop(queue);
        runtime.spawn(BatchTask::of(self).run());
    }

    /// Ends one reader's wait.
    fn fail(&self, reply: oneshot::Sender<ReadResult>, error: TierError) {
        // Who has gone away is not counted.
        if !reply.is_closed() {
            self.conn.count(&error, 1);
        }
        // Nor told.
        let _ = reply.send(Err(error));
    }
}

/// A caller that went straight through, until it has its reply or goes away.
struct Alone<'a>(&'a Arc<Coalescer>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.alone -= 1;
        // Outside a runtime it is left to the flight that is under way whenever someone waits.
        if !queue.waiting.is_empty()
            && queue.has_room()
            && let Ok(runtime) = Handle::try_current()
        {
            self.0.start_batch(queue, &runtime);
        }
    }
}

/// Batch after batch, until nobody waits.
struct BatchTask {
    coalescer: Arc<Coalescer>,
    taken: Vec<Reader>,
    /// In the order in which they came.
    reads: VecDeque<BatchedRead>,
    /// What they ask for, each key once.
    keys: Vec<Key>,
    /// How many of them ask for each.
    askers: Vec<usize>,
    places: Places,
    /// It has given its place back.
    ended: bool,
}

struct BatchedRead {
    /// Of the key it asks for.
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

    /// Calls those who have waited longest. If nobody waits, the flight is over.
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

    /// Lets them in who have not gone away and still have time.
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

    /// Gives everyone reads what it asked for, or its time-out.
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

    /// Ends the wait of those who came at `until` or before.
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
            // The last one needs no copy, unless someone's time was up before.
            let value = match askers {
                0 => value.take(),
                _ => value.clone(),
            };
            // Who has gone away needs none.
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
        // The runtime has ended, or a bug made it panic. Nobody would run with those who wait.
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

/// Lets the tasks run that can: those who were just answered are likely to ask again, and then
/// run together.
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
