//! Rows that are in the process: the time of a hit, its instructions, and the memory that a row
//! takes.
//!
//! The same rows as everywhere, under an entity of their own that has a near cache.

use std::{
    env, fs,
    hint::black_box,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cached_repo::{CachedDb, Source};
use cached_repo_report::{Contest, Figure};
use deadpool_redis::{Runtime, redis};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use tokio::process::Command;

use self::near_city::{Column, Entity, Model as NearCity};
use super::{Case, instructions, owned};
use crate::{
    city::{self, city_entity},
    keys::{Keys, Popularity},
    load::{Entrant, alternate},
    peers::{Contender, Moka, Ours, QuickCache},
    stage::{Counted, Database, Disk, Stage},
};

city_entity!(near_city, #[cached(name = "near_city", near(capacity = 150_000, ttl = "10m"))]);

/// The first argument of a process whose memory is measured; the name of the cache that keeps the
/// rows and the URLs of the servers follow.
pub(crate) const HOARD: &str = "--hoard";

pub(super) const HIT: &str = "near_hit";
const INSTRUCTIONS: &str = "near_hit_instructions";
const QUICK_CACHE: &str = "quick_cache";
const MOKA: &str = "moka";
const CONTENDERS: [&str; 3] = [Ours::NAME, QUICK_CACHE, MOKA];
/// What `near_city` says.
const CAPACITY: usize = 150_000;
const TTL: Duration = Duration::from_secs(600);
const NEAR_LIMIT: Duration = Duration::from_secs(5);
/// Hits of a round.
const HITS: usize = 200_000;
/// Rows that are kept for their memory to be measured, and how many of them are kept before the
/// measure begins, so that all that is allocated once is not counted.
const KEPT: usize = 100_000;
const KEPT_BEFORE: usize = 10_000;
/// The ids of those rows, which no other case knows.
const KEPT_FROM: i64 = 3_000_000_000;
const BATCH: usize = 500;

pub(super) fn cases() -> Vec<Case> {
    let hits = |case, popularity| {
        let figures = Contest::names(case, &CONTENDERS);
        Case::new(case, figures, move |stage| {
            Box::pin(hit_times(stage, case, popularity))
        })
    };
    let bytes = CONTENDERS.map(entry_bytes).to_vec();
    vec![
        hits(HIT, Popularity::Zipf),
        hits("near_hit_uniform", Popularity::Uniform),
        Case::new(INSTRUCTIONS, owned(&[INSTRUCTIONS]), |stage| {
            Box::pin(async move {
                let urls = urls(stage).await?;
                let servers = urls.each_ref().map(String::as_str);
                instructions::count(INSTRUCTIONS.to_owned(), HIT, &servers)
            })
        }),
        Case::new("near_entry_bytes", bytes, |stage| Box::pin(memory(stage))),
    ]
}

fn entry_bytes(keeper: &str) -> String {
    format!("near_entry_bytes_{keeper}")
}

/// The database and the Redis of ours.
async fn urls(stage: &Stage) -> Result<[String; 2]> {
    let servers = stage.servers().await?;
    let redis = format!("{}/{}", servers.redis_url(), Ours::REDIS_DATABASE);
    Ok([servers.url(Disk::Quick), redis])
}

async fn open(database_url: &str, redis_url: &str) -> Result<(Database, near_city::Repository)> {
    let database = Database::connect(database_url, Counted::Nothing).await?;
    let pool = deadpool_redis::Config::from_url(redis_url).create_pool(Some(Runtime::Tokio1))?;
    let db = CachedDb::builder(database.conn().clone())
        .redis(pool)
        .subscriber(redis::Client::open(redis_url)?)
        .namespace("bench")
        .ttl(TTL)
        .build()
        .await?;
    Ok((database, near_city::Repository::new(&db)))
}

/// Reads a row until it comes from the process, which it does only while invalidations arrive.
async fn near(cities: &near_city::Repository, id: i64) -> Result<Arc<NearCity>> {
    let began = Instant::now();
    while began.elapsed() < NEAR_LIMIT {
        let city = cities.find_by_id(id).await?.context("no such city")?;
        if city.source() == Source::Near {
            return Ok(Arc::new(city.into_model()));
        }
    }
    bail!("row {id} does not become near")
}

async fn hit_times(
    stage: &Stage,
    case: &'static str,
    popularity: Popularity,
) -> Result<Vec<Figure>> {
    let [database_url, redis_url] = urls(stage).await?;
    let (_, cities) = open(&database_url, &redis_url).await?;
    let (quick, moka) = (QuickCache::new(CAPACITY), Moka::new(CAPACITY as u64, TTL));
    let ids: Vec<i64> = stage.cities.iter().map(|city| city.id).collect();
    near(&cities, ids[0]).await?;
    for ids in ids.chunks(BATCH) {
        cities.find_by_ids(ids.iter().copied()).await?;
    }
    for city in &*stage.cities {
        let row = near(&cities, city.id).await?;
        quick.insert(city.id, Arc::clone(&row));
        moka.insert(city.id, row).await;
    }
    let keys = stage.keys(popularity)?;
    let entrants = vec![
        entrant(Ours::NAME, &keys, async move |id| {
            let city = cities.find_by_id(id).await.ok().flatten();
            city.filter(|city| city.source() == Source::Near)
                .map(|city| city.population)
        }),
        entrant(QUICK_CACHE, &keys, async move |id| {
            quick.get(id).map(|city| city.population)
        }),
        entrant(MOKA, &keys, async move |id| {
            moka.get(id).await.map(|city| city.population)
        }),
    ];
    Ok(alternate(case, "ns", entrants).await?.into_figures())
}

/// Nanoseconds per hit, of one task that does nothing else.
fn entrant<'a>(
    name: &'static str,
    keys: &'a Keys,
    get: impl AsyncFn(i64) -> Option<i64> + 'a,
) -> Entrant<'a> {
    let get = Arc::new(get);
    Entrant::new(name, move || {
        let get = Arc::clone(&get);
        async move {
            let began = Instant::now();
            for turn in 0..HITS {
                let population = get(keys.get(0, turn)).await;
                black_box(population).context("not a near hit")?;
            }
            Ok(began.elapsed().as_secs_f64() * 1e9 / HITS as f64)
        }
    })
}

/// What a run under callgrind does.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn spin(iterations: u64, servers: &[&str]) -> Result<()> {
    let [database_url, redis_url] = *servers else {
        bail!("two URLs are needed");
    };
    let (_, cities) = open(database_url, redis_url).await?;
    let id = city::all()?[0].id;
    near(&cities, id).await?;
    for _ in 0..iterations {
        let city = cities.find_by_id(black_box(id)).await?;
        black_box(city).context("no such city")?;
    }
    Ok(())
}

async fn memory(stage: &Stage) -> Result<Vec<Figure>> {
    let [database_url, redis_url] = urls(stage).await?;
    let database = stage.database(Disk::Quick).await?;
    let copies = format!(
        "INSERT INTO city SELECT {KEPT_FROM} + row_number() OVER () - 1, name, country, admin1, \
         latitude, longitude, population, timezone, summary, 1 \
         FROM city CROSS JOIN generate_series(1, 5) LIMIT {KEPT}"
    );
    database.conn().execute_unprepared(&copies).await?;
    let mut figures = Vec::new();
    for keeper in CONTENDERS {
        let output = Command::new(env::current_exe()?)
            .args([HOARD, keeper, &database_url, &redis_url])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .await?;
        ensure!(output.status.success(), "the process of {keeper} failed");
        let bytes = String::from_utf8(output.stdout)?.trim().parse()?;
        figures.push(Figure::exact(entry_bytes(keeper), "bytes", bytes));
    }
    let added = Entity::delete_many().filter(Column::Id.gte(KEPT_FROM));
    added.exec(database.conn()).await?;
    Ok(figures)
}

/// Keeps rows, and says by how many bytes that made this process grow, each.
pub(crate) async fn hoard(keeper: &str, database_url: &str, redis_url: &str) -> Result<()> {
    let (database, cities) = open(database_url, redis_url).await?;
    let quick = QuickCache::new(CAPACITY);
    let moka = Moka::new(CAPACITY as u64, TTL);
    let ids: Vec<i64> = (KEPT_FROM..).take(KEPT).collect();
    let mut before = 0;
    for (batch, ids) in ids.chunks(BATCH).enumerate() {
        if batch == KEPT_BEFORE / BATCH {
            before = resident_bytes()?;
        }
        if keeper == Ours::NAME {
            for city in cities.find_by_ids(ids.iter().copied()).await? {
                city.context("no such city")?;
            }
            continue;
        }
        let query = Entity::find().filter(Column::Id.is_in(ids.iter().copied()));
        for city in query.all(database.conn()).await? {
            match keeper {
                QUICK_CACHE => quick.insert(city.id, Arc::new(city)),
                MOKA => moka.insert(city.id, Arc::new(city)).await,
                _ => bail!("nobody is called `{keeper}`"),
            }
        }
    }
    let grown = resident_bytes()?.saturating_sub(before);
    let far = farther(keeper, &cities, &ids[KEPT - BATCH..]).await?;
    ensure!(far == 0, "{far} of the last rows were not kept");
    println!("{}", grown / (KEPT - KEPT_BEFORE) as u64);
    Ok(())
}

/// How many of these rows are not in the process.
async fn farther(keeper: &str, cities: &near_city::Repository, ids: &[i64]) -> Result<usize> {
    if keeper != Ours::NAME {
        return Ok(0);
    }
    let found = cities.find_by_ids(ids.iter().copied()).await?;
    let far = found.iter().flatten();
    Ok(far.filter(|city| city.source() != Source::Near).count())
}

fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("Linux says how much memory a process has")?;
    Ok(kilobytes.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
