//! Empty caches: every one of 20,000 rows is asked for once, by 256 tasks.

use anyhow::{Context, Result};
use cached_repo_report::{Contest, Figure};

use super::Case;
use crate::{
    load::{Entrant, alternate, sweep},
    peers::{CachedCrate, Contender, Ours, SeaOrm},
    stage::{Counted, Database, Disk, Stage},
};

const TASKS: usize = 256;
const NAME: &str = "cold_256";
/// By our own count, of the rounds that are timed.
const ROWS_PER_STATEMENT: &str = "cold_rows_per_statement";
/// By PostgreSQL's count, in a run that is not timed, since counting takes time.
const BY_POSTGRESQL: &str = "cold_rows_per_statement_by_postgresql";

pub(super) fn cases() -> Vec<Case> {
    let contenders = [Ours::NAME, SeaOrm::NAME, CachedCrate::NAME];
    let mut figures = Contest::names(NAME, &contenders);
    figures.extend([ROWS_PER_STATEMENT, BY_POSTGRESQL].map(str::to_owned));
    vec![Case::new(NAME, figures, |stage| Box::pin(run(stage)))]
}

async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let lineup = stage.lineup().await?;
    let entrants = vec![
        entrant(&lineup.ours, stage),
        entrant(&lineup.seaorm, stage),
        entrant(&lineup.cached, stage),
    ];
    let before = lineup.ours.cities.stats().loads;
    let contest = alternate(NAME, "row/s", entrants).await?;
    let loads = lineup.ours.cities.stats().loads - before;
    let (_, rounds) = contest.samples.first().context("ours is there")?;
    // The round that is thrown away has loaded too.
    let rows = stage.cities.len() * (rounds.len() + 1);
    let mut figures = contest.into_figures();
    for (name, per_statement) in [
        (ROWS_PER_STATEMENT, rows as f64 / loads as f64),
        (BY_POSTGRESQL, counted_rows_per_statement(stage).await?),
    ] {
        figures.push(Figure::exact(name, "rows", per_statement));
    }
    Ok(figures)
}

fn entrant<'a, C: Contender>(contender: &C, stage: &'a Stage) -> Entrant<'a> {
    let contender = contender.clone();
    Entrant::new(C::NAME, move || {
        let contender = contender.clone();
        async move {
            stage.flush::<C>().await?;
            rows_per_second(&contender, stage).await
        }
    })
}

async fn rows_per_second<C: Contender>(contender: &C, stage: &Stage) -> Result<f64> {
    let (contender, cities) = (contender.clone(), stage.cities.clone());
    let rows = cities.len();
    let time = sweep(TASKS, rows, move |at| {
        let (contender, id) = (contender.clone(), cities[at].id);
        async move { contender.find(id).await.map(drop) }
    });
    Ok(rows as f64 / time.await?.as_secs_f64())
}

async fn counted_rows_per_statement(stage: &Stage) -> Result<f64> {
    let servers = stage.servers().await?;
    let url = servers.url(Disk::Real);
    let database = Database::connect(&url, Counted::Statements).await?;
    let redis_url = format!("{}/{}", servers.redis_url(), Ours::REDIS_DATABASE);
    let ours = Ours::open(database.clone(), &redis_url).await?;
    stage.flush::<Ours>().await?;
    let before = database.counted_selects().await?;
    rows_per_second(&ours, stage).await?;
    let statements = database.counted_selects().await? - before;
    Ok(stage.cities.len() as f64 / statements as f64)
}
