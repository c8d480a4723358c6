//! Writes against plain SeaORM doing the same: the UPDATE of every column under the same version
//! check, the INSERT of the same row.
//!
//! On a disk whose fsync is nearly free, which is our worst case: the round trips to Redis weigh
//! most there. The same on this machine's disk under other names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use cached_repo_report::{Contest, Figure};
use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseConnection, EntityTrait,
    IntoActiveModel, QueryFilter,
};
use tokio::sync::Mutex;

use super::Case;
use crate::{
    city::{self, City},
    load::{Entrant, alternate, latency, throughput},
    peers::{Contender, Ours, SeaOrm},
    stage::{Disk, Stage},
};

const TASKS: usize = 64;
const WINDOW: Duration = Duration::from_millis(300);
/// Rows of each contender; a multiple of the tasks, so that no two tasks write the same row.
const ROWS: usize = 9_984;
/// Above every id of GeoNames; an atomic, so that no two runs of a case insert the same row.
static NEXT_ID: AtomicI64 = AtomicI64::new(1_000_000_000);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Save,
    Insert,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (verb, text) in [(Verb::Save, "save"), (Verb::Insert, "insert")] {
        for tasks in [1, TASKS] {
            for (disk, suffix) in [(Disk::Quick, ""), (Disk::Real, "_durable")] {
                let name = format!("{text}_{tasks}{suffix}");
                let figures = Contest::names(&name, &[Ours::NAME, SeaOrm::NAME]);
                cases.push(Case::new(name.clone(), figures, move |stage| {
                    Box::pin(run(stage, name.clone(), verb, tasks, disk))
                }));
            }
        }
    }
    cases
}

async fn run(
    stage: &Stage,
    case: String,
    verb: Verb,
    tasks: usize,
    disk: Disk,
) -> Result<Vec<Figure>> {
    let database = stage.database(disk).await?;
    let conn = database.conn();
    let redis_url = format!(
        "{}/{}",
        stage.servers().await?.redis_url(),
        Ours::REDIS_DATABASE
    );
    stage.flush::<Ours>().await?;
    let ours = Ours::open(database.for_another(), &redis_url).await?;
    let stored = stored(conn).await?;
    let (some, others) = (&stored[..ROWS], &stored[ROWS..2 * ROWS]);
    let entrants = vec![
        entrant(Ours::NAME, Rows::of(some, Writer::Ours(ours)), verb, tasks),
        entrant(
            SeaOrm::NAME,
            Rows::of(others, Writer::SeaOrm(conn.clone())),
            verb,
            tasks,
        ),
    ];
    let unit = if tasks == 1 { "µs" } else { "op/s" };
    let contest = alternate(case, unit, entrants).await?;
    Ok(contest.into_figures())
}

/// The cities as they are now: earlier cases have written them.
async fn stored(conn: &DatabaseConnection) -> Result<Vec<City>> {
    let cities = city::Entity::find().filter(city::Column::Id.lt(1_000_000_000));
    Ok(cities.all(conn).await?)
}

fn entrant(name: &'static str, rows: Arc<Rows>, verb: Verb, tasks: usize) -> Entrant<'static> {
    Entrant::new(name, move || {
        let rows = Arc::clone(&rows);
        let measured: BoxFuture<'static, Result<f64>> = if tasks == 1 {
            Box::pin(latency(WINDOW, move |turn| {
                let rows = Arc::clone(&rows);
                async move { rows.write(verb, turn).await }
            }))
        } else {
            Box::pin(async move {
                let work = |task, turns| {
                    let rows = Arc::clone(&rows);
                    async move {
                        for turn in turns {
                            rows.write(verb, turn * tasks + task).await?;
                        }
                        Ok(())
                    }
                };
                throughput(tasks, WINDOW, work).await
            })
        };
        measured
    })
}

/// Who writes.
enum Writer {
    Ours(Ours),
    SeaOrm(DatabaseConnection),
}

/// Rows that one contender writes, as it knows them.
struct Rows {
    writer: Writer,
    /// Never contended: it only carries the version from one round to the next.
    cities: Vec<Mutex<City>>,
}

impl Rows {
    fn of(cities: &[City], writer: Writer) -> Arc<Self> {
        let cities = cities.iter().cloned().map(Mutex::new).collect();
        Arc::new(Self { writer, cities })
    }

    async fn write(&self, verb: Verb, turn: usize) -> Result<()> {
        let mut known = self.cities[turn % self.cities.len()].lock().await;
        let mut city = known.clone();
        match verb {
            Verb::Save => {
                city.population += 1;
                *known = self.writer.save(city).await?;
            }
            Verb::Insert => {
                city.id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                self.writer.insert(city).await?;
            }
        }
        Ok(())
    }
}

impl Writer {
    async fn save(&self, city: City) -> Result<City> {
        match self {
            Self::Ours(ours) => Ok(ours.cities.save(city).await?.into_model()),
            Self::SeaOrm(conn) => {
                let version = city.version;
                let mut active = city.into_active_model().reset_all();
                active.version = Set(version + 1);
                let update = city::Entity::update(active).validate()?;
                let checked = update.filter(city::Column::Version.eq(version));
                Ok(checked.exec(conn).await?)
            }
        }
    }

    async fn insert(&self, city: City) -> Result<City> {
        let active = city.into_active_model().reset_all();
        match self {
            Self::Ours(ours) => Ok(ours.cities.insert(active).await?.into_model()),
            Self::SeaOrm(conn) => {
                let insert = city::Entity::insert(active);
                Ok(insert.exec_with_returning(conn).await?)
            }
        }
    }
}
