//! Putting load on a contender: a bounded number of tasks for a bounded time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use cached_repo_report::{Contest, median};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinSet;

/// Rounds of every contest; one more runs before them and is thrown away.
pub(crate) const ROUNDS: usize = 7;
/// However fast it is, a task ends after so many steps.
const MOST_STEPS: usize = 2_000_000;

/// One of those that are compared, and what it does in a round.
pub(crate) struct Entrant<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() -> LocalBoxFuture<'a, Result<f64>> + 'a>,
}

impl<'a> Entrant<'a> {
    pub(crate) fn new<F>(name: &'static str, mut run: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = Result<f64>> + 'a,
    {
        Self {
            name,
            run: Box::new(move || Box::pin(run())),
        }
    }
}

/// Runs them in turn, round after round; who begins changes from round to round.
pub(crate) async fn alternate(
    case: impl Into<String>,
    unit: &'static str,
    mut entrants: Vec<Entrant<'_>>,
) -> Result<Contest> {
    let count = entrants.len();
    let mut samples: Vec<_> = entrants
        .iter()
        .map(|entrant| (entrant.name, Vec::with_capacity(ROUNDS)))
        .collect();
    for round in 0..=ROUNDS {
        for turn in 0..count {
            let entrant = (round + turn) % count;
            let sample = (entrants[entrant].run)().await?;
            if round > 0 {
                samples[entrant].1.push(sample);
            }
        }
    }
    let case = case.into();
    Ok(Contest {
        case,
        unit,
        samples,
    })
}

/// The turns of one task, until time is over.
pub(crate) struct Turns {
    over: Arc<AtomicBool>,
    taken: usize,
    total: Arc<AtomicUsize>,
}

impl Iterator for Turns {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.taken == MOST_STEPS || self.over.load(Ordering::Relaxed) {
            self.total.fetch_add(self.taken, Ordering::Relaxed);
            self.taken = 0;
            return None;
        }
        self.taken += 1;
        Some(self.taken - 1)
    }
}

/// Turns per second of so many tasks. `work` makes the task of a number, which takes one turn after
/// the other until there are no more.
pub(crate) async fn throughput<F>(
    tasks: usize,
    time: Duration,
    work: impl Fn(usize, Turns) -> F,
) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let total = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let turns = Turns {
            over: Arc::clone(&over),
            taken: 0,
            total: Arc::clone(&total),
        };
        running.spawn(work(task, turns));
    }
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(total.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

/// The median time of a step of one task, in microseconds.
pub(crate) async fn latency<F>(
    time: Duration,
    step: impl Fn(usize) -> F + Send + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send,
{
    let timed = tokio::spawn(async move {
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < MOST_STEPS && began.elapsed() < time {
            let step_began = Instant::now();
            step(times.len()).await?;
            times.push(step_began.elapsed().as_secs_f64() * 1e6);
        }
        anyhow::Ok(times)
    });
    Ok(median(&timed.await??))
}

/// Does something for each of `0..count`, so many at a time; returns how long it took.
pub(crate) async fn sweep<F>(
    tasks: usize,
    count: usize,
    step: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Duration>
where
    F: Future<Output = Result<()>> + Send,
{
    let began = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let step = step.clone();
        running.spawn(async move {
            for at in (task..count).step_by(tasks) {
                step(at).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}
