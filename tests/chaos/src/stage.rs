//! The place of a run: the servers, the proxies before them, and the worker processes. It carries
//! the faults out.
//!
//! Does not decide what happens when; that is [`crate::schedule`]'s.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cached_repo_harness::{Guarded, MariaDb, Postgres, Proxy, Redis, Stop, Strike, Trigger};
use deadpool_redis::redis::{self, ConnectionLike};

use crate::{
    Plan,
    clock::Moment,
    database::Engine,
    entities::Key,
    history::Process,
    schedule::{Blow, Fault, Schedule, Server, Victim, Wire},
    settings::{Policy, WORKERS},
    worker::{Orders, Sabotage, VARIABLE},
};

/// How long an order to the cache may take.
const ADMIN_LIMIT: Duration = Duration::from_secs(5);
/// How long a worker may go on after its time and the faults are over.
const END_LIMIT: Duration = Duration::from_secs(12);
const POLL: Duration = Duration::from_millis(5);

/// The servers of a whole run.
pub(crate) struct Servers {
    engine: Engine,
    database: DatabaseServer,
    redis: Redis,
}

enum DatabaseServer {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl DatabaseServer {
    fn start(engine: Engine) -> Result<Self> {
        let settings = engine.server_settings();
        Ok(match engine {
            Engine::Postgres => {
                let mut builder = Postgres::builder();
                for (name, value) in settings.iter().filter_map(|it| it.split_once('=')) {
                    builder = builder.setting(name, value);
                }
                Self::Postgres(builder.start()?)
            }
            Engine::MariaDb => {
                let builder = settings
                    .into_iter()
                    .fold(MariaDb::builder(), |builder, it| builder.argument(it));
                Self::MariaDb(builder.start()?)
            }
        })
    }

    fn port(&self) -> u16 {
        match self {
            Self::Postgres(server) => server.port(),
            Self::MariaDb(server) => server.port(),
        }
    }
}

impl Servers {
    pub(crate) fn start(engine: Engine) -> Result<Self> {
        let database = thread::spawn(move || DatabaseServer::start(engine));
        let redis = Redis::builder()
            .arg("maxmemory-policy", "allkeys-lru")
            .start()?;
        let database = database
            .join()
            .map_err(|_| anyhow::anyhow!("starting the database panicked"))??;
        Ok(Self {
            engine,
            database,
            redis,
        })
    }

    pub(crate) fn database_port(&self) -> u16 {
        self.database.port()
    }

    /// A database's URL for workers that reach its server at this port.
    fn database_url(&self, port: u16, name: &str) -> String {
        format!("{}/{name}", self.engine.url(port))
    }

    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// Sends an order to the cache itself, past every proxy.
    fn order(&self, words: &[&str]) -> Result<()> {
        let client = redis::Client::open(self.redis.url())?;
        let mut connection = client.get_connection_with_timeout(ADMIN_LIMIT)?;
        connection.set_read_timeout(Some(ADMIN_LIMIT))?;
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        connection
            .req_command(&cmd)
            .with_context(|| format!("{} on the cache", words[0]))?;
        Ok(())
    }
}

/// A time at which the cache may have lost something it had acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// `None`: any key.
    pub(crate) key: Option<Key>,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// What follows a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relief {
    EndDelay(usize, Server),
    EndPartition(usize, Server),
    StartWorker(usize),
    ResumeWorker(usize),
    EndSqueeze(Moment),
    StartCache(Moment),
}

/// One round: fresh proxies, a database and a namespace of its own, and workers in it.
pub(crate) struct Stage<'a> {
    servers: &'a mut Servers,
    seats: Vec<Seat>,
    database: String,
    namespace: String,
    directory: PathBuf,
    plan: Plan,
    round: u32,
    until: Moment,
    reliefs: BTreeMap<(Moment, u64), Relief>,
    next_relief: u64,
    cache_is_up: bool,
    pub(crate) processes: Vec<(Process, Policy)>,
    pub(crate) losses: Vec<Loss>,
    /// What was done and when, for people.
    pub(crate) events: Vec<(Moment, String)>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) hung: Vec<Process>,
}

/// A worker's place: its processes come and go, its proxies stay.
struct Seat {
    guarded: Guarded,
    cache: Proxy,
    /// In front of the other proxy, so that its faults affect both connections.
    subscription: Proxy,
    database: Proxy,
    lives: u32,
}

impl<'a> Stage<'a> {
    /// Empties the cache and starts the workers, which work until `until`.
    pub(crate) fn open(
        servers: &'a mut Servers,
        name: &str,
        directory: &Path,
        plan: Plan,
        round: u32,
        until: Moment,
    ) -> Result<Self> {
        servers.order(&["FLUSHALL"])?;
        let seats = (0..WORKERS)
            .map(|_| {
                let cache = Proxy::start(servers.redis.port())?;
                Ok(Seat {
                    guarded: Guarded::new("chaos")?,
                    subscription: Proxy::start(cache.port())?,
                    cache,
                    database: Proxy::start(servers.database.port())?,
                    lives: 0,
                })
            })
            .collect::<Result<_>>()?;
        let mut stage = Self {
            servers,
            seats,
            database: name.to_owned(),
            namespace: name.to_owned(),
            directory: directory.to_owned(),
            plan,
            round,
            until,
            reliefs: BTreeMap::new(),
            next_relief: 0,
            cache_is_up: true,
            processes: Vec::new(),
            losses: Vec::new(),
            events: Vec::new(),
            faults: BTreeMap::new(),
            hung: Vec::new(),
        };
        for worker in 0..WORKERS {
            stage.start_worker(worker)?;
        }
        Ok(stage)
    }

    /// Carries out the faults that come before the end, each `offset` earlier than it is planned.
    pub(crate) fn play(
        &mut self,
        schedule: &mut std::iter::Peekable<Schedule>,
        began: Moment,
        offset: Duration,
    ) -> Result<()> {
        loop {
            let fault = schedule.peek().map_or(Moment::NEVER, |(at, _)| {
                began.plus(at.saturating_sub(offset))
            });
            let relief = self
                .reliefs
                .first_key_value()
                .map_or(Moment::NEVER, |((at, _), _)| *at);
            let next = fault.min(relief).min(self.until);
            thread::sleep(next.since(Moment::now()));
            if next == self.until {
                return Ok(());
            }
            if next == relief {
                if let Some((_, relief)) = self.reliefs.pop_first() {
                    self.relieve(relief)?;
                }
            } else if let Some((_, fault)) = schedule.next() {
                self.carry_out(&fault)
                    .with_context(|| format!("carrying out: {fault}"))?;
            }
        }
    }

    /// Ends every fault, waits until the workers have ended, and counts the traps that were sprung.
    pub(crate) fn close(&mut self) -> Result<()> {
        while let Some((_, relief)) = self.reliefs.pop_first() {
            if !matches!(relief, Relief::StartWorker(_)) {
                self.relieve(relief)?;
            }
        }
        for seat in &self.seats {
            seat.cache.calm();
            seat.subscription.calm();
            seat.database.calm();
        }
        self.event("every fault is over".into());
        let deadline = Moment::now().plus(END_LIMIT);
        for worker in 0..WORKERS {
            let process = self.process(worker);
            let seat = &mut self.seats[worker];
            while seat.guarded.pid().is_some() {
                if let Some(status) = seat.guarded.try_wait()? {
                    ensure!(status.success(), "worker {process} failed: {status}");
                } else if Moment::now() > deadline {
                    seat.guarded.kill()?;
                    self.hung.push(process);
                } else {
                    thread::sleep(POLL);
                }
            }
        }
        for seat in &self.seats {
            for proxy in [&seat.cache, &seat.subscription, &seat.database] {
                *self.faults.entry("strikes").or_default() += proxy.sprung();
            }
        }
        Ok(())
    }

    /// Runs the verifier, past every proxy.
    pub(crate) fn verify(&mut self, limit: Duration) -> Result<()> {
        let until = Moment::now().plus(limit);
        let orders = Orders {
            process: Process::VERIFIER,
            policy: Policy::Refuse,
            namespace: self.namespace.clone(),
            redis: self.servers.redis_url(),
            subscription: self.servers.redis_url(),
            engine: self.plan.engine,
            database: self
                .servers
                .database_url(self.servers.database.port(), &self.database),
            log: Process::VERIFIER.log_file(&self.directory),
            seed: self.plan.seed,
            until,
            sabotage: Sabotage::None,
        };
        let mut guarded = Guarded::new("chaos")?;
        spawn(&mut guarded, &orders)?;
        self.processes.push((Process::VERIFIER, Policy::Refuse));
        loop {
            match guarded.try_wait()? {
                Some(status) => {
                    ensure!(status.success(), "the verifier failed: {status}");
                    return Ok(());
                }
                None if Moment::now() > until.plus(END_LIMIT) => {
                    self.hung.push(Process::VERIFIER);
                    return guarded.kill();
                }
                None => thread::sleep(POLL),
            }
        }
    }

    fn event(&mut self, what: String) {
        self.events.push((Moment::now(), what));
    }

    fn process(&self, worker: usize) -> Process {
        let life = self.seats[worker].lives;
        Process { worker, life }
    }

    fn start_worker(&mut self, worker: usize) -> Result<()> {
        let seat = &mut self.seats[worker];
        seat.lives += 1;
        let life = seat.lives;
        let process = Process { worker, life };
        let orders = Orders {
            process,
            policy: Policy::of(worker),
            namespace: self.namespace.clone(),
            redis: format!("redis://127.0.0.1:{}", seat.cache.port()),
            subscription: format!("redis://127.0.0.1:{}", seat.subscription.port()),
            engine: self.plan.engine,
            database: self
                .servers
                .database_url(seat.database.port(), &self.database),
            log: process.log_file(&self.directory),
            seed: self.plan.seed
                ^ (u64::from(self.round) << 48)
                ^ ((worker as u64) << 32)
                ^ u64::from(life),
            until: self.until,
            sabotage: self.plan.sabotage,
        };
        spawn(&mut seat.guarded, &orders)?;
        self.processes.push((process, Policy::of(worker)));
        Ok(())
    }

    fn proxy(&self, on: Wire) -> &Proxy {
        let seat = &self.seats[on.worker];
        match on.to {
            Server::Cache => &seat.cache,
            Server::Subscription => &seat.subscription,
            Server::Database => &seat.database,
        }
    }

    fn later(&mut self, after: Duration, relief: Relief) {
        self.next_relief += 1;
        let at = Moment::now().plus(after);
        self.reliefs.insert((at, self.next_relief), relief);
    }

    /// The cache loses the keys that `forget` names.
    fn lose(
        &mut self,
        keys: Option<&[Key]>,
        forget: impl FnOnce(&Servers) -> Result<()>,
    ) -> Result<()> {
        let from = Moment::now();
        forget(self.servers)?;
        let to = Moment::now();
        match keys {
            None => self.losses.push(Loss {
                key: None,
                from,
                to,
            }),
            Some(keys) => self.losses.extend(keys.iter().map(|key| Loss {
                key: Some(*key),
                from,
                to,
            })),
        }
        Ok(())
    }

    fn carry_out(&mut self, fault: &Fault) -> Result<()> {
        let runs = |stage: &Self, worker: usize| stage.seats[worker].guarded.pid().is_some();
        match fault {
            Fault::Delay {
                on,
                requests,
                replies,
                lasting,
            } => {
                self.proxy(*on).delay(*requests, *replies);
                self.later(*lasting, Relief::EndDelay(on.worker, on.to));
            }
            Fault::Strike { on, victim, blow } => {
                let trigger = match victim {
                    Victim::Any => Trigger::Any,
                    Victim::Commit => Trigger::Contains(b"COMMIT".to_vec()),
                };
                let strike = match blow {
                    Blow::CutBefore => Strike::CutBefore,
                    Blow::CutAfter => Strike::CutAfter,
                    Blow::Hold(time) => Strike::Hold(*time),
                };
                self.proxy(*on).trap(trigger, strike);
                self.event(fault.to_string());
                // It is counted when it is sprung.
                return Ok(());
            }
            Fault::Cut { on } => self.proxy(*on).cut(),
            Fault::Partition { on, lasting } => {
                self.proxy(*on).refuse(true);
                self.proxy(*on).cut();
                self.later(*lasting, Relief::EndPartition(on.worker, on.to));
            }
            Fault::Kill { worker, down } if runs(self, *worker) => {
                let process = self.process(*worker);
                if let Some(status) = self.seats[*worker].guarded.try_wait()? {
                    bail!("{process} ended by itself: {status}");
                }
                self.seats[*worker].guarded.kill()?;
                self.later(*down, Relief::StartWorker(*worker));
            }
            Fault::Pause { worker, lasting } if runs(self, *worker) => {
                self.seats[*worker].guarded.pause()?;
                self.later(*lasting, Relief::ResumeWorker(*worker));
            }
            Fault::Kill { .. } | Fault::Pause { .. } => return Ok(()),
            Fault::Evict { keys } if self.cache_is_up => {
                let names = keys.iter().map(|key| format!("{}:{key}", self.namespace));
                let names: Vec<String> = names.collect();
                let words: Vec<&str> = ["DEL"]
                    .into_iter()
                    .chain(names.iter().map(String::as_str))
                    .collect();
                self.lose(Some(keys), |servers| servers.order(&words))?;
            }
            Fault::Flush if self.cache_is_up => {
                self.lose(None, |servers| servers.order(&["FLUSHALL"]))?;
            }
            Fault::Squeeze { lasting } if self.cache_is_up => {
                let from = Moment::now();
                self.servers.order(&["CONFIG", "SET", "maxmemory", "1"])?;
                self.later(*lasting, Relief::EndSqueeze(from));
            }
            Fault::RestartCache { down } if self.cache_is_up => {
                let from = Moment::now();
                self.cache_is_up = false;
                self.servers.redis.kill()?;
                self.later(*down, Relief::StartCache(from));
            }
            Fault::Evict { .. }
            | Fault::Flush
            | Fault::Squeeze { .. }
            | Fault::RestartCache { .. } => return Ok(()),
        }
        *self.faults.entry(fault.name()).or_default() += 1;
        self.event(fault.to_string());
        Ok(())
    }

    fn relieve(&mut self, relief: Relief) -> Result<()> {
        match relief {
            Relief::EndDelay(worker, to) => {
                let wire = Wire { worker, to };
                self.proxy(wire).delay(Duration::ZERO, Duration::ZERO);
                self.event(format!("the delay between {wire} is over"));
            }
            Relief::EndPartition(worker, to) => {
                let wire = Wire { worker, to };
                self.proxy(wire).refuse(false);
                self.event(format!("the partition of {wire} is over"));
            }
            Relief::StartWorker(worker) => {
                self.start_worker(worker)?;
                self.event(format!("{} starts", self.process(worker)));
            }
            Relief::ResumeWorker(worker) => {
                // It may have been killed meanwhile, and another may be in its place.
                if self.seats[worker].guarded.pid().is_some() {
                    self.seats[worker].guarded.resume()?;
                    self.event(format!("w{worker} goes on"));
                }
            }
            Relief::EndSqueeze(from) => {
                if self.cache_is_up {
                    self.servers.order(&["CONFIG", "SET", "maxmemory", "0"])?;
                }
                let to = Moment::now();
                self.losses.push(Loss {
                    key: None,
                    from,
                    to,
                });
                self.event("the squeeze is over".into());
            }
            Relief::StartCache(from) => {
                self.servers.redis.restart()?;
                self.cache_is_up = true;
                let to = Moment::now();
                self.losses.push(Loss {
                    key: None,
                    from,
                    to,
                });
                self.event("the cache is back".into());
            }
        }
        Ok(())
    }
}

/// Starts this program again, as a worker.
fn spawn(guarded: &mut Guarded, orders: &Orders) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Guarded::command(&program);
    command.env(VARIABLE, serde_json::to_string(orders)?);
    guarded.spawn(command, Stop::Kill)
}
