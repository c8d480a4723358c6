//! The bus: a connection that listens for what other processes announce, and notices when it no
//! longer does.
//!
//! Redis keeps nothing for a subscriber that is away, so a connection that broke may have missed
//! anything. One that hangs says nothing, like one on which nothing happens, and a subscriber and a
//! writer can be connected to different servers for a while after a failover. So the bus listens
//! for a pulse of its own besides, which it has sent over the connection that announces changes.
//!
//! Invariants:
//! - The listener is deaf from the first sign of a gap until a pulse has come round on a new
//!   connection.
//! - The task ends with the tier.
//!
//! Does not know what the listener keeps, and announces nothing but its pulse.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use deadpool_redis::redis::{self, Client, aio::PubSubStream};
use futures_util::StreamExt;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::lane::Lane;
use crate::{
    protocol::Token,
    tier::{Changed, Listener, TierError},
};

/// The message that says that any row may have changed; no key is spelt so.
pub(super) const ANYTHING: &str = "*";
/// How often the pulse is sent.
const PULSE: Duration = Duration::from_millis(500);
/// A pulse that takes longer than so many operations on Redis may take is missed.
const PULSE_TIMEOUTS: u32 = 2;
/// Connecting and subscribing take several round trips, so they get several operations' time.
const CONNECT_TIMEOUTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Bus {
    client: Option<Client>,
    runtime: Handle,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Bus {
    /// A bus that listens over connections of `client`, once it is asked to.
    pub(super) fn new(client: Option<Client>) -> Self {
        Self {
            client,
            runtime: Handle::current(),
            task: OnceLock::new(),
        }
    }

    /// Begins to listen; the first listener is the only one.
    pub(super) fn listen(&self, lane: &Arc<Lane>, listener: Arc<dyn Listener>) {
        let Some(client) = self.client.clone() else {
            tracing::warn!(
                "near caches stay off: over a pool, `CachedDbBuilder::subscriber` must name the \
                 Redis server where invalidations are to be heard"
            );
            return;
        };
        self.task.get_or_init(|| {
            let ear = Ear {
                client,
                lane: Arc::clone(lane),
                pulse: format!(
                    "{}:{}",
                    lane.channel(),
                    Token::fresh().as_bytes().escape_ascii()
                ),
                listener,
            };
            AbortOnDropHandle::new(self.runtime.spawn(ear.listen()))
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
    #[error("the pulse could not be sent: {0}")]
    Pulse(#[from] TierError),
    #[error("the pulse was not heard within {0:?}")]
    Missed(Duration),
}

struct Ear {
    client: Client,
    lane: Arc<Lane>,
    pulse: String,
    listener: Arc<dyn Listener>,
}

impl Ear {
    async fn listen(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let Err(gap) = self.follow().await;
            self.listener.deaf();
            // One that lasted makes up for those before it.
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(%gap, "invalidations may have gone unheard; near caches are off");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one subscription until there may be a gap.
    async fn follow(&self) -> Result<Infallible, Gap> {
        let mut messages = self.subscribe().await?;
        let beating = self.beat();
        tokio::pin!(beating);
        let patience = PULSE + self.lane.timeout() * PULSE_TIMEOUTS;
        let mut deadline = Instant::now() + patience;
        let mut hears = false;
        loop {
            let message = tokio::select! {
                // What has arrived counts, however late this task is.
                biased;
                message = messages.next() => message.ok_or(Gap::Ended)?,
                stopped = &mut beating => return stopped.map_err(Gap::Pulse),
                () = tokio::time::sleep_until(deadline) => return Err(Gap::Missed(patience)),
            };
            if message.get_channel_name() != self.pulse {
                self.hear(message.get_payload_bytes());
                continue;
            }
            deadline = Instant::now() + patience;
            if !hears {
                hears = true;
                self.listener.hears();
                tracing::debug!("invalidations are heard; near caches are on");
            }
        }
    }

    async fn subscribe(&self) -> Result<PubSubStream, Gap> {
        let limit = self.lane.timeout() * CONNECT_TIMEOUTS;
        let subscribed = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription
                .subscribe(&[self.lane.channel(), &self.pulse])
                .await?;
            Ok(subscription.into_on_message())
        };
        let in_time = tokio::time::timeout(limit, subscribed).await;
        in_time.unwrap_or(Err(Gap::Connect(limit)))
    }

    /// Sends the pulse for as long as that works.
    async fn beat(&self) -> Result<Infallible, TierError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.pulse).arg("");
        loop {
            self.lane.query::<()>(&publish).await?;
            tokio::time::sleep(PULSE).await;
        }
    }

    fn hear(&self, message: &[u8]) {
        let changed = match std::str::from_utf8(message) {
            Ok(key) if key != ANYTHING => Changed::Key(key),
            // What is not a key may stand for any.
            _ => Changed::Anything,
        };
        self.listener.hear(changed);
    }
}
