//! What the tasks of a worker do: every verb of a repository, with what each writes to the history.
//!
//! To add a verb: give it a name and a weight in [`VERBS`], and an arm in [`Actor::perform`]. A
//! read goes through [`Actor::read`]; a write through [`Actor::write`], or, if it has several
//! statements, `begin`, a `Try` before each of them, and `end`. A read that returns several rows
//! writes one `Read` for each. The checker needs to know nothing of it.

mod raw;
mod transaction;

use std::{future::Future, sync::Arc, time::Duration};

use cached_repo::{Cached, LookedUp, ReadError, ReadOptions, Repository, Source, WriteError};
use sea_orm::{EntityTrait, ModelTrait};

use crate::{
    clock::Moment,
    database,
    entities::{
        Key, PARENTS, Seen, Sought, Subject, TEAMS, Table, UNKNOWN_ID, on_table, skip_near,
    },
    history::{Change, Invalidated, Near, OpId, Outcome, Read, Record},
    settings::{Policy, STALE_TTL},
    worker::Worker,
};

/// The longest pause between two operations of a task, in microseconds.
const LONGEST_PAUSE_US: u64 = 4000;
/// One of this many operations is given up while it runs.
const DROPPED_OF: u32 = 20;
/// After how many microseconds, at most.
const LONGEST_PATIENCE_US: u64 = 12_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Find,
    FindNear,
    FindStale,
    Fresh,
    Refresh,
    Aside,
    FindTeam,
    FindParent,
    FindValue,
    Save,
    Update,
    UpdateWith,
    Insert,
    InsertParent,
    Delete,
    DeleteById,
    DeleteParent,
    RawThenInvalidate,
    RawThenRefresh,
    RawThenInvalidateAll,
    Transaction,
}

/// Each verb and how often it is chosen.
const VERBS: [(u32, Verb); 21] = [
    (60, Verb::Find),
    (25, Verb::FindNear),
    (8, Verb::FindStale),
    (5, Verb::Fresh),
    (3, Verb::Refresh),
    (10, Verb::Aside),
    (10, Verb::FindTeam),
    (12, Verb::FindParent),
    (15, Verb::FindValue),
    (10, Verb::Save),
    (4, Verb::Update),
    (8, Verb::UpdateWith),
    (7, Verb::Insert),
    (5, Verb::InsertParent),
    (2, Verb::Delete),
    (3, Verb::DeleteById),
    (3, Verb::DeleteParent),
    (2, Verb::RawThenInvalidate),
    (1, Verb::RawThenRefresh),
    (1, Verb::RawThenInvalidateAll),
    (10, Verb::Transaction),
];

/// Each table and how often one of its rows is chosen.
const TABLES: [(u32, Table); 6] = [
    (6, Table::Account),
    (6, Table::Note),
    (3, Table::Owner),
    (6, Table::Post),
    (5, Table::Remark),
    (4, Table::Ticket),
];

/// A task of a worker.
pub(crate) struct Actor {
    worker: Arc<Worker>,
    random: fastrand::Rng,
    /// The write that has begun and not ended.
    open: Option<OpId>,
}

impl Actor {
    pub(crate) fn new(worker: Arc<Worker>, seed: u64) -> Self {
        Self {
            worker,
            random: fastrand::Rng::with_seed(seed),
            open: None,
        }
    }

    /// Does one thing, and pauses.
    pub(crate) async fn act(&mut self) {
        let verb = self.choose(&VERBS);
        let key = match verb {
            Verb::InsertParent | Verb::DeleteParent => self.parent(),
            _ => self.key(),
        };
        // Of a write that nobody waits for, only a process that refuses to write without the cache
        // knows that it was protected.
        // And SQLx leaves a connection in a transaction whose BEGIN is given up (issue 4393).
        let gives_up = self.worker.policy == Policy::Refuse
            && verb != Verb::RawThenInvalidateAll
            && self.random.u32(..).is_multiple_of(DROPPED_OF);
        if gives_up {
            self.give_up(verb, key).await;
        } else {
            self.dispatch(verb, key).await;
        }
        let pause = Duration::from_micros(self.random.u64(..LONGEST_PAUSE_US));
        tokio::time::sleep(pause).await;
    }

    /// Drops an operation's future while it runs.
    async fn give_up(&mut self, verb: Verb, key: Key) {
        let patience = Duration::from_micros(self.random.u64(..LONGEST_PATIENCE_US));
        // An operation that has ended in time is recorded by itself.
        let _ = tokio::time::timeout(patience, self.dispatch(verb, key)).await;
        if let Some(op) = self.open.take() {
            self.worker.end(op, Outcome::Unknown, "given up".into());
        }
    }

    /// One of several, by their weights.
    fn choose<T: Copy>(&mut self, among: &[(u32, T)]) -> T {
        let total: u32 = among.iter().map(|(weight, _)| weight).sum();
        let mut lot = self.random.u32(..total);
        let mut chosen = among[0].1;
        for (weight, it) in among {
            chosen = *it;
            if lot < *weight {
                break;
            }
            lot -= weight;
        }
        chosen
    }

    /// One of the keys: the lower ones more often, or, if the database makes them, any new one.
    fn key(&mut self) -> Key {
        let table = self.choose(&TABLES);
        let ids = self.worker.ids(table);
        let mut id = self.random.i64(ids.clone());
        if !table.has_generated_keys() {
            id = id.min(self.random.i64(ids));
        }
        Key { table, id }
    }

    /// One of the rows that others refer to.
    fn parent(&mut self) -> Key {
        let table = match self.random.bool() {
            true => Table::Owner,
            false => Table::Post,
        };
        let id = self.random.i64(1..=PARENTS);
        Key { table, id }
    }

    async fn dispatch(&mut self, verb: Verb, key: Key) {
        if verb == Verb::Transaction {
            return self.transact().await;
        }
        on_table!(key.table, M => self.perform::<M>(verb, key.id).await);
    }

    async fn perform<M: Subject>(&mut self, verb: Verb, id: i64) {
        let (repository, nearest) = (self.strict::<M>(), Repository::<M>::new(&self.worker.db));
        match verb {
            Verb::Find => drop(self.find::<M>("find", id).await),
            Verb::FindNear => {
                // All of them: a reader that returns often sees a row that stays near although it
                // should not.
                let ids = if M::TABLE.is_near() {
                    self.worker.ids(M::TABLE)
                } else {
                    id..=id
                };
                for id in ids {
                    let find = nearest.find_by_id(id);
                    self.read_from("find near", id, M::TABLE.is_near(), find)
                        .await;
                }
            }
            Verb::FindStale => {
                let stale = repository.with(ReadOptions::new().stale_ttl(STALE_TTL));
                self.read("find stale", id, stale.find_by_id(id)).await;
            }
            Verb::Fresh => drop(
                self.read("fresh", id, repository.fresh().find_by_id(id))
                    .await,
            ),
            Verb::Refresh => drop(self.read("refresh", id, repository.refresh(id)).await),
            Verb::Aside => self.look_aside(&repository, id).await,
            Verb::FindTeam => {
                let team = self.random.i64(0..TEAMS);
                let db = self.worker.db.clone();
                self.lookup(
                    "find by team",
                    Sought::Team(team),
                    M::find_by_team(&db, team),
                )
                .await;
            }
            Verb::FindParent => {
                let parent = self.random.i64(0..=PARENTS);
                let parent = Some(parent).filter(|parent| *parent > 0);
                let db = self.worker.db.clone();
                if M::TABLE.parent().is_some() {
                    let find = M::find_by_parent(&db, parent);
                    self.lookup("find by parent", Sought::Parent(parent), find)
                        .await;
                }
            }
            Verb::FindValue => {
                // A value that the row has, or had a moment ago.
                if let Some(Some(row)) = self.find::<M>("find for its value", id).await {
                    let (db, value) = (self.worker.db.clone(), row.seen().value);
                    let find =
                        async { Ok(M::find_by_value(&db, &value).await?.into_iter().collect()) };
                    self.lookup("find by value", Sought::Value(value.clone()), find)
                        .await;
                }
            }
            Verb::Save => match self.find::<M>("find to save", id).await {
                Some(Some(row)) => {
                    let (value, base) = (self.worker.value(), row.seen());
                    let save = repository.save(row.with_value(&value));
                    self.write::<M, _>("save", id, Change::Put(value), Some(base), save)
                        .await;
                }
                Some(None) => self.insert(&repository, id).await,
                None => {}
            },
            Verb::Update => {
                if let Some(Some(row)) = self.find::<M>("find to update", id).await {
                    let (value, base) = (self.worker.value(), row.seen());
                    let update = repository.update(row.change_to(&value));
                    self.write::<M, _>("update", id, Change::Put(value), Some(base), update)
                        .await;
                }
            }
            // The row that the change is based on may be near, and older.
            Verb::UpdateWith => self.update_with(&nearest, id).await,
            Verb::Insert | Verb::InsertParent => self.insert(&repository, id).await,
            Verb::Delete => {
                if let Some(Some(row)) = self.find::<M>("find to delete", id).await {
                    let base = row.seen();
                    let delete = repository.delete(row);
                    self.write::<M, _>("delete", id, Change::Delete, Some(base), delete)
                        .await;
                }
            }
            Verb::DeleteById | Verb::DeleteParent => self.delete_by_id(&repository, id).await,
            Verb::RawThenInvalidate => self.raw(&repository, id, Invalidated::After).await,
            Verb::RawThenRefresh => self.raw(&repository, id, Invalidated::Perhaps).await,
            Verb::RawThenInvalidateAll => self.raw_all(&repository).await,
            Verb::Transaction => {}
        }
    }

    /// Reads past the near cache.
    fn strict<M: Subject>(&self) -> Repository<M> {
        Repository::new(&self.worker.db).with(skip_near())
    }

    /// Reads past the near cache, and writes down what was seen; `None` if the read failed.
    async fn read<M: Subject>(
        &self,
        verb: &str,
        id: i64,
        find: impl Future<Output = Result<Option<Cached<M>>, ReadError>>,
    ) -> Option<Option<M>> {
        self.read_from(verb, id, false, find).await
    }

    /// The same; the near cache may be allowed to answer.
    async fn read_from<M: Subject>(
        &self,
        verb: &str,
        id: i64,
        near_allowed: bool,
        find: impl Future<Output = Result<Option<Cached<M>>, ReadError>>,
    ) -> Option<Option<M>> {
        self.read_since(verb, id, None, near_allowed, find).await
    }

    /// The same; it shows the state at `from` or a later one, by default that at its begin.
    async fn read_since<M: Subject>(
        &self,
        verb: &str,
        id: i64,
        from: Option<Moment>,
        near_allowed: bool,
        find: impl Future<Output = Result<Option<Cached<M>>, ReadError>>,
    ) -> Option<Option<M>> {
        let from = from.unwrap_or_else(Moment::now);
        let found = find.await;
        let to = Moment::now();
        match found {
            Ok(row) => {
                let source = row.as_ref().map(Cached::source);
                let near = match source {
                    Some(Source::Near) if !near_allowed => {
                        self.panicked(format!("{verb} was answered by the near cache"));
                        return None;
                    }
                    Some(Source::Near) => Near::Hit,
                    _ if !near_allowed => Near::Skipped,
                    Some(_) => Near::Missed,
                    None => Near::Perhaps,
                };
                let cached = source != Some(Source::Database);
                let row = row.map(Cached::into_model);
                self.saw::<M>(verb, id, (from, to), row.as_ref(), cached, near);
                Some(row)
            }
            Err(ReadError::Aborted { entity }) => {
                self.panicked(format!("a load of {entity} was aborted"));
                None
            }
            Err(_) => None,
        }
    }

    /// Looks rows up, and records which were found and which were not.
    async fn lookup<M: Subject>(
        &self,
        verb: &str,
        sought: Sought,
        find: impl Future<Output = Result<Vec<Cached<M>>, ReadError>>,
    ) {
        let from = Moment::now();
        let found = find.await;
        let span = (from, Moment::now());
        match found {
            Ok(rows) => {
                let found = rows.iter().map(|row| (row.seen(), row.id())).collect();
                for row in &rows {
                    self.worker.met(key::<M>(row.id()));
                }
                let ids = self.worker.ids(M::TABLE);
                let log = &self.worker.log;
                log.looked_up::<M>(verb, sought, span, found, ids);
            }
            Err(ReadError::Aborted { entity }) => {
                self.panicked(format!("a lookup of {entity} was aborted"));
            }
            Err(_) => {}
        }
    }

    fn saw<M: Subject>(
        &self,
        verb: &str,
        id: i64,
        (from, to): (Moment, Moment),
        row: Option<&M>,
        cached: bool,
        near: Near,
    ) {
        if row.is_some() {
            self.worker.met(key::<M>(id));
        }
        self.worker.log.write(&Record::Read(Read {
            verb: verb.into(),
            key: key::<M>(id),
            from,
            to,
            saw: row.map(Subject::seen),
            cached,
            near,
        }));
    }

    fn panicked(&self, what: String) {
        let at = Moment::now();
        self.worker.log.write(&Record::Panic { at, what });
    }

    async fn find<M: Subject>(&self, verb: &str, id: i64) -> Option<Option<M>> {
        self.read(verb, id, self.strict::<M>().find_by_id(id)).await
    }

    async fn look_aside<M: Subject>(&mut self, repository: &Repository<M>, id: i64) {
        let from = Moment::now();
        let (row, cached) = match repository.cache().lookup(id).await {
            LookedUp::Hit(row) => (Some(row.into_model()), true),
            LookedUp::Absent => (None, true),
            LookedUp::Miss(lease) => {
                let conn = self.worker.db.connection();
                let Ok(row) = <M as ModelTrait>::Entity::find_by_id(id).one(conn).await else {
                    return;
                };
                // Time for others to write, and sometimes for the lease to lapse.
                let dawdle = self.random.u64(..8) * self.random.u64(..8) * self.random.u64(..8);
                tokio::time::sleep(Duration::from_millis(dawdle)).await;
                match &row {
                    Some(row) => {
                        if let Err(error) = lease.fill(row.clone()).await {
                            self.panicked(format!("a fill failed: {error}"));
                        }
                    }
                    None => lease.fill_absent().await,
                }
                (row, false)
            }
        };
        let (span, near) = ((from, Moment::now()), Near::Skipped);
        self.saw("aside", id, span, row.as_ref(), cached, near);
    }

    fn begin(&mut self, verb: &str, invalidated: Invalidated) -> OpId {
        let op = self.worker.begin(verb, invalidated);
        self.open = Some(op);
        op
    }

    fn try_to<M: Subject>(&self, op: OpId, id: i64, change: Change, base: Option<Seen>) {
        self.worker.log.write(&Record::Try {
            op,
            at: Moment::now(),
            key: key::<M>(id),
            change,
            base,
        });
    }

    fn end(&mut self, op: OpId, outcome: Outcome, why: String) {
        self.open = None;
        self.worker.end(op, outcome, why);
    }

    /// Writes one row with one statement.
    async fn write<M: Subject, T>(
        &mut self,
        verb: &str,
        id: i64,
        change: Change,
        base: Option<Seen>,
        sql: impl Future<Output = Result<T, WriteError>>,
    ) {
        let op = self.begin(verb, Invalidated::Before);
        self.try_to::<M>(op, id, change, base);
        match sql.await {
            Ok(_) => self.end(op, Outcome::Acknowledged, String::new()),
            Err(error) => self.end_with(op, &error),
        }
    }

    fn end_with(&mut self, op: OpId, error: &WriteError) {
        if let WriteError::Aborted { .. } = error {
            self.panicked(error.to_string());
        }
        self.end(op, outcome_of(error), error.to_string());
    }

    async fn insert<M: Subject>(&mut self, repository: &Repository<M>, id: i64) {
        let value = self.worker.value();
        let insert = repository.insert(M::new_row(id, &value));
        if !M::TABLE.has_generated_keys() {
            return self
                .write::<M, _>("insert", id, Change::Put(value), None, insert)
                .await;
        }
        // Where the library uses one statement, and may write without blocks, it blocks no key that it
        // does not know yet.
        let keyless =
            self.worker.policy == Policy::Proceed && self.worker.engine.returns_inserted_rows();
        let invalidated = match keyless {
            true => Invalidated::Keyless,
            false => Invalidated::Before,
        };
        let op = self.begin("insert", invalidated);
        self.try_to::<M>(op, UNKNOWN_ID, Change::Put(value), None);
        match insert.await {
            Ok(row) => {
                self.keyed::<M>(op, 0, row.id());
                self.end(op, Outcome::Acknowledged, String::new());
            }
            Err(error) => self.end_with(op, &error),
        }
    }

    /// The database has made the key of an inserted row.
    fn keyed<M: Subject>(&self, op: OpId, attempt: usize, id: i64) {
        self.worker.met(key::<M>(id));
        self.worker.log.write(&Record::Keyed { op, attempt, id });
    }

    async fn update_with<M: Subject>(&mut self, repository: &Repository<M>, id: i64) {
        let value = self.worker.value();
        let op = self.begin("update_with", Invalidated::Before);
        self.try_to::<M>(op, id, Change::Put(value.clone()), None);
        let worker = Arc::clone(&self.worker);
        let changed = M::update_with(repository, id, &value, |base| {
            let (attempt, at) = (0, Moment::now());
            worker.log.write(&Record::Learn { op, attempt, base });
            worker.log.write(&Record::Arm { op, at });
        });
        match changed.await {
            Ok(()) => self.end(op, Outcome::Acknowledged, String::new()),
            Err(error) => self.end_with(op, &error),
        }
    }

    async fn delete_by_id<M: Subject>(&mut self, repository: &Repository<M>, id: i64) {
        let op = self.begin("delete_by_id", Invalidated::Before);
        self.try_to::<M>(op, id, Change::Delete, None);
        match repository.delete_by_id(id).await {
            Ok(row) => {
                self.deleted(op, 0, row.as_ref());
                self.end(op, Outcome::Acknowledged, String::new());
            }
            Err(error) => self.end_with(op, &error),
        }
    }

    /// What a deletion by key turned out to delete.
    fn deleted<M: Subject>(&self, op: OpId, attempt: usize, row: Option<&M>) {
        self.worker.log.write(&match row {
            Some(row) => Record::Learn {
                op,
                attempt,
                base: row.seen(),
            },
            None => Record::Void { op, attempt },
        });
    }
}

fn key<M: Subject>(id: i64) -> Key {
    Key {
        table: M::TABLE,
        id,
    }
}

/// What a caller may conclude from the error of a write.
fn outcome_of(error: &WriteError) -> Outcome {
    match error {
        WriteError::Database { source, .. } => statement_outcome(source),
        WriteError::AfterHook { .. } => Outcome::Acknowledged,
        WriteError::Unknown { .. } | WriteError::Aborted { .. } => Outcome::Unknown,
        WriteError::VersionConflict { .. }
        | WriteError::NotFound { .. }
        | WriteError::VersionNotSet { .. }
        | WriteError::KeyNotSet { .. }
        | WriteError::CacheUnavailable { .. }
        | WriteError::TooLate { .. }
        | WriteError::Read(_) => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

/// What a caller may conclude from the error of a statement that commits by itself.
fn statement_outcome(error: &sea_orm::DbErr) -> Outcome {
    if database::is_refused(error) {
        Outcome::Failed
    } else {
        Outcome::Unknown
    }
}
