//! What a run takes place on: the servers, the rows, and connections to them.
//!
//! Servers are started when a case first asks for them, so that one that needs none starts at once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use cached_repo_harness::{Postgres, Redis};
use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use sea_orm::{
    ColumnTrait, ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait,
    QueryFilter, sea_query::Expr,
};
use tokio::sync::OnceCell;

use crate::{
    city::{self, City},
    keys::{Keys, Popularity},
    peers::{Contender, Lineup},
};

/// As on a database that must not lose anything. The statistics count only for connections that
/// ask for it, see [`Counted::Statements`].
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "none"),
    ("max_wal_size", "1GB"),
];
/// Connections of each pool. On two cores, more do not make PostgreSQL faster.
const CONNECTIONS: u32 = 16;

/// Where everything happens.
pub(crate) struct Stage {
    pub(crate) cities: Arc<[City]>,
    servers: OnceCell<Servers>,
    lineup: OnceCell<Lineup>,
}

/// Two databases that differ in the disk, and a cache.
pub(crate) struct Servers {
    durable: Postgres,
    quick: Postgres,
    redis: Redis,
}

/// Which disk the database is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// This machine's, and every commit waits for it.
    Real,
    /// One whose fsync is nearly free: a commit waits until its log is written, and not until the
    /// disk has it. Otherwise the same server.
    Quick,
}

/// Whether the database counts a connection's statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Nothing,
    /// In `pg_stat_statements`.
    Statements,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            cities: city::all()?.into(),
            servers: OnceCell::new(),
            lineup: OnceCell::new(),
        })
    }

    pub(crate) fn keys(&self, popularity: Popularity) -> Result<Keys> {
        Keys::of(&self.cities, popularity)
    }

    pub(crate) async fn servers(&self) -> Result<&Servers> {
        self.servers.get_or_try_init(|| self.start()).await
    }

    async fn start(&self) -> Result<Servers> {
        let (durable, quick) = tokio::try_join!(start_postgres(None), start_postgres(Some("off")))?;
        let redis = tokio::task::spawn_blocking(Redis::start).await??;
        let servers = Servers {
            durable,
            quick,
            redis,
        };
        for disk in [Disk::Real, Disk::Quick] {
            let conn = connect(servers.url(disk), Counted::Nothing).await?;
            conn.execute_unprepared("CREATE EXTENSION pg_stat_statements")
                .await?;
            city::store(&conn, &self.cities).await?;
        }
        Ok(servers)
    }

    /// The table of cities on a server, over a pool of its own.
    pub(crate) async fn database(&self, disk: Disk) -> Result<Database> {
        Database::connect(&self.servers().await?.url(disk), Counted::Nothing).await
    }

    /// Everyone, over the database on this machine's disk. A case that needs empty caches calls
    /// [`flush`](Self::flush), one that needs full ones fills them.
    pub(crate) async fn lineup(&self) -> Result<&Lineup> {
        let open = async || {
            let database = self.database(Disk::Real).await?;
            Lineup::open(&database, &self.servers().await?.redis_url()).await
        };
        self.lineup.get_or_try_init(open).await
    }

    /// Empties a contender's cache.
    pub(crate) async fn flush<C: Contender>(&self) -> Result<()> {
        let mut redis = self.redis::<C>().await?;
        Ok(redis::cmd("FLUSHDB").query_async(&mut redis).await?)
    }

    /// To look at what a contender stored.
    pub(crate) async fn redis<C: Contender>(&self) -> Result<MultiplexedConnection> {
        let url = format!(
            "{}/{}",
            self.servers().await?.redis_url(),
            C::REDIS_DATABASE
        );
        let client = redis::Client::open(url)?;
        Ok(client.get_multiplexed_async_connection().await?)
    }
}

impl Servers {
    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn url(&self, disk: Disk) -> String {
        match disk {
            Disk::Real => self.durable.url(),
            Disk::Quick => self.quick.url(),
        }
    }
}

async fn start_postgres(fsync: Option<&'static str>) -> Result<Postgres> {
    let start = move || {
        let settings = SETTINGS
            .into_iter()
            .chain(fsync.map(|value| ("fsync", value)));
        settings
            .fold(Postgres::builder(), |builder, (name, value)| {
                builder.setting(name, value)
            })
            .start()
    };
    tokio::task::spawn_blocking(start).await?
}

async fn connect(url: String, counted: Counted) -> Result<DatabaseConnection> {
    let url = match counted {
        Counted::Nothing => url,
        Counted::Statements => format!("{url}?options=-c%20pg_stat_statements.track%3Dtop"),
    };
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(CONNECTIONS)
        .min_connections(CONNECTIONS)
        // A statement per statement less; the peers gain more by it than we do.
        .test_before_acquire(false)
        .sqlx_logging(false);
    Ok(sea_orm::Database::connect(options).await?)
}

/// The table of cities, as the contenders use it: by plain SeaORM, and counting what it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    conn: DatabaseConnection,
    selects: Arc<AtomicU64>,
}

impl Database {
    pub(crate) async fn connect(url: &str, counted: Counted) -> Result<Self> {
        Ok(Self {
            conn: connect(url.to_owned(), counted).await?,
            selects: Arc::default(),
        })
    }

    /// The same pool, with a count of its own.
    pub(crate) fn for_another(&self) -> Self {
        Self {
            conn: self.conn.clone(),
            selects: Arc::default(),
        }
    }

    pub(crate) fn conn(&self) -> &DatabaseConnection {
        &self.conn
    }

    pub(crate) async fn select(&self, id: i64) -> Result<Option<City>, DbErr> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        city::Entity::find_by_id(id).one(&self.conn).await
    }

    pub(crate) fn selects(&self) -> u64 {
        self.selects.load(Ordering::Relaxed)
    }

    /// The UPDATE of somebody who caches by hand: by key, unchecked.
    pub(crate) async fn set_population(&self, id: i64, population: i64) -> Result<(), DbErr> {
        city::Entity::update_many()
            .col_expr(city::Column::Population, Expr::value(population))
            .filter(city::Column::Id.eq(id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// How many SELECTs on the table its counted connections have sent, by the server's count.
    pub(crate) async fn counted_selects(&self) -> Result<i64> {
        let calls = "SELECT COALESCE(SUM(calls), 0)::bigint AS calls FROM pg_stat_statements \
                     WHERE query LIKE 'SELECT \"city\"%'";
        let row = self.conn.query_one_raw(sea_orm::Statement::from_string(
            sea_orm::DbBackend::Postgres,
            calls,
        ));
        let row = row.await?.context("a sum is one row")?;
        Ok(row.try_get("", "calls")?)
    }
}
