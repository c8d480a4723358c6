//! The main job, embedded: SQLite in memory, the in-process tier, and the 25,000 largest cities.
//!
//! ```text
//! cargo run --example quickstart
//! cargo run --example quickstart -- --redis redis://127.0.0.1 --database postgres://user@127.0.0.1/db
//! ```
//! Against a real database it makes a table of its own, `cached_repo_quickstart_city`, and drops
//! it again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cached_repo::{Cached, CachedDb, WriteError};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectOptions, ConnectionTrait, Database,
    DatabaseConnection, DbBackend, EntityTrait, IntoActiveModel, Schema, sea_query::Table,
};

#[expect(unreachable_pub, reason = "SeaORM's derives want public items")]
mod city {
    use cached_repo::CachedEntity;
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, CachedEntity, serde::Deserialize)]
    #[sea_orm(table_name = "cached_repo_quickstart_city")]
    #[cached(ttl = "10m", negative_ttl = "30s")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub name: String,
        pub country: String,
        pub admin1: String,
        pub latitude: f64,
        pub longitude: f64,
        pub population: i64,
        pub timezone: String,
        #[cached(version)]
        #[serde(default)]
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const CITIES: &str = include_str!("data/cities.csv");
const BERLIN: i64 = 2_950_159;
const NOWHERE: i64 = 1;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse()?;
    let conn = connect(&args).await?;
    let rows = load_cities(&conn).await?;
    println!("{rows} cities in {:?}", conn.get_database_backend());

    let mut builder = CachedDb::builder(conn.clone()).namespace("quickstart");
    match &args.redis {
        Some(url) => {
            let pool = deadpool_redis::Config::from_url(url)
                .create_pool(Some(deadpool_redis::Runtime::Tokio1))?;
            builder = builder.redis(pool);
            println!("cached in Redis\n");
        }
        None => println!("cached in this process\n"),
    }
    let db = builder.build().await?;
    let cities = city::Repository::new(&db);
    // What an earlier run left in Redis is another table's.
    cities.invalidate_all().await?;

    let (cold, time) = timed(cities.find_by_id(BERLIN)).await;
    narrate("cold find", &describe(&cold?), time);
    let (warm, time) = timed(cities.find_by_id(BERLIN)).await;
    let warm = warm?;
    narrate("warm find", &describe(&warm), time);

    let berlin = warm
        .context("Berlin is missing from the data")?
        .into_model();
    let stale = berlin.clone();
    let mut grown = berlin;
    grown.population += 1;
    let (saved, time) = timed(cities.save(grown)).await;
    narrate(
        "save",
        &format!("written through, now version {}", saved?.version),
        time,
    );
    let (seen, time) = timed(cities.find_by_id(BERLIN)).await;
    narrate("find", &describe(&seen?), time);

    let (refused, time) = timed(cities.save(stale)).await;
    match refused {
        Err(error @ WriteError::VersionConflict { .. }) => {
            narrate("stale save", &error.to_string(), time);
        }
        other => bail!("a stale save went through: {other:?}"),
    }

    let change =
        |city: &mut city::ActiveModel| city.name = Set("Berlin (Athens of the Spree)".into());
    let (renamed, time) = timed(cities.update_with(BERLIN, change)).await;
    let renamed = renamed?;
    narrate(
        "update_with",
        &format!("{}, version {}", renamed.name, renamed.version),
        time,
    );

    let (deleted, time) = timed(cities.delete(renamed.into_model())).await;
    deleted?;
    narrate("delete", "gone", time);
    let (gone, time) = timed(cities.find_by_id(BERLIN)).await;
    narrate("find", &describe(&gone?), time);

    let (absent, time) = timed(cities.find_by_id(NOWHERE)).await;
    narrate("absent", &describe(&absent?), time);
    let (absent, time) = timed(cities.find_by_id(NOWHERE)).await;
    narrate(
        "absent again",
        &format!("{}, known without asking", describe(&absent?)),
        time,
    );

    let stats = cities.stats();
    println!(
        "\n{} hits, {} misses, {} SELECTs, {} writes, {} conflict; hit rate {:.0} %",
        stats.shared_hits,
        stats.misses,
        stats.loads,
        stats.writes,
        stats.conflicts,
        100.0 * stats.hit_rate(),
    );
    conn.execute(Table::drop().table(city::Entity)).await?;
    Ok(())
}

/// Where to run.
struct Args {
    database: String,
    redis: Option<String>,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Self {
            database: "sqlite::memory:".into(),
            redis: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a URL"));
            match word.as_str() {
                "--database" => args.database = value()?,
                "--redis" => args.redis = Some(value()?),
                _ => bail!("usage: quickstart [--redis URL] [--database URL]"),
            }
        }
        Ok(args)
    }
}

async fn connect(args: &Args) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(&args.database);
    options.sqlx_logging(false);
    if args.database.starts_with("sqlite::memory:") {
        // Each connection to it would be a database of its own.
        options.max_connections(1);
    }
    Ok(Database::connect(options).await?)
}

/// Fills the table with real data.
async fn load_cities(conn: &DatabaseConnection) -> Result<usize> {
    let schema = Schema::new(conn.get_database_backend());
    conn.execute(Table::drop().table(city::Entity).if_exists())
        .await?;
    let mut create = schema.create_table_from_entity(city::Entity);
    if conn.get_database_backend() == DbBackend::MySql {
        // Whatever the server's default is: the names are in every script.
        create.character_set("utf8mb4");
    }
    conn.execute(&create).await?;
    let rows: Vec<city::Model> = csv::Reader::from_reader(CITIES.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()?;
    for chunk in rows.chunks(1000) {
        let chunk = chunk.iter().cloned().map(|mut city| {
            city.version = 1;
            city.into_active_model().reset_all()
        });
        city::Entity::insert_many(chunk).exec(conn).await?;
    }
    Ok(rows.len())
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    (result, began.elapsed())
}

fn describe(city: &Option<Cached<city::Model>>) -> String {
    match city {
        Some(city) => format!(
            "{} ({}), {} people, version {}, from {:?}",
            city.name,
            city.country,
            city.population,
            city.version,
            city.source(),
        ),
        None => "no such city".into(),
    }
}

fn narrate(step: &str, what: &str, time: Duration) {
    println!("{step:>12}  {:>9.1} µs  {what}", time.as_secs_f64() * 1e6);
}
