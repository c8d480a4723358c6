//! Rows that are in Redis, read by 1 to 1,024 tasks.

use std::time::Duration;

use anyhow::Result;
use cached_repo_report::{Contest, Figure};

use super::Case;
use crate::{
    keys::{Keys, Popularity},
    load::{Entrant, alternate, sweep, throughput},
    peers::{Contender, Lineup, for_each},
    stage::Stage,
};

const TASKS: [usize; 4] = [1, 64, 256, 1024];
const WINDOW: Duration = Duration::from_millis(300);
/// Tasks that warm a cache.
const WARMERS: usize = 64;

pub(super) fn cases() -> Vec<Case> {
    let zipf = TASKS.map(|tasks| (format!("shared_hit_{tasks}"), tasks, Popularity::Zipf));
    let uniform = TASKS.map(|tasks| {
        let name = format!("shared_hit_{tasks}_uniform");
        (name, tasks, Popularity::Uniform)
    });
    let case = |(name, tasks, popularity): (String, _, _)| {
        let figures = Contest::names(&name, &Lineup::NAMES);
        Case::new(name.clone(), figures, move |stage| {
            Box::pin(run(stage, name.clone(), tasks, popularity))
        })
    };
    zipf.into_iter().chain(uniform).map(case).collect()
}

async fn run(
    stage: &Stage,
    case: String,
    tasks: usize,
    popularity: Popularity,
) -> Result<Vec<Figure>> {
    let keys = stage.keys(popularity)?;
    let lineup = stage.lineup().await?;
    for_each!(lineup, warm, stage);
    let before = selects(lineup);
    let entrants = for_each!(lineup, entrant, &keys, tasks);
    let contest = alternate(case, "op/s", entrants.into()).await?;
    for (at, name) in Lineup::NAMES[..5].iter().enumerate() {
        let missed = selects(lineup)[at] - before[at];
        if missed > 0 {
            println!("note: {missed} reads of {name} were no hits");
        }
    }
    Ok(contest.into_figures())
}

/// Reads every row once.
pub(super) async fn warm<C: Contender>(contender: &C, stage: &Stage) -> Result<()> {
    let (contender, cities) = (contender.clone(), stage.cities.clone());
    sweep(WARMERS, cities.len(), move |at| {
        let (contender, id) = (contender.clone(), cities[at].id);
        async move { contender.find(id).await.map(drop) }
    })
    .await?;
    Ok(())
}

/// What those with a cache have asked the database for.
fn selects(lineup: &Lineup) -> [u64; 5] {
    [
        lineup.ours.selects(),
        lineup.cache_aside.selects(),
        lineup.cached.selects(),
        lineup.multi_tier.selects(),
        lineup.rdcache.selects(),
    ]
}

async fn entrant<C: Contender>(
    contender: &C,
    keys: &Keys,
    tasks: usize,
) -> Result<Entrant<'static>> {
    let (contender, keys) = (contender.clone(), keys.clone());
    Ok(Entrant::new(C::NAME, move || {
        let (contender, keys) = (contender.clone(), keys.clone());
        throughput(tasks, WINDOW, move |task, turns| {
            let (contender, keys) = (contender.clone(), keys.clone());
            async move {
                for turn in turns {
                    contender.find(keys.get(task, turn)).await?;
                }
                Ok(())
            }
        })
    }))
}
