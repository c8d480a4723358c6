//! A worker: a process with a cache and tasks that read and write until it is stopped or killed;
//! and the verifier, which reads every row when all is quiet.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use cached_repo::{CachedDb, Drained, Source, internals::Tamper};
use deadpool_redis::redis::Client;
use sea_orm::{EntityTrait, ModelTrait};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Moment,
    database::{self, Engine},
    entities::{Key, PARENTS, Sought, Subject, TEAMS, Table, on_table, skip_near, value_of},
    history::{Invalidated, Log, Near, OpId, Outcome, Process, Read, Record},
    settings::{self, KEEP, Policy, ROWS, TASKS},
    verbs::Actor,
};

/// The environment variable that makes the program a worker.
pub(crate) const VARIABLE: &str = "CACHED_REPO_CHAOS_WORKER";

/// How often it checks whether an invalidation is queued.
const TICK: Duration = Duration::from_millis(2);
/// How long its last operations may take once the faults are over.
const DRAIN: Duration = Duration::from_secs(5);
/// Keys that the database has not made yet, and that are read all the same.
const KEYS_AHEAD: i64 = 4;
const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(20);

/// The orders for a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) process: Process,
    pub(crate) policy: Policy,
    pub(crate) namespace: String,
    pub(crate) redis: String,
    /// The same server, to listen.
    pub(crate) subscription: String,
    pub(crate) engine: Engine,
    pub(crate) database: String,
    pub(crate) log: PathBuf,
    pub(crate) seed: u64,
    pub(crate) until: Moment,
    pub(crate) sabotage: Sabotage,
}

/// A part of the protocol, or of its use, that is left out, to check that the checker notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sabotage {
    #[default]
    None,
    WithoutBlocks,
    WithoutLeases,
    /// Statements about many rows are followed by nothing.
    WithoutInvalidateAll,
}

impl Sabotage {
    fn tamper(self) -> Tamper {
        match self {
            Self::None | Self::WithoutInvalidateAll => Tamper::Nothing,
            Self::WithoutBlocks => Tamper::Blocks,
            Self::WithoutLeases => Tamper::Leases,
        }
    }
}

/// What the tasks of a worker share.
pub(crate) struct Worker {
    pub(crate) db: CachedDb,
    pub(crate) log: Log,
    pub(crate) policy: Policy,
    pub(crate) engine: Engine,
    pub(crate) sabotage: Sabotage,
    process: Process,
    numbers: AtomicU64,
    /// The newest key that the database is known to have made.
    newest: AtomicI64,
    /// A task wants to know when the queue is empty.
    queued: AtomicBool,
}

impl Worker {
    /// A number that this process has not used.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A value that no row ever had.
    pub(crate) fn value(&self) -> String {
        let writer = format!("{}-{}", self.process, self.number());
        // One of two writes leaves whom the row refers to alone.
        let parent = fastrand::bool().then(|| fastrand::i64(1..=PARENTS));
        value_of(&writer, parent, fastrand::i64(0..TEAMS))
    }

    /// The rows of a table that are used; where the database makes the keys, the newest and those
    /// that it is about to make.
    pub(crate) fn ids(&self, table: Table) -> RangeInclusive<i64> {
        if table.has_generated_keys() {
            let next = self.newest.load(Ordering::Relaxed) + KEYS_AHEAD;
            next - ROWS + 1..=next
        } else {
            1..=ROWS
        }
    }

    /// A row of a table was there.
    pub(crate) fn met(&self, key: Key) {
        if key.table.has_generated_keys() {
            self.newest.fetch_max(key.id, Ordering::Relaxed);
        }
    }

    /// How often the cache has failed this process.
    fn trouble(&self) -> u64 {
        let stats = self.db.connection_stats();
        stats.timeouts + stats.unavailable + stats.failures
    }

    /// A write begins.
    pub(crate) fn begin(&self, verb: &str, invalidated: Invalidated) -> OpId {
        let op = OpId(self.number());
        self.log.write(&Record::Begin {
            op,
            verb: verb.into(),
            invalidated,
            trouble: self.trouble(),
            at: Moment::now(),
        });
        op
    }

    /// A write has ended.
    pub(crate) fn end(&self, op: OpId, outcome: Outcome, why: String) {
        let at = Moment::now();
        let trouble = self.trouble();
        let pending = self.db.pending_invalidations();
        self.log.write(&Record::End {
            op,
            at,
            outcome,
            trouble,
            pending,
            why,
        });
        if pending > 0 {
            self.queued.store(true, Ordering::SeqCst);
        }
    }

    /// Records when the queue is empty.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            // In this order: an invalidation that is queued from now on sets the flag again.
            if self.queued.swap(false, Ordering::SeqCst) {
                if self.db.pending_invalidations() == 0 {
                    self.log.write(&Record::Drained { at: Moment::now() });
                } else {
                    self.queued.store(true, Ordering::SeqCst);
                }
            }
        }
    }
}

/// Does what `orders` say, in this process.
pub(crate) fn run(orders: Orders) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        let worker = Arc::new(open(&orders).await?);
        if orders.process == Process::VERIFIER {
            verify(&worker, orders.until).await
        } else {
            work(worker, &orders).await
        }
    })
}

async fn open(orders: &Orders) -> Result<Worker> {
    let log = Log::create(&orders.log)?;
    let application = orders.process.application();
    let conn = loop {
        match database::connect(orders.engine, &orders.database, &application).await {
            Ok(conn) => break conn,
            // A fault hit the first connection; that of a worker which was started last, after all
            // others have ended.
            Err(_) if Moment::now() < orders.until.plus(DRAIN) => {
                tokio::time::sleep(PAUSE_BEFORE_RETRY).await;
            }
            Err(error) => return Err(error.context("connecting to the database")),
        }
    };
    let pool = deadpool_redis::Config::from_url(&orders.redis)
        .create_pool(Some(deadpool_redis::Runtime::Tokio1))?;
    let db = CachedDb::builder(conn)
        .config(settings::config(&orders.namespace, orders.policy))
        .redis(pool)
        .subscriber(Client::open(orders.subscription.as_str())?)
        .tampered(orders.sabotage.tamper())
        .build()
        .await?;
    // A write must know of all tables that refer to its own: hole 15 of ARCHITECTURE.md.
    for table in Table::ALL {
        on_table!(table, M => drop(cached_repo::Repository::<M>::new(&db)));
    }
    Ok(Worker {
        db,
        log,
        policy: orders.policy,
        engine: orders.engine,
        sabotage: orders.sabotage,
        process: orders.process,
        numbers: AtomicU64::new(1),
        newest: AtomicI64::new(ROWS),
        queued: AtomicBool::new(false),
    })
}

async fn work(worker: Arc<Worker>, orders: &Orders) -> Result<()> {
    let watch = tokio::spawn(Arc::clone(&worker).watch());
    let mut seeds = fastrand::Rng::with_seed(orders.seed);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let mut actor = Actor::new(Arc::clone(&worker), seeds.u64(..));
            let until = orders.until;
            tokio::spawn(async move {
                while Moment::now() < until {
                    actor.act().await;
                }
            })
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            worker.log.write(&Record::Panic {
                at: Moment::now(),
                what: error.to_string(),
            });
        }
    }
    watch.abort();
    if worker.db.shutdown(DRAIN).await == Drained::All {
        let at = Moment::now();
        worker.log.write(&Record::Drained { at });
    }
    Ok(())
}

/// Reads every row until the cache serves it, and writes down what it saw.
async fn verify(worker: &Worker, until: Moment) -> Result<()> {
    for table in Table::ALL {
        on_table!(table, M => verify_table::<M>(worker, until).await?);
    }
    Ok(())
}

async fn verify_table<M: Subject>(worker: &Worker, until: Moment) -> Result<()> {
    let rows = <M as ModelTrait>::Entity::find();
    let mut ids = BTreeSet::new();
    for row in rows.all(worker.db.connection()).await? {
        worker.met(Key {
            table: M::TABLE,
            id: row.id(),
        });
        ids.insert(row.id());
    }
    ids.extend(worker.ids(M::TABLE));
    for id in &ids {
        verify_row::<M>(worker, *id, until).await?;
    }
    let teams = (0..TEAMS).map(Sought::Team);
    let parents = (1..=PARENTS).map(Some).chain([None]).map(Sought::Parent);
    let parents = parents.filter(|_| M::TABLE.parent().is_some());
    for sought in teams.chain(parents) {
        verify_list::<M>(worker, &sought, &ids).await?;
    }
    Ok(())
}

/// Looks the list up twice: what the cache holds of it, and what the cache answers once it holds
/// it.
async fn verify_list<M: Subject>(
    worker: &Worker,
    sought: &Sought,
    ids: &BTreeSet<i64>,
) -> Result<()> {
    for _ in 0..2 {
        let from = Moment::now();
        let rows = match sought {
            Sought::Team(team) => M::find_by_team(&worker.db, *team).await?,
            Sought::Parent(parent) => M::find_by_parent(&worker.db, *parent).await?,
            Sought::Value(_) => return Ok(()),
        };
        let found = rows.iter().map(|row| (row.seen(), row.id())).collect();
        let span = (from, Moment::now());
        let (log, ids) = (&worker.log, ids.iter().copied());
        log.looked_up::<M>("verify list", sought.clone(), span, found, ids);
    }
    Ok(())
}

async fn verify_row<M: Subject>(worker: &Worker, id: i64, until: Moment) -> Result<()> {
    let repository = cached_repo::Repository::<M>::new(&worker.db).with(skip_near());
    let key = Key {
        table: M::TABLE,
        id,
    };
    loop {
        let absences = repository.stats().absent_hits;
        let from = Moment::now();
        let row = repository.find_by_id(id).await?;
        let to = Moment::now();
        let cached = match &row {
            Some(row) => row.source() == Source::Shared,
            None => repository.stats().absent_hits > absences,
        };
        worker.log.write(&Record::Read(Read {
            verb: "verify".into(),
            key,
            from,
            to,
            saw: row.map(|row| row.seen()),
            cached,
            near: Near::Skipped,
        }));
        if cached {
            return Ok(());
        }
        if Moment::now() >= until.plus(KEEP) {
            worker.log.write(&Record::Unreadable {
                at: Moment::now(),
                key,
            });
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
