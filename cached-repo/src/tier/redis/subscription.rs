//! The subscription: a connection that receives the invalidations of other processes, and knows
//! until when it has received all of them.
//!
//! Redis keeps no messages for a subscriber that is away, so a connection that broke may have missed
//! some. A connection that hangs looks like one without messages. After a failover the subscriber and
//! a writer can be connected to different servers. So the subscription also listens to a heartbeat
//! of its own, which it sends over the connection that publishes invalidations. When a heartbeat
//! comes back, every invalidation that was published before it was sent has been received.
//!
//! Invariants:
//! - A heartbeat is good for [`HEARTBEAT`] and a few time-outs after it was sent. A task that has
//!   ended sends none.
//! - Between two subscriptions, and between two connections that publish, there is a gap.
//!
//! Does not know what its listener keeps, and publishes nothing but its heartbeat.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use deadpool_redis::redis::{self, Client, Msg, aio::PubSubStream};
use futures_util::StreamExt;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{connection::Connection, wire::ALL};
use crate::{
    backoff::Backoff,
    clock::Moment,
    protocol::Token,
    tier::{Invalidated, InvalidationListener},
};

/// How often a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The time-outs of an operation that a heartbeat has to come back.
const HEARTBEAT_TIMEOUTS: u32 = 2;
/// A subscription without a heartbeat for so many times as long is given up.
const MISSED_HEARTBEATS: u32 = 5;
/// Connecting and subscribing take several round trips, so they get several operations' time.
const CONNECT_TIMEOUTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Subscription {
    client: Option<Client>,
    runtime: Handle,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Subscription {
    /// A subscription that listens over connections of `client`, once it is asked to.
    pub(super) fn new(client: Option<Client>) -> Self {
        Self {
            client,
            runtime: Handle::current(),
            task: OnceLock::new(),
        }
    }

    /// Starts the task; only the first listener is told of invalidations.
    pub(super) fn listen(&self, conn: &Arc<Connection>, listener: Arc<dyn InvalidationListener>) {
        let Some(client) = self.client.clone() else {
            tracing::warn!(
                "near caches stay off: over a pool, `CachedDbBuilder::subscriber` must name the \
                 Redis server to subscribe to"
            );
            return;
        };
        self.task.get_or_init(|| {
            let own = Token::fresh();
            let task = SubscriptionTask {
                client,
                conn: Arc::clone(conn),
                heartbeat: format!("{}:{}", conn.channel(), own.as_bytes().escape_ascii()),
                listener,
            };
            AbortOnDropHandle::new(self.runtime.spawn(task.listen()))
        });
    }
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Gap {
    #[error("no subscription: {0}")]
    Subscribe(#[from] redis::RedisError),
    #[error("no subscription within {0:?}")]
    Connect(Duration),
    #[error("the connection ended")]
    Ended,
    #[error("no heartbeat for {0:?}")]
    Silence(Duration),
}

struct SubscriptionTask {
    client: Client,
    conn: Arc<Connection>,
    /// The channel of the heartbeat.
    heartbeat: String,
    listener: Arc<dyn InvalidationListener>,
}

/// However the task ends, also with its runtime.
impl Drop for SubscriptionTask {
    fn drop(&mut self) {
        self.listener.on_gap();
    }
}

impl SubscriptionTask {
    async fn listen(self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let mut receives = false;
            let Err(gap) = self.follow(&mut receives).await;
            self.listener.on_gap();
            if receives {
                backoff.reset();
                tracing::warn!(%gap, "invalidations may have been missed; near caches are off");
            } else {
                tracing::debug!(%gap, "near caches are still off");
            }
            backoff.pause().await;
        }
    }

    /// Follows one subscription until there may be a gap.
    async fn follow(&self, receives: &mut bool) -> Result<Infallible, Gap> {
        let mut messages = self.subscribe().await?;
        let mut number = self.conn.number();
        let heartbeats = self.send_heartbeats();
        tokio::pin!(heartbeats);
        let silence = self.validity() * MISSED_HEARTBEATS;
        let mut deadline = Instant::now() + silence;
        loop {
            let message = tokio::select! {
                message = messages.next() => message.ok_or(Gap::Ended)?,
                never = &mut heartbeats => match never {},
                () = tokio::time::sleep_until(deadline) => return Err(Gap::Silence(silence)),
            };
            if message.get_channel_name() != self.heartbeat {
                self.handle(&message);
                continue;
            }
            deadline = Instant::now() + silence;
            // What was published while there was no connection may have gone to another server.
            let current = self.conn.number();
            if current != number {
                number = current;
                self.listener.on_invalidate(Invalidated::All);
            }
            if !*receives {
                *receives = true;
                tracing::info!("invalidations arrive; near caches are on");
            }
            self.listener.heartbeat(self.vouched_for(&message));
        }
    }

    async fn subscribe(&self) -> Result<PubSubStream, Gap> {
        let limit = self.conn.timeout() * CONNECT_TIMEOUTS;
        let subscribed = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription
                .subscribe(&[self.conn.channel(), &self.heartbeat])
                .await?;
            Ok(subscription.into_on_message())
        };
        let in_time = tokio::time::timeout(limit, subscribed).await;
        in_time.unwrap_or(Err(Gap::Connect(limit)))
    }

    /// Sends heartbeats; each holds the time at which it was sent.
    async fn send_heartbeats(&self) -> Infallible {
        loop {
            let now = self.conn.clock().moment().as_nanos();
            // One that could not be sent does not come back either.
            let _ = self
                .conn
                .attempt(|mut connection| async move {
                    redis::cmd("PUBLISH")
                        .arg(&self.heartbeat)
                        .arg(now)
                        .query_async::<()>(&mut connection)
                        .await
                })
                .await;
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// How long a heartbeat is good for.
    fn validity(&self) -> Duration {
        HEARTBEAT + self.conn.timeout() * HEARTBEAT_TIMEOUTS
    }

    /// Until when a heartbeat that has come back is good.
    fn vouched_for(&self, heartbeat: &Msg) -> Moment {
        let sent = std::str::from_utf8(heartbeat.get_payload_bytes()).ok();
        let sent = sent.and_then(|sent| sent.parse().ok());
        // Nobody else writes to this channel.
        let sent = sent.map_or(Moment::START, Moment::from_nanos);
        sent.plus(self.validity())
    }

    fn handle(&self, message: &Msg) {
        let changed = match std::str::from_utf8(message.get_payload_bytes()) {
            Ok(key) if key != ALL => Invalidated::Key(key),
            // A message that is not a key may stand for any.
            _ => Invalidated::All,
        };
        self.listener.on_invalidate(changed);
    }
}
