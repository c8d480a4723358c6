//! The Redis tier: each operation is one script on one key, and a hit is a plain `GET`.
//!
//! Needs Redis 7 or a server that speaks its commands (`PEXPIRETIME`, `SET … PXAT`, script
//! flags). No script touches two keys.

mod coalesce;
mod connection;
mod owner;
#[cfg(test)]
mod scripted;
pub mod scripts;
mod subscription;
pub mod wire;

use std::{sync::Arc, time::Duration};

use deadpool_redis::{
    Pool,
    redis::{self, FromRedisValue, ParsingError},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use self::{
    coalesce::{Coalescer, KEYS_PER_MGET},
    connection::Connection,
    owner::Owner,
    scripts::{SCRIPTS, Script},
    subscription::Subscription,
    wire::{Announced, Answer, Arguments, EpochAnswer, Raw},
};
use super::{Fetched, InvalidationListener, Reply, Tier, TierError};
use crate::{
    clock::Clock,
    protocol::{
        Entry, Key, Timestamp,
        epoch::{EpochChange, EpochReply, EpochRequest},
        key,
        state::{Block, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Published},
    },
    telemetry::TierStats,
};

/// Commands that ask for many keys of one caller at a time; each has a time-out of its own.
const MGETS_AT_A_TIME: usize = 4;

/// The tier that processes share.
pub(crate) struct RedisTier {
    conn: Arc<Connection>,
    reads: Arc<Coalescer>,
    /// The key of the epochs.
    epochs: String,
    subscription: Subscription,
}

/// What a [`RedisTier`] is made of.
pub(crate) struct Settings<'a> {
    pub(crate) pool: Pool,
    /// Makes the connection that listens; without it nobody can.
    pub(crate) subscriber: Option<redis::Client>,
    pub(crate) namespace: &'a str,
    /// Which database the namespace is for, if that is known.
    pub(crate) database: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) queue: usize,
}

impl RedisTier {
    /// A tier over a pool. Without a server it starts all the same: reads go to the database
    /// until there is one.
    pub(crate) async fn open(settings: Settings<'_>, clock: Clock, stats: Arc<TierStats>) -> Self {
        let Settings {
            pool,
            namespace,
            timeout,
            ..
        } = settings;
        let owner = settings.database.map(|database| Owner {
            key: key::owner(namespace),
            database,
        });
        let channel = key::channel(namespace);
        let conn = Connection::open(pool, channel, owner, timeout, clock, stats).await;
        Self {
            reads: Coalescer::over(Arc::clone(&conn), settings.queue),
            epochs: key::epochs(namespace),
            subscription: Subscription::new(settings.subscriber),
            conn,
        }
    }

    /// Runs an operation on one key.
    async fn eval(
        &self,
        script: &Script,
        key: &str,
        request: &(impl Arguments + Sync),
    ) -> Result<Answer, TierError> {
        let answer = self.conn.eval(script, key, request).await;
        let answer: Answer = answer.inspect_err(|error| self.conn.count(error, 1))?;
        self.conn.observe(answer.now());
        Ok(answer)
    }

    async fn mget(&self, keys: &[Key]) -> Result<Vec<Fetched>, TierError> {
        let held: Vec<Fetched> = self.conn.query(&coalesce::read("MGET", keys)).await?;
        if held.len() == keys.len() {
            Ok(held)
        } else {
            Err(TierError::Failed("MGET: wrong number of values".into()))
        }
    }

    /// Where changes of this key are announced; nowhere if nobody keeps it near.
    fn channel_of(&self, key: &Key) -> &str {
        if key.is_index() {
            ""
        } else {
            self.conn.channel()
        }
    }
}

impl Tier for RedisTier {
    fn now(&self) -> Timestamp {
        self.conn.now()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Fetched> {
        Box::pin(async move {
            match self.reads.get(key).await {
                Ok(raw) => Ok(held(raw)),
                Err(TierError::Failed(why)) if why.contains("WRONGTYPE") => Ok(Fetched::Foreign),
                Err(error) => Err(error),
            }
        })
    }

    /// `MGET`s, a few at a time. To them a value of another type than a string is no value.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Reply<'a, Vec<Fetched>> {
        if (1..=KEYS_PER_MGET).contains(&keys.len()) {
            return Box::pin(self.mget(keys));
        }
        let parts = keys.chunks(KEYS_PER_MGET).map(|keys| self.mget(keys));
        let parts: Vec<_> = parts.collect();
        Box::pin(stream::iter(parts).buffered(MGETS_AT_A_TIME).try_concat())
    }

    fn lease<'a>(&'a self, key: &'a Key, request: Lease) -> Reply<'a, Leased> {
        Box::pin(async move {
            self.eval(&SCRIPTS.lease, key.as_str(), &request)
                .await?
                .leased()
        })
    }

    fn fill<'a>(&'a self, key: &'a Key, request: Fill) -> Reply<'a, Filled> {
        Box::pin(async move {
            let script = match request.loaded {
                Loaded::Nothing => &SCRIPTS.release,
                Loaded::Row { .. } | Loaded::Absent(_) => &SCRIPTS.fill,
            };
            self.eval(script, key.as_str(), &request).await?.filled()
        })
    }

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, ()> {
        Box::pin(async move {
            let request = Announced {
                request: &request,
                channel: self.channel_of(key),
            };
            self.eval(&SCRIPTS.block, key.as_str(), &request)
                .await?
                .blocked()
        })
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        Box::pin(async move {
            let script = match request.outcome {
                Outcome::Put { .. } => &SCRIPTS.put,
                Outcome::Invalidate { .. } | Outcome::RolledBack => &SCRIPTS.done,
            };
            let request = Announced {
                request: &request,
                channel: self.channel_of(key),
            };
            self.eval(script, key.as_str(), &request).await?.published()
        })
    }

    fn epochs<'a>(&'a self, request: EpochRequest) -> Reply<'a, EpochReply> {
        Box::pin(async move {
            let conn = &self.conn;
            let announced = Announced {
                request: &request,
                channel: conn.channel(),
            };
            let answer = conn.eval(&SCRIPTS.epoch, &self.epochs, &announced).await;
            let EpochAnswer(reply) = answer.inspect_err(|error| {
                // Reading is not what a caller asked for.
                if request.change != EpochChange::Read {
                    conn.count(error, 1);
                }
            })?;
            conn.observe(reply.now);
            Ok(reply)
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn announce<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        Box::pin(async move {
            if key.is_index() {
                return Ok(());
            }
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(self.conn.channel()).arg(key.as_str());
            self.conn.query(&publish).await
        })
    }

    fn listen(&self, listener: Arc<dyn InvalidationListener>) {
        self.subscription.listen(&self.conn, listener);
    }

    fn problem(&self) -> Option<TierError> {
        self.conn.problem()
    }
}

/// What the bytes under a key stand for.
fn held(Raw(bytes): Raw) -> Fetched {
    bytes.map_or(Fetched::Empty, |bytes| {
        Entry::try_from(bytes).map_or(Fetched::Foreign, Fetched::Entry)
    })
}

impl FromRedisValue for Fetched {
    fn from_redis_value(reply: redis::Value) -> Result<Self, ParsingError> {
        Raw::from_redis_value(reply).map(held)
    }
}

impl std::fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisTier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{scripted::Scripted, *};
    use crate::protocol::KeySpace;

    /// Goal: any number of keys is one operation: the commands go out together, and the values
    /// come back in the order of the keys, repeated or not.
    #[tokio::test]
    async fn several_keys_are_asked_for_in_bounded_commands_sent_together() {
        let server = Scripted::start();
        let (clock, stats) = (Clock::start(), Arc::new(TierStats::default()));
        let timeout = Duration::from_secs(60);
        let settings = Settings {
            pool: server.pool(),
            subscriber: None,
            namespace: "test",
            database: None,
            timeout,
            queue: 10,
        };
        let tier = RedisTier::open(settings, clock, stats).await;
        let space = KeySpace::new("test", "row");
        let mut keys: Vec<Key> = (0..2 * KEYS_PER_MGET)
            .map(|id| space.row(id as i64))
            .collect();
        keys.extend([space.row("no-such"), space.row(0)]);
        let (held, ()) = tokio::join!(tier.get_many(&keys), async {
            let lengths: Vec<usize> = server.received(3).await.iter().map(Vec::len).collect();
            assert_eq!(lengths, [KEYS_PER_MGET + 1, KEYS_PER_MGET + 1, 3]);
            (0..3).for_each(|_| server.answer());
        });
        let held = held.unwrap();
        assert_eq!(held.len(), keys.len());
        for (key, held) in keys.iter().zip(held) {
            match key.as_str() {
                "test:row:no-such" => assert!(matches!(held, Fetched::Empty)),
                // The server's answer is the key's name, which is no entry.
                _ => assert!(matches!(held, Fetched::Foreign)),
            }
        }
        assert!(tier.get_many(&[]).await.unwrap().is_empty());
        server.received(0).await;
    }
}
