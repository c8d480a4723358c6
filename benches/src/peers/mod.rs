//! Those that are compared, each in its best documented way: ours, and one file per peer.
//!
//! All of them hit the same PostgreSQL by the same SeaORM over the same pool, and the same Redis.

mod cache_aside;
mod cached;
mod moka;
mod multi_tier;
mod ours;
mod quick_cache;
mod rdcache;
mod seaorm;

use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use self::{
    cache_aside::CacheAside, cached::CachedCrate, moka::Moka, multi_tier::MultiTier, ours::Ours,
    quick_cache::QuickCache, rdcache::Rdcache, seaorm::SeaOrm,
};
use crate::stage::Database;

/// How long a row is kept; longer than any run.
const TTL: Duration = Duration::from_secs(3600);

/// A row's key, as a team that writes the cache by hand spells it.
fn key(id: i64) -> String {
    format!("city:{id}")
}

/// A way to read and write cities.
pub(crate) trait Contender: Clone + Send + Sync + Sized + 'static {
    const NAME: &'static str;
    const REDIS_DATABASE: u8;

    /// Over this database and the Redis at this URL.
    fn open(database: Database, redis_url: &str) -> impl Future<Output = Result<Self>>;

    /// Reads a row as it would be read in an application, and returns its population.
    fn find(&self, id: i64) -> impl Future<Output = Result<i64>> + Send;

    /// Gives a row another population, and sees to it that the cache does not keep the old one.
    fn set_population(&self, id: i64, population: i64) -> impl Future<Output = Result<()>> + Send;

    /// How many rows it has asked the database for so far.
    fn selects(&self) -> u64;
}

/// Everyone, over one pool of connections to the database; ours first.
pub(crate) struct Lineup {
    pub(crate) ours: Ours,
    pub(crate) cache_aside: CacheAside,
    pub(crate) cached: CachedCrate,
    pub(crate) multi_tier: MultiTier,
    pub(crate) rdcache: Rdcache,
    pub(crate) seaorm: SeaOrm,
}

impl Lineup {
    pub(crate) const NAMES: [&'static str; 6] = [
        Ours::NAME,
        CacheAside::NAME,
        CachedCrate::NAME,
        MultiTier::NAME,
        Rdcache::NAME,
        SeaOrm::NAME,
    ];

    /// With empty caches. `redis_url` is that of a server.
    pub(crate) async fn open(database: &Database, redis_url: &str) -> Result<Self> {
        Ok(Self {
            ours: open(database, redis_url).await?,
            cache_aside: open(database, redis_url).await?,
            cached: open(database, redis_url).await?,
            multi_tier: open(database, redis_url).await?,
            rdcache: open(database, redis_url).await?,
            seaorm: open(database, redis_url).await?,
        })
    }
}

/// Each has a database of its own in Redis and a count of its own of what it asks PostgreSQL for.
async fn open<C: Contender>(database: &Database, redis_url: &str) -> Result<C> {
    let redis_url = format!("{redis_url}/{}", C::REDIS_DATABASE);
    C::open(database.for_another(), &redis_url)
        .await
        .with_context(|| format!("opening {}", C::NAME))
}

/// Calls `$action(&contender, …).await?` for everyone, in the order of [`Lineup::NAMES`].
macro_rules! for_each {
    ($lineup:expr, $action:ident $(, $argument:expr)*) => {{
        let lineup = &$lineup;
        [
            $action(&lineup.ours $(, $argument)*).await?,
            $action(&lineup.cache_aside $(, $argument)*).await?,
            $action(&lineup.cached $(, $argument)*).await?,
            $action(&lineup.multi_tier $(, $argument)*).await?,
            $action(&lineup.rdcache $(, $argument)*).await?,
            $action(&lineup.seaorm $(, $argument)*).await?,
        ]
    }};
}
pub(crate) use for_each;
