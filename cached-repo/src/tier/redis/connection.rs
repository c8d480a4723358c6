//! The shared connection: one connection to Redis for all operations, and how it is replaced when it
//! breaks.
//!
//! deadpool pings a connection each time it hands it out, which costs as much as the operation
//! itself. So this takes one connection out of the pool, multiplexes every operation over it, and
//! asks the pool again only when it breaks. The pool still decides how to connect.
//!
//! Invariants:
//! - An operation waits for its reply at most the operation time-out. Without a connection it fails
//!   at once.
//! - A connection counts as dead after several time-outs in a row, each of an operation that was sent
//!   after the one before had timed out. Many time-outs in one moment count once.
//! - Exactly one task replaces a broken connection, with growing pauses, on the runtime that the
//!   tier was opened on, whoever noticed. It ends with the tier.
//!
//! Does not know what the commands mean, and never repeats one.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{
    Pool,
    redis::{
        self, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, aio::MultiplexedConnection,
    },
};
use parking_lot::{Mutex, RwLock};
use tokio::{runtime::Handle, time::Instant};

use super::{
    owner::Owner,
    scripts::{SCRIPTS, Script},
    wire::Arguments,
};
use crate::{
    backoff::Backoff, clock::Clock, protocol::Timestamp, telemetry::TierStats, tier::TierError,
};

/// So many time-outs in a row and the connection is taken for dead.
const TIMEOUTS_TO_BREAK: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Connecting takes several round trips, so it gets several operations' time.
const CONNECT_TIMEOUTS: u32 = 5;

pub(super) struct Connection {
    me: Weak<Self>,
    runtime: Handle,
    pool: Pool,
    /// The channel of invalidations.
    channel: String,
    owner: Option<Owner>,
    /// Why there is no connection.
    problem: Mutex<Option<TierError>>,
    timeout: Duration,
    state: RwLock<State>,
    timeouts_in_a_row: AtomicU32,
    /// When the last of them was noticed.
    last_timeout: Mutex<Instant>,
    clock: Clock,
    /// The server's clock minus ours, in milliseconds.
    ahead_ms: AtomicI64,
    stats: Arc<TierStats>,
}

enum State {
    /// `number` tells a failure of this connection from a late one of its predecessor.
    Up {
        connection: MultiplexedConnection,
        number: u64,
    },
    Down,
}

impl Connection {
    /// Connects; without a server it starts down and keeps trying.
    pub(super) async fn open(
        pool: Pool,
        channel: String,
        owner: Option<Owner>,
        timeout: Duration,
        clock: Clock,
        stats: Arc<TierStats>,
    ) -> Arc<Self> {
        let conn = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime: Handle::current(),
            pool,
            channel,
            owner,
            problem: Mutex::new(None),
            timeout,
            state: RwLock::new(State::Down),
            timeouts_in_a_row: AtomicU32::new(0),
            last_timeout: Mutex::new(Instant::now()),
            clock,
            ahead_ms: AtomicI64::new(0),
            stats,
        });
        if let Err(error) = conn.connect(1).await {
            tracing::error!(%error, "no connection to the cache; reading from the database");
            conn.reconnect_from(1);
        }
        conn
    }

    /// Why there is no connection; `None` if there is one.
    pub(super) fn problem(&self) -> Option<TierError> {
        match &*self.state.read() {
            State::Up { .. } => None,
            State::Down => Some(
                self.problem
                    .lock()
                    .clone()
                    .unwrap_or(TierError::Unavailable),
            ),
        }
    }

    /// The channel of invalidations.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Tells one connection from the next; `None` while there is none.
    pub(super) fn number(&self) -> Option<u64> {
        match &*self.state.read() {
            State::Up { number, .. } => Some(*number),
            State::Down => None,
        }
    }

    /// Where its tasks run.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The process's clock.
    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// How long an operation may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The server's clock, as of its last reply; exact to a few milliseconds, since every hit
    /// reads it.
    pub(super) fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let now = self.clock.coarse_now().as_millis();
        Timestamp::from_millis(now.saturating_add_signed(ahead))
    }

    /// Learns the server's clock from a reply: how far it is ahead of the very clock that
    /// [`now`](Self::now) reads, or the two would drift apart where they are not one.
    pub(super) fn observe(&self, server: Timestamp) {
        let ahead = server
            .as_millis()
            .wrapping_sub(self.clock.coarse_now().as_millis())
            .cast_signed();
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Sends one command.
    pub(super) async fn query<T: FromRedisValue>(&self, cmd: &redis::Cmd) -> Result<T, TierError> {
        self.run(|mut connection| async move { cmd.query_async(&mut connection).await })
            .await
    }

    /// Runs a script: by its name, and by its text where the server does not know it yet. Who asked
    /// counts its error.
    pub(super) async fn eval<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &str,
        request: &impl Arguments,
    ) -> Result<T, TierError> {
        let command = |verb: &str, name: &str| {
            let mut cmd = redis::cmd(verb);
            cmd.arg(name).arg(1).arg(key);
            request.push(&mut cmd);
            cmd
        };
        let by_name = command("EVALSHA", &script.sha);
        let deadline = Instant::now() + self.timeout;
        self.attempt(|mut connection| async move {
            match by_name.query_async(&mut connection).await {
                Err(error) if is_unknown_script(&error) => {
                    connection.set_response_timeout(deadline - Instant::now());
                    command("EVAL", &script.text)
                        .query_async(&mut connection)
                        .await
                }
                other => other,
            }
        })
        .await
    }

    /// Runs one operation, and counts how it fared.
    async fn run<T, F>(
        &self,
        operation: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, TierError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        self.attempt(operation)
            .await
            .inspect_err(|error| self.count(error, 1))
    }

    /// Runs an operation on the connection; its outcome shows whether the connection works.
    pub(super) async fn attempt<T, F>(
        &self,
        operation: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, TierError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let (connection, number) = match &*self.state.read() {
            State::Up { connection, number } => (connection.clone(), *number),
            State::Down => return Err(TierError::Unavailable),
        };
        // The connection times each command itself.
        match operation(connection).await {
            Ok(reply) => {
                // Almost always zero already: a line of cache that many cores can share.
                if self.timeouts_in_a_row.load(Ordering::Relaxed) > 0 {
                    self.timeouts_in_a_row.store(0, Ordering::Relaxed);
                }
                Ok(reply)
            }
            Err(error) if error.is_timeout() => {
                self.unanswered(number);
                Err(TierError::Timeout(self.timeout))
            }
            Err(error) if error.code() == Some("OOM") => Err(TierError::Full),
            Err(error) => {
                let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
                if demoted || error.is_unrecoverable_error() || error.is_io_error() {
                    self.broken(number);
                }
                Err(TierError::Failed(error.to_string()))
            }
        }
    }

    /// Counts the error of so many operations.
    pub(super) fn count(&self, error: &TierError, operations: u64) {
        match error {
            TierError::Timeout(_) => &self.stats.timeouts,
            TierError::Unavailable => &self.stats.unavailable,
            TierError::Overloaded => &self.stats.overloaded,
            TierError::Full | TierError::OtherDatabase(_) | TierError::Failed(_) => {
                &self.stats.failures
            }
        }
        .add(operations);
    }

    /// An operation got no reply in time: one more sign that the connection is dead, unless the
    /// operation was sent before the last sign.
    fn unanswered(&self, number: u64) {
        let now = Instant::now();
        let mut last = self.last_timeout.lock();
        if now < *last + self.timeout {
            return;
        }
        *last = now;
        drop(last);
        if self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_BREAK {
            self.broken(number);
        }
    }

    /// Takes the connection down, once, and has it replaced.
    fn broken(&self, number: u64) {
        let mut state = self.state.write();
        if matches!(*state, State::Up { number: current, .. } if current == number) {
            *state = State::Down;
            drop(state);
            tracing::warn!("the connection to the cache broke; reading from the database");
            self.stats.reconnects.add(1);
            self.reconnect_from(number + 1);
        }
    }

    fn reconnect_from(&self, number: u64) {
        self.runtime.spawn(reconnect(self.me.clone(), number));
    }

    async fn connect(&self, number: u64) -> Result<(), TierError> {
        let connected = self.try_connect(number).await;
        *self.problem.lock() = connected.clone().err();
        connected
    }

    async fn try_connect(&self, number: u64) -> Result<(), TierError> {
        let limit = self.timeout * CONNECT_TIMEOUTS;
        let connecting = async {
            let connection = self
                .pool
                .get()
                .await
                .map_err(|error| TierError::Failed(error.to_string()))?;
            // Taken out for good: its place in the pool is free again, and no checkout pings it.
            let mut connection = deadpool_redis::Connection::take(connection);
            connection.set_response_timeout(limit);
            let failed = |error: RedisError| TierError::Failed(error.to_string());
            let (seconds, micros): (u64, u64) = redis::cmd("TIME")
                .query_async(&mut connection)
                .await
                .map_err(failed)?;
            self.observe(Timestamp::from_millis(seconds * 1000 + micros / 1000));
            // A user who may not publish cannot block: better no cache at all.
            redis::cmd("PUBLISH")
                .arg(&self.channel)
                .arg("")
                .query_async::<()>(&mut connection)
                .await
                .map_err(failed)?;
            if let Some(owner) = &self.owner {
                owner.claim(&mut connection).await?;
            }
            let mut load = redis::pipe();
            for script in SCRIPTS.all() {
                load.cmd("SCRIPT").arg("LOAD").arg(&script.text).ignore();
            }
            load.query_async::<()>(&mut connection)
                .await
                .map_err(failed)?;
            connection.set_response_timeout(self.timeout);
            Ok(connection)
        };
        let connection = tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or(Err(TierError::Timeout(limit)))?;
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        *self.state.write() = State::Up { connection, number };
        Ok(())
    }
}

/// Replaces a broken connection; ends with the tier.
async fn reconnect(conn: Weak<Connection>, number: u64) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        backoff.pause().await;
        let Some(conn) = conn.upgrade() else { return };
        match conn.connect(number).await {
            Ok(()) => {
                tracing::info!("the connection to the cache is back");
                return;
            }
            // The server is there, and refuses: someone has to change a setting.
            Err(error @ (TierError::Failed(_) | TierError::OtherDatabase(_))) => {
                tracing::error!(%error, "no connection to the cache");
            }
            Err(error) => tracing::debug!(%error, "still no connection to the cache"),
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{
        super::scripted::{LIMIT, Scripted},
        *,
    };

    const TIMEOUT: Duration = Duration::from_millis(50);

    async fn open(pool: Pool) -> (Arc<Connection>, Arc<TierStats>) {
        let stats = Arc::new(TierStats::default());
        let conn = Connection::open(
            pool,
            "test:changed:1".into(),
            None,
            TIMEOUT,
            Clock::start(),
            Arc::clone(&stats),
        );
        (conn.await, stats)
    }

    /// A server that accepts connections and never says a word.
    fn mute() -> (Pool, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let pool = deadpool_redis::Config::from_url(url)
            .create_pool(Some(deadpool_redis::Runtime::Tokio1))
            .unwrap();
        (pool, listener)
    }

    async fn ping(conn: &Connection) -> Result<String, TierError> {
        tokio::time::timeout(LIMIT, conn.query(&redis::cmd("PING")))
            .await
            .expect("an operation hangs")
    }

    #[tokio::test]
    async fn a_server_that_never_answers_costs_the_connect_limit_and_then_nothing() {
        let (pool, _listener) = mute();
        let began = Instant::now();
        let (conn, stats) = tokio::time::timeout(LIMIT, open(pool)).await.unwrap();
        assert!(began.elapsed() >= TIMEOUT, "it was tried");
        let began = Instant::now();
        for _ in 0..100 {
            assert!(matches!(ping(&conn).await, Err(TierError::Unavailable)));
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(stats.snapshot().unavailable, 100);
        assert_eq!(stats.snapshot().timeouts, 0);
    }

    #[tokio::test]
    async fn a_lane_that_is_dropped_ends_its_reconnecting() {
        let (pool, _listener) = mute();
        let (conn, _) = open(pool).await;
        let weak = conn.me.clone();
        drop(conn);
        let gone = async {
            while weak.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, gone).await;
        assert!(in_time.is_ok(), "the task keeps the conn alive");
    }

    #[tokio::test]
    async fn a_few_time_outs_in_a_row_take_the_connection_down_once() {
        let server = Scripted::start();
        let (conn, stats) = open(server.pool()).await;
        assert!(matches!(*conn.state.read(), State::Up { .. }));
        for _ in 0..TIMEOUTS_TO_BREAK {
            let began = Instant::now();
            assert!(matches!(ping(&conn).await, Err(TierError::Timeout(_))));
            assert!(began.elapsed() >= TIMEOUT);
        }
        assert!(matches!(ping(&conn).await, Err(TierError::Unavailable)));
        let counted = stats.snapshot();
        assert_eq!(counted.timeouts, u64::from(TIMEOUTS_TO_BREAK));
        assert_eq!((counted.reconnects, counted.failures), (1, 0));
    }

    /// Goal: a server that is stalled for a moment (a fork, a slow command) keeps its connection,
    /// however many operations fall into that moment.
    #[tokio::test]
    async fn many_time_outs_of_one_moment_are_one_sign() {
        let server = Scripted::start();
        let (conn, stats) = open(server.pool()).await;
        for _ in 0..TIMEOUTS_TO_BREAK - 1 {
            let pings = futures_util::future::join_all((0..100).map(|_| ping(&conn))).await;
            assert!(
                pings
                    .iter()
                    .all(|ping| matches!(ping, Err(TierError::Timeout(_))))
            );
        }
        assert_eq!(stats.snapshot().reconnects, 0);
        assert!(matches!(ping(&conn).await, Err(TierError::Timeout(_))));
        assert_eq!(stats.snapshot().reconnects, 1, "this is the last sign");
    }

    /// Goal: only time-outs without a reply between them count.
    #[tokio::test]
    async fn a_reply_between_time_outs_keeps_the_connection() {
        let server = Scripted::start();
        let (conn, stats) = open(server.pool()).await;
        for _ in 0..TIMEOUTS_TO_BREAK {
            assert!(matches!(ping(&conn).await, Err(TierError::Timeout(_))));
            server.answer_with("+LATE\r\n");
            let (pong, ()) = tokio::join!(ping(&conn), async {
                server.received(1).await;
                server.answer_with("+PONG\r\n");
            });
            assert_eq!(pong.unwrap(), "PONG");
        }
        assert_eq!(stats.snapshot().reconnects, 0);
    }
}
