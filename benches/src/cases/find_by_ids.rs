//! Many rows at a time that are in Redis, by one task, against SeaORM's `IN` query.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use cached_repo_report::{Contest, Figure};
use deadpool_redis::redis::{self, InfoDict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{Case, shared_hit::warm};
use crate::{
    city, keys,
    load::{Entrant, alternate, throughput},
    peers::{CacheAside, Contender, Ours, SeaOrm},
    stage::{Disk, Stage},
};

const SIZES: [usize; 2] = [100, 1000];
const WINDOW: Duration = Duration::from_millis(300);
/// Different sets of rows, asked for in turn.
const BATCHES: usize = 64;
/// The peers that have no batches are missing.
const CONTENDERS: [&str; 3] = [Ours::NAME, SeaOrm::NAME, CacheAside::NAME];

pub(super) fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|size| {
            let name = format!("find_by_ids_{size}");
            let mut figures = Contest::names(&name, &CONTENDERS);
            figures.push(commands_name(&name));
            Case::new(name.clone(), figures, move |stage| {
                Box::pin(run(stage, name.clone(), size))
            })
        })
        .collect()
}

fn commands_name(case: &str) -> String {
    format!("{case}_redis_commands")
}

async fn run(stage: &Stage, case: String, size: usize) -> Result<Vec<Figure>> {
    let lineup = stage.lineup().await?;
    warm(&lineup.ours, stage).await?;
    warm(&lineup.cache_aside, stage).await?;
    let database = stage.database(Disk::Real).await?;
    let batches: Arc<[Vec<i64>]> = (0..BATCHES)
        .map(|turn| {
            let ranks = keys::distinct(stage.cities.len(), size, turn);
            ranks
                .into_iter()
                .map(|rank| stage.cities[rank].id)
                .collect()
        })
        .collect();

    let cities = lineup.ours.cities.clone();
    let ours = entrant(Ours::NAME, &batches, move |ids| {
        let cities = cities.clone();
        async move {
            let found = cities.find_by_ids(ids.iter().copied()).await?;
            Ok(found.iter().flatten().count())
        }
    });
    let commands = redis_commands(stage, &batches).await?;
    let conn = database.conn().clone();
    let seaorm = entrant(SeaOrm::NAME, &batches, move |ids| {
        let conn = conn.clone();
        async move {
            let query = city::Entity::find().filter(city::Column::Id.is_in(ids.iter().copied()));
            Ok(query.all(&conn).await?.len())
        }
    });
    let by_hand = lineup.cache_aside.clone();
    let cache_aside = entrant(CacheAside::NAME, &batches, move |ids| {
        let by_hand = by_hand.clone();
        async move { by_hand.find_many(&ids).await }
    });
    let contest = alternate(&*case, "op/s", vec![ours, seaorm, cache_aside]).await?;
    let mut figures = contest.into_figures();
    figures.push(Figure::exact(commands_name(&case), "commands", commands));
    Ok(figures)
}

fn entrant<F>(
    name: &'static str,
    batches: &Arc<[Vec<i64>]>,
    find: impl Fn(Vec<i64>) -> F + Clone + Send + 'static,
) -> Entrant<'static>
where
    F: Future<Output = Result<usize>> + Send + 'static,
{
    let batches = Arc::clone(batches);
    Entrant::new(name, move || {
        let (find, batches) = (find.clone(), Arc::clone(&batches));
        throughput(1, WINDOW, move |_, turns| {
            let (find, batches) = (find.clone(), Arc::clone(&batches));
            async move {
                for turn in turns {
                    let batch = &batches[turn % BATCHES];
                    let found = find(batch.clone()).await?;
                    ensure!(found == batch.len(), "{found} rows of {}", batch.len());
                }
                Ok(())
            }
        })
    })
}

/// How many commands Redis counts for one `find_by_ids` of ours.
async fn redis_commands(stage: &Stage, batches: &[Vec<i64>]) -> Result<f64> {
    let cities = &stage.lineup().await?.ours.cities;
    let mut redis = stage.redis::<Ours>().await?;
    let () = redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .query_async(&mut redis)
        .await?;
    for batch in batches {
        cities.find_by_ids(batch.iter().copied()).await?;
    }
    let info: InfoDict = redis::cmd("INFO")
        .arg("stats")
        .query_async(&mut redis)
        .await?;
    let processed: f64 = info
        .get("total_commands_processed")
        .context("Redis counts its commands")?;
    // Less what resets the count, which the count of some versions includes.
    Ok((processed / batches.len() as f64).floor())
}
