//! One cold row that 1,000 tasks in 4 processes want at the same moment: how many SELECTs that
//! costs, by PostgreSQL's count, and when the last of them has the row.
//!
//! The processes are this program again, with [`CHILD`] as its first argument. They open the caches
//! of all peers once, print `ready`, and then receive orders, a line each: who reads which row at
//! what moment.

use std::{
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use cached_repo_report::Figure;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use super::Case;
use crate::{
    load::ROUNDS,
    peers::{Contender, Lineup, Ours, for_each},
    stage::{Counted, Database, Disk, Stage},
};

/// The first argument of a child; the URLs of the database and of Redis follow.
pub(crate) const CHILD: &str = "--stampede";

const PROCESSES: usize = 4;
const TASKS: usize = 250;
/// From the order to the moment it names: all processes have read it by then.
const NOTICE: Duration = Duration::from_millis(40);
/// Everyone has answered by then, or something is wrong.
const LIMIT: Duration = Duration::from_secs(20);

const STATEMENTS: &str = "stampede_statements";
const LOADS: &str = "stampede_loads_ours";

pub(super) fn cases() -> Vec<Case> {
    let mut figures = vec![LOADS.to_owned()];
    for name in cached() {
        figures.extend([statements_of(name), time_of(name)]);
    }
    vec![Case::new("stampede", figures, |stage| Box::pin(run(stage)))]
}

/// Those with a cache.
fn cached() -> &'static [&'static str] {
    &Lineup::NAMES[..5]
}

/// The bar is the plain name.
fn statements_of(name: &str) -> String {
    if name == Ours::NAME {
        STATEMENTS.to_owned()
    } else {
        format!("{STATEMENTS}_{name}")
    }
}

fn time_of(name: &str) -> String {
    format!("stampede_ms_{name}")
}

async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let servers = stage.servers().await?;
    let database = stage.database(Disk::Real).await?;
    let mut herds = Vec::new();
    for _ in 0..PROCESSES {
        herds.push(Herd::start(&servers.url(Disk::Real), &servers.redis_url()).await?);
    }
    for herd in &mut herds {
        herd.ready().await?;
    }
    let mut statements = vec![Vec::new(); cached().len()];
    let mut times = statements.clone();
    let mut our_loads = Vec::new();
    for round in 0..=ROUNDS {
        for (contender, name) in cached().iter().enumerate() {
            // Never asked for before in this process, nor by this contender in this case.
            let id = stage.cities[stage.cities.len() - 1 - round].id;
            flush(stage, name).await?;
            let before = database.counted_selects().await?;
            let answers = race(&mut herds, name, id).await?;
            if round == 0 {
                continue;
            }
            let after = database.counted_selects().await?;
            statements[contender].push((after - before) as f64);
            let slowest = answers.iter().map(|answer| answer.millis);
            times[contender].push(slowest.fold(0.0, f64::max));
            if contender == 0 {
                let loads: u64 = answers.iter().map(|answer| answer.loads).sum();
                our_loads.push(loads as f64);
            }
        }
    }
    let mut figures = vec![Figure::new(LOADS, "loads", our_loads)];
    for (contender, name) in cached().iter().enumerate() {
        figures.push(Figure::new(
            statements_of(name),
            "statements",
            statements[contender].clone(),
        ));
        figures.push(Figure::new(time_of(name), "ms", times[contender].clone()));
    }
    Ok(figures)
}

async fn flush(stage: &Stage, name: &str) -> Result<()> {
    async fn if_named<C: Contender>(_: &C, stage: &Stage, name: &str) -> Result<()> {
        if C::NAME == name {
            stage.flush::<C>().await?;
        }
        Ok(())
    }
    let lineup = stage.lineup().await?;
    for_each!(lineup, if_named, stage, name);
    Ok(())
}

/// Has every process read the row at the same moment.
async fn race(herds: &mut [Herd], name: &str, id: i64) -> Result<Vec<Answer>> {
    let at = (SystemTime::now() + NOTICE).duration_since(UNIX_EPOCH)?;
    let order = format!("{name} {id} {}\n", at.as_micros());
    for herd in &mut *herds {
        herd.orders.write_all(order.as_bytes()).await?;
    }
    let mut answers = Vec::new();
    for herd in herds {
        answers.push(Answer::parse(&herd.line().await?)?);
    }
    Ok(answers)
}

/// A child process.
struct Herd {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Killed when dropped.
    _child: Child,
}

impl Herd {
    async fn start(database_url: &str, redis_url: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([CHILD, database_url, redis_url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a process of the stampede")?;
        let orders = child.stdin.take().context("a piped stdin")?;
        let answers = child.stdout.take().context("a piped stdout")?;
        Ok(Self {
            orders,
            answers: BufReader::new(answers).lines(),
            _child: child,
        })
    }

    async fn ready(&mut self) -> Result<()> {
        let line = self.line().await?;
        ensure!(line == "ready", "a process of the stampede said `{line}`");
        Ok(())
    }

    async fn line(&mut self) -> Result<String> {
        let line = timeout(LIMIT, self.answers.next_line()).await;
        let line = line.context("waiting for a process of the stampede")??;
        line.context("a process of the stampede ended")
    }
}

/// What a process says after a race.
struct Answer {
    /// From the moment of the order until its last task had the row.
    millis: f64,
    /// Loads that our own counters show.
    loads: u64,
}

impl Answer {
    fn parse(line: &str) -> Result<Self> {
        let (millis, loads) = line.split_once(' ').context("two numbers")?;
        Ok(Self {
            millis: millis.parse()?,
            loads: loads.parse()?,
        })
    }
}

/// What a child does, until its orders end.
pub(crate) async fn child(database_url: &str, redis_url: &str) -> Result<()> {
    let database = Database::connect(database_url, Counted::Statements).await?;
    let lineup = Lineup::open(&database, redis_url).await?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    println!("ready");
    while let Some(order) = orders.next_line().await? {
        let [name, id, at] = order.split(' ').collect::<Vec<_>>()[..] else {
            bail!("an order of three words, not `{order}`");
        };
        let (id, at) = (id.parse()?, Duration::from_micros(at.parse()?));
        let before = lineup.ours.cities.stats().loads;
        let times = for_each!(lineup, stampede_if_named, name, id, at);
        let time = times.into_iter().flatten().next().context("a known name")?;
        let loads = lineup.ours.cities.stats().loads - before;
        println!("{} {loads}", time.as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn stampede_if_named<C: Contender>(
    contender: &C,
    name: &str,
    id: i64,
    at: Duration,
) -> Result<Option<Duration>> {
    if C::NAME != name {
        return Ok(None);
    }
    let until = at.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH)?);
    tokio::time::sleep(until).await;
    let mut running = JoinSet::new();
    for _ in 0..TASKS {
        let contender = contender.clone();
        running.spawn(async move { contender.find(id).await });
    }
    while let Some(found) = running.join_next().await {
        found??;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Some(now.saturating_sub(at)))
}
