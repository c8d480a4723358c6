//! The bus: a connection that listens for what other processes announce, and vouches for how much
//! of it has been heard.
//!
//! Redis keeps nothing for a subscriber that is away, so a connection that broke may have missed
//! anything. One that hangs says nothing, like one on which nothing happens; one that is late says
//! what was true a while ago; and after a failover a subscriber and a writer can be connected to
//! different servers. So the bus listens for a pulse of its own besides, which it sends over the
//! connection that announces changes. A pulse that comes round vouches for the moment at which it
//! was sent: what was announced before has been heard.
//!
//! Invariants:
//! - The listener is vouched for until [`PULSE`] and a few time-outs after a pulse was sent, and
//!   never by a task that has ended.
//! - Between two subscriptions, or over two connections that announce, the listener has missed
//!   something.
//!
//! Does not know what the listener keeps, and announces nothing but its pulse.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use deadpool_redis::redis::{self, Client, Msg, aio::PubSubStream};
use futures_util::StreamExt;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::lane::Lane;
use crate::{
    clock::Moment,
    protocol::Token,
    tier::{Changed, Listener},
};

/// The message that says that any row may have changed; no key is spelt so.
pub(super) const ANYTHING: &str = "*";
/// How often the pulse is sent.
const PULSE: Duration = Duration::from_millis(500);
/// So many operations' time a pulse has to come round before the next is waited for.
const PULSE_TIMEOUTS: u32 = 2;
/// A subscription on which no pulse comes for so many times as long is given up.
const MISSED_PULSES: u32 = 5;
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
            let own = Token::fresh();
            let ear = Ear {
                client,
                lane: Arc::clone(lane),
                pulse: format!("{}:{}", lane.channel(), own.as_bytes().escape_ascii()),
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
    #[error("no pulse was heard for {0:?}")]
    Silence(Duration),
}

struct Ear {
    client: Client,
    lane: Arc<Lane>,
    /// The channel of the pulse.
    pulse: String,
    listener: Arc<dyn Listener>,
}

/// However it ends, also with its runtime.
impl Drop for Ear {
    fn drop(&mut self) {
        self.listener.deaf();
    }
}

impl Ear {
    async fn listen(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut hears = false;
            let Err(gap) = self.follow(&mut hears).await;
            self.listener.deaf();
            if hears {
                pause = FIRST_PAUSE;
                tracing::warn!(%gap, "invalidations may have gone unheard; near caches are off");
            } else {
                tracing::debug!(%gap, "near caches are still off");
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows one subscription until there may be a gap; notes whether anything is heard.
    async fn follow(&self, hears: &mut bool) -> Result<Infallible, Gap> {
        let mut messages = self.subscribe().await?;
        let mut generation = self.lane.generation();
        let beating = self.beat();
        tokio::pin!(beating);
        let silence = self.patience() * MISSED_PULSES;
        let mut deadline = Instant::now() + silence;
        loop {
            let message = tokio::select! {
                message = messages.next() => message.ok_or(Gap::Ended)?,
                never = &mut beating => match never {},
                () = tokio::time::sleep_until(deadline) => return Err(Gap::Silence(silence)),
            };
            if message.get_channel_name() != self.pulse {
                self.hear(&message);
                continue;
            }
            deadline = Instant::now() + silence;
            // What was announced while there was no connection may have gone to another server.
            let current = self.lane.generation();
            if current != generation {
                generation = current;
                self.listener.hear(Changed::Anything);
            }
            if !*hears {
                *hears = true;
                tracing::info!("invalidations are heard; near caches are on");
            }
            self.listener.hears(self.vouched_for(&message));
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

    /// Sends the pulse, which says when.
    async fn beat(&self) -> Infallible {
        loop {
            let now = self.lane.clock().moment().as_nanos();
            // One that could not be sent does not come round either.
            let _ = self
                .lane
                .attempt(|mut connection| async move {
                    redis::cmd("PUBLISH")
                        .arg(&self.pulse)
                        .arg(now)
                        .query_async::<()>(&mut connection)
                        .await
                })
                .await;
            tokio::time::sleep(PULSE).await;
        }
    }

    /// How long a pulse is good for.
    fn patience(&self) -> Duration {
        PULSE + self.lane.timeout() * PULSE_TIMEOUTS
    }

    /// Until when a pulse that has come round vouches for what was heard.
    fn vouched_for(&self, pulse: &Msg) -> Moment {
        let sent = std::str::from_utf8(pulse.get_payload_bytes()).ok();
        let sent = sent.and_then(|sent| sent.parse().ok());
        // Nobody else has a reason to write here.
        let sent = sent.map_or(Moment::START, Moment::from_nanos);
        sent.plus(self.patience())
    }

    fn hear(&self, message: &Msg) {
        let changed = match std::str::from_utf8(message.get_payload_bytes()) {
            Ok(key) if key != ANYTHING => Changed::Key(key),
            // What is not a key may stand for any.
            _ => Changed::Anything,
        };
        self.listener.hear(changed);
    }
}
