//! The Redis tier: each operation is one script on one key, and a hit is a plain `GET`.
//!
//! Needs Redis 7 or a server that speaks its commands (`PEXPIRETIME`, `SET … PXAT`, script
//! flags). No script touches two keys.

mod lane;
pub mod scripts;
pub mod wire;

use std::{sync::Arc, time::Duration};

use deadpool_redis::{Pool, redis};
use futures_util::future::try_join_all;

use self::{
    lane::Lane,
    scripts::{SCRIPTS, Script},
    wire::{Answer, Arguments, Raw},
};
use super::{Held, Reply, Tier, TierError};
use crate::{
    clock::Clock,
    protocol::{
        Entry, Key, Timestamp,
        state::{Block, Blocked, Done, Fill, Filled, Found, Lease, Leased, Published},
    },
    telemetry::TierStats,
};

/// Keys that one MGET asks for; a server serves nobody else meanwhile.
const KEYS_PER_MGET: usize = 512;
/// Keys that one step of [`RedisTier::invalidate_all`] looks at.
const SCAN_COUNT: usize = 500;

/// The tier that processes share.
pub(crate) struct RedisTier {
    lane: Arc<Lane>,
}

impl RedisTier {
    /// A tier over `pool`. Without a server it starts all the same: reads go to the database
    /// until there is one.
    pub(crate) async fn open(
        pool: Pool,
        timeout: Duration,
        clock: Clock,
        stats: Arc<TierStats>,
    ) -> Self {
        Self {
            lane: Lane::open(pool, timeout, clock, stats).await,
        }
    }

    /// Runs an operation on one key.
    async fn eval(
        &self,
        script: &Script,
        key: &str,
        request: &(impl Arguments + Sync),
    ) -> Result<Answer, TierError> {
        let answer: Answer = self.lane.eval(script, key, request).await?;
        self.lane.observe(answer.now());
        Ok(answer)
    }

    async fn done(&self, key: &str, request: &Done) -> Result<Published, TierError> {
        self.eval(&SCRIPTS.done, key, request).await?.published()
    }
}

impl Tier for RedisTier {
    fn now(&self) -> Timestamp {
        self.lane.now()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Held> {
        Box::pin(async move {
            let mut cmd = redis::cmd("GET");
            cmd.arg(key.as_str());
            match self.lane.query(&cmd).await {
                Ok(raw) => Ok(held(raw)),
                Err(TierError::Failed(why)) if why.contains("WRONGTYPE") => Ok(Held::Foreign),
                Err(error) => Err(error),
            }
        })
    }

    /// `MGET`s, sent together. To them a value of another type than a string is no value.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Reply<'a, Vec<Held>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut pipeline = redis::pipe();
            for keys in keys.chunks(KEYS_PER_MGET) {
                let cmd = pipeline.cmd("MGET");
                for key in keys {
                    cmd.arg(key.as_str());
                }
            }
            let replies: Vec<Vec<Raw>> = self.lane.pipeline(&pipeline).await?;
            let values: Vec<Held> = replies.into_iter().flatten().map(held).collect();
            if values.len() == keys.len() {
                Ok(values)
            } else {
                Err(TierError::Failed("MGET: wrong number of values".into()))
            }
        })
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
            let script = match request.found {
                Found::Nothing => &SCRIPTS.release,
                Found::Row { .. } | Found::Absent(_) => &SCRIPTS.fill,
            };
            self.eval(script, key.as_str(), &request).await?.filled()
        })
    }

    fn block<'a>(&'a self, key: &'a Key, request: Block) -> Reply<'a, Blocked> {
        Box::pin(async move {
            self.eval(&SCRIPTS.block, key.as_str(), &request)
                .await?
                .blocked()
        })
    }

    fn done<'a>(&'a self, key: &'a Key, request: Done) -> Reply<'a, Published> {
        Box::pin(async move { self.done(key.as_str(), &request).await })
    }

    fn invalidate_all<'a>(&'a self, prefix: &'a str, request: Done) -> Reply<'a, u64> {
        // A key that exists throughout a full SCAN is returned by it; that is all this relies on.
        Box::pin(async move {
            let mut invalidated = 0;
            let mut cursor = 0u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                // The prefix is percent-encoded, so it holds no pattern characters.
                scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*"));
                scan.arg("COUNT").arg(SCAN_COUNT);
                let (next, keys): (u64, Vec<String>) = self.lane.query(&scan).await?;
                try_join_all(keys.iter().map(|key| self.done(key, &request))).await?;
                invalidated += keys.len() as u64;
                if next == 0 {
                    return Ok(invalidated);
                }
                cursor = next;
            }
        })
    }
}

/// What the bytes under a key stand for.
fn held(Raw(bytes): Raw) -> Held {
    bytes.map_or(Held::Nothing, |bytes| {
        Entry::from_bytes(&bytes).map_or(Held::Foreign, Held::Entry)
    })
}

impl std::fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisTier").finish_non_exhaustive()
    }
}
