//! Nineteen reads to one write, by 64 tasks, on this machine's disk.
//!
//! Ours writes under a version check and reads nothing older than what was acknowledged; the peers
//! write unchecked and delete the key, which is all that they offer.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use cached_repo_report::{Contest, Figure};

use super::{Case, shared_hit::warm};
use crate::{
    keys::{Keys, Popularity},
    load::{Entrant, alternate, throughput},
    peers::{Contender, Lineup, for_each},
    stage::Stage,
};

const NAME: &str = "mixed_95_5";
/// Writes that met a conflict in every attempt, and were refused.
const GIVEN_UP: &str = "mixed_95_5_refused_writes";
const TASKS: usize = 64;
const WINDOW: Duration = Duration::from_millis(400);
/// One turn of so many is a write.
const WRITE_EVERY: usize = 20;

pub(super) fn cases() -> Vec<Case> {
    let mut figures = Contest::names(NAME, &Lineup::NAMES);
    figures.push(GIVEN_UP.to_owned());
    vec![Case::new(NAME, figures, |stage| Box::pin(run(stage)))]
}

async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let keys = stage.keys(Popularity::Zipf)?;
    let lineup = stage.lineup().await?;
    for_each!(lineup, warm, stage);
    let entrants = for_each!(lineup, entrant, &keys);
    let before = lineup.ours.cities.stats();
    let contest = alternate(NAME, "op/s", entrants.into()).await?;
    let after = lineup.ours.cities.stats();
    let given_up = lineup.ours.given_up.load(Ordering::Relaxed) as f64;
    let attempted = (after.writes - before.writes) as f64 + given_up;
    let mut figures = contest.into_figures();
    figures.push(Figure::exact(GIVEN_UP, "%", 100.0 * given_up / attempted));
    Ok(figures)
}

async fn entrant<C: Contender>(contender: &C, keys: &Keys) -> Result<Entrant<'static>> {
    let (contender, keys) = (contender.clone(), keys.clone());
    Ok(Entrant::new(C::NAME, move || {
        let (contender, keys) = (contender.clone(), keys.clone());
        throughput(TASKS, WINDOW, move |task, turns| {
            let (contender, keys) = (contender.clone(), keys.clone());
            async move {
                for turn in turns {
                    let id = keys.get(task, turn);
                    // Tasks write in different turns.
                    if (turn + task) % WRITE_EVERY == 0 {
                        contender.set_population(id, turn as i64).await?;
                    } else {
                        contender.find(id).await?;
                    }
                }
                Ok(())
            }
        })
    }))
}
