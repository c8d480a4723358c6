//! A lane: one kept connection, and how it is replaced when it breaks.
//!
//! deadpool pings a connection each time it hands it out, which costs as much as the operation
//! itself. So a lane takes one out of the pool, multiplexes every operation over it, and asks the
//! pool again only when it broke; the pool stays the one who knows how to connect.
//!
//! Invariants:
//! - An operation waits for its reply at most the operation time-out; a lane without a
//!   connection fails it at once.
//! - Exactly one task replaces a broken connection, with growing pauses, and ends with the lane.
//!
//! Does not know what the commands mean and never repeats one.

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
use parking_lot::RwLock;

use super::{
    scripts::{SCRIPTS, Script},
    wire::Arguments,
};
use crate::{clock::Clock, protocol::Timestamp, telemetry::TierStats, tier::TierError};

/// So many time-outs in a row and the connection is taken for dead.
const TIMEOUTS_TO_BREAK: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Connecting takes several round trips, so it gets several operations' time.
const CONNECT_TIMEOUTS: u32 = 5;

pub(super) struct Lane {
    me: Weak<Self>,
    pool: Pool,
    timeout: Duration,
    state: RwLock<State>,
    timeouts_in_a_row: AtomicU32,
    clock: Clock,
    /// The server's clock minus ours, in milliseconds.
    ahead_ms: AtomicI64,
    stats: Arc<TierStats>,
}

enum State {
    /// `generation` tells a failure of this connection from a late one of its predecessor.
    Up {
        connection: MultiplexedConnection,
        generation: u64,
    },
    Down,
}

impl Lane {
    /// Opens a lane; without a server it starts down and keeps trying.
    pub(super) async fn open(
        pool: Pool,
        timeout: Duration,
        clock: Clock,
        stats: Arc<TierStats>,
    ) -> Arc<Self> {
        let lane = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            pool,
            timeout,
            state: RwLock::new(State::Down),
            timeouts_in_a_row: AtomicU32::new(0),
            clock,
            ahead_ms: AtomicI64::new(0),
            stats,
        });
        if let Err(error) = lane.connect(1).await {
            tracing::warn!(%error, "no connection to the cache; reading from the database");
            lane.reconnect_from(1);
        }
        lane
    }

    /// The server's clock, as of its last reply.
    pub(super) fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add_signed(ahead))
    }

    /// Learns the server's clock from a reply.
    pub(super) fn observe(&self, server: Timestamp) {
        let ahead = server
            .as_millis()
            .wrapping_sub(self.clock.now().as_millis())
            .cast_signed();
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Sends one command.
    pub(super) async fn query<T: FromRedisValue>(&self, cmd: &redis::Cmd) -> Result<T, TierError> {
        self.run(|mut connection| async move { cmd.query_async(&mut connection).await })
            .await
    }

    /// Runs a script: by its name, and by its text where the server does not know it yet.
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
        self.run(|mut connection| async move {
            match by_name.query_async(&mut connection).await {
                Err(error) if is_unknown_script(&error) => {
                    command("EVAL", &script.text)
                        .query_async(&mut connection)
                        .await
                }
                other => other,
            }
        })
        .await
    }

    async fn run<T, F>(
        &self,
        operation: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, TierError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let (connection, generation) = match &*self.state.read() {
            State::Up {
                connection,
                generation,
            } => (connection.clone(), *generation),
            State::Down => {
                self.stats.unavailable.add(1);
                return Err(TierError::Unavailable);
            }
        };
        let error = match tokio::time::timeout(self.timeout, operation(connection)).await {
            Ok(Ok(reply)) => {
                self.timeouts_in_a_row.store(0, Ordering::Relaxed);
                return Ok(reply);
            }
            Ok(Err(error)) if error.is_timeout() => None,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        match error {
            None => {
                self.stats.timeouts.add(1);
                if self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_TO_BREAK {
                    self.broken(generation);
                }
                Err(TierError::Timeout(self.timeout))
            }
            Some(error) => {
                self.stats.failures.add(1);
                if error.is_unrecoverable_error() || error.is_io_error() {
                    self.broken(generation);
                }
                Err(TierError::Failed(error.to_string()))
            }
        }
    }

    /// Takes the connection down, once, and has it replaced.
    fn broken(&self, generation: u64) {
        let mut state = self.state.write();
        if matches!(*state, State::Up { generation: current, .. } if current == generation) {
            *state = State::Down;
            drop(state);
            tracing::warn!("the connection to the cache broke; reading from the database");
            self.stats.reconnects.add(1);
            self.reconnect_from(generation + 1);
        }
    }

    fn reconnect_from(&self, generation: u64) {
        tokio::spawn(reconnect(self.me.clone(), generation));
    }

    async fn connect(&self, generation: u64) -> Result<(), TierError> {
        let limit = self.timeout * CONNECT_TIMEOUTS;
        let connecting = async {
            let connection = self
                .pool
                .get()
                .await
                .map_err(|error| TierError::Failed(error.to_string()))?;
            // Taken out for good: its place in the pool is free again, and nobody pings it.
            let mut connection = deadpool_redis::Connection::take(connection);
            let failed = |error: RedisError| TierError::Failed(error.to_string());
            let (seconds, micros): (u64, u64) = redis::cmd("TIME")
                .query_async(&mut connection)
                .await
                .map_err(failed)?;
            self.observe(Timestamp::from_millis(seconds * 1000 + micros / 1000));
            let mut load = redis::pipe();
            for script in SCRIPTS.all() {
                load.cmd("SCRIPT").arg("LOAD").arg(&script.text).ignore();
            }
            load.query_async::<()>(&mut connection)
                .await
                .map_err(failed)?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or(Err(TierError::Timeout(limit)))?;
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        *self.state.write() = State::Up {
            connection,
            generation,
        };
        Ok(())
    }
}

/// Replaces the connection of a lane that is down; ends with the lane.
async fn reconnect(lane: Weak<Lane>, generation: u64) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(lane) = lane.upgrade() else { return };
        match lane.connect(generation).await {
            Ok(()) => {
                tracing::info!("the connection to the cache is back");
                return;
            }
            Err(error) => tracing::debug!(%error, "still no connection to the cache"),
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
