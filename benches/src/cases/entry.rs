//! What a row takes in Redis.

use anyhow::{Context, Result, ensure};
use cached_repo::internals::KeySpace;
use cached_repo_report::{Figure, median};
use deadpool_redis::redis;

use super::{Case, owned, shared_hit::warm};
use crate::{
    peers::{Contender, Lineup, Ours, for_each},
    stage::Stage,
};

/// Rows that are looked at.
const SAMPLE: usize = 1000;

pub(super) fn cases() -> Vec<Case> {
    let mut figures = owned(&[
        "entry_overhead_bytes",
        "entry_row_bytes",
        "entry_strlen_bytes",
    ]);
    figures.extend(Lineup::NAMES[..5].iter().map(|name| in_redis(name)));
    vec![Case::new("entry", figures, |stage| Box::pin(run(stage)))]
}

fn in_redis(contender: &str) -> String {
    format!("entry_in_redis_bytes_{contender}")
}

async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let lineup = stage.lineup().await?;
    let mut redis = stage.redis::<Ours>().await?;
    stage.flush::<Ours>().await?;
    for_each!(lineup, warm, stage);

    let space = KeySpace::new("bench", "city");
    let (mut rows, mut entries) = (Vec::new(), Vec::new());
    for city in &stage.cities[..SAMPLE] {
        // As it is now: other cases have written it.
        let city = lineup.ours.cities.find_by_id(city.id).await?;
        let city = city.context("no such city")?;
        // The bare columns: MessagePack announces an array of up to 15 by one byte.
        rows.push((rmp_serde::to_vec(&*city)?.len() - 1) as f64);
        let key = space.row(city.id);
        let strlen: u64 = redis::cmd("STRLEN")
            .arg(key.as_str())
            .query_async(&mut redis)
            .await?;
        ensure!(strlen > 0, "{key} is not in Redis");
        entries.push(strlen as f64);
    }
    let overheads: Vec<f64> = entries.iter().zip(&rows).map(|(e, row)| e - row).collect();
    let mut figures = vec![
        Figure::exact("entry_overhead_bytes", "bytes", median(&overheads)),
        Figure::exact("entry_row_bytes", "bytes", median(&rows)),
        Figure::exact("entry_strlen_bytes", "bytes", median(&entries)),
    ];
    let [taken @ .., _] = for_each!(lineup, memory_usage, stage);
    figures.extend(taken);
    Ok(figures)
}

/// What Redis says that a key takes with its value.
async fn memory_usage<C: Contender>(_: &C, stage: &Stage) -> Result<Figure> {
    let mut redis = stage.redis::<C>().await?;
    let mut bytes = Vec::new();
    for _ in 0..SAMPLE {
        let key: Option<String> = redis::cmd("RANDOMKEY").query_async(&mut redis).await?;
        // SeaORM has none.
        let Some(key) = key else {
            bytes.push(0.0);
            break;
        };
        let usage: u64 = redis::cmd("MEMORY")
            .arg("USAGE")
            .arg(key)
            .arg("SAMPLES")
            .arg(0)
            .query_async(&mut redis)
            .await?;
        bytes.push(usage as f64);
    }
    Ok(Figure::exact(in_redis(C::NAME), "bytes", median(&bytes)))
}
