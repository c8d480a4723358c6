//! Transactions: a few statements on a few rows, savepoints among them, and every way to end.

use std::collections::{HashMap, HashSet};

use cached_repo::{CommitError, Repository, Transaction, TransactionError, WriteError};
use sea_orm::ConnectionTrait;

use super::Actor;
use crate::{
    clock::Moment,
    entities::{Key, Subject, UNKNOWN_ID, on_table},
    history::{Change, Invalidated, OpId, Outcome, Record},
    worker::Sabotage,
};

/// What became of a step that was not carried out.
type Failed = String;

/// How a transaction is meant to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Commit,
    Rollback,
    Dropped,
    /// A statement that the database refuses, and then COMMIT all the same.
    RawError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Save,
    DeleteById,
    Raw,
    RawAll,
}

/// What a transaction has done so far.
struct Script {
    op: OpId,
    attempts: usize,
    /// The values of the rows it has changed, `None` for deleted ones.
    own: HashMap<Key, Option<String>>,
    /// The rows it has deleted that others may have referred to.
    gone: HashSet<Key>,
    /// No snapshot of it is older.
    began: Moment,
}

impl Actor {
    pub(super) async fn transact(&mut self) {
        let ending = match self.random.u8(..10) {
            0 => Ending::Rollback,
            1 => Ending::Dropped,
            2 => Ending::RawError,
            _ => Ending::Commit,
        };
        let in_closure = self.random.bool();
        let op = self.begin("transaction", Invalidated::Before);
        let mut script = Script {
            op,
            attempts: 0,
            own: HashMap::new(),
            gone: HashSet::new(),
            began: Moment::now(),
        };
        let (outcome, why) = if in_closure {
            self.by_closure(&mut script, ending).await
        } else {
            self.by_hand(&mut script, ending).await
        };
        self.end(op, outcome, why);
    }

    async fn by_closure(&mut self, script: &mut Script, ending: Ending) -> (Outcome, String) {
        let db = self.worker.db.clone();
        let done = db
            .transaction(async |tx| -> Result<(), Failed> {
                self.steps(tx, script).await?;
                match ending {
                    Ending::Commit => {
                        self.arm(script.op);
                        Ok(())
                    }
                    Ending::RawError => {
                        self.refused(tx).await;
                        Ok(())
                    }
                    Ending::Rollback | Ending::Dropped => Err("meant to fail".into()),
                }
            })
            .await;
        match done {
            Ok(()) => (Outcome::Acknowledged, String::new()),
            Err(TransactionError::Commit(error)) => committed(Err(error)),
            Err(error) => (Outcome::Failed, error.to_string()),
        }
    }

    async fn by_hand(&mut self, script: &mut Script, ending: Ending) -> (Outcome, String) {
        let tx = match self.worker.db.begin().await {
            Ok(tx) => tx,
            Err(error) => return (Outcome::Failed, error.to_string()),
        };
        // Whatever failed, the library must know whether the rest may be committed.
        let failed = self.steps(&tx, script).await.err();
        match ending {
            Ending::Commit => {
                self.arm(script.op);
                committed(tx.commit().await.map(drop))
            }
            Ending::RawError => {
                self.refused(&tx).await;
                self.arm(script.op);
                committed(tx.commit().await.map(drop))
            }
            Ending::Rollback => {
                // Without a COMMIT nothing is committed, whatever the answer.
                let _ = tx.rollback().await;
                (Outcome::Failed, failed.unwrap_or_default())
            }
            Ending::Dropped => {
                drop(tx);
                (Outcome::Failed, failed.unwrap_or_default())
            }
        }
    }

    /// No block of the transaction is placed before its COMMIT is requested.
    fn arm(&self, op: OpId) {
        let at = Moment::now();
        self.worker.log.write(&Record::Arm { op, at });
    }

    /// A statement that fails, and takes the transaction with it on PostgreSQL.
    async fn refused(&self, tx: &Transaction) {
        // It is meant to fail.
        let _ = tx
            .execute_unprepared(self.worker.engine.refused_statement())
            .await;
    }

    async fn steps(&mut self, tx: &Transaction, script: &mut Script) -> Result<(), Failed> {
        for _ in 0..self.random.u8(1..=3) {
            if self.random.u8(..8) == 0 {
                self.savepoint(tx, script).await?;
            } else {
                self.step(tx, script).await?;
            }
        }
        Ok(())
    }

    /// A nested transaction; one of two is undone.
    async fn savepoint(&mut self, tx: &Transaction, script: &mut Script) -> Result<(), Failed> {
        let nested = tx.begin().await.map_err(|error| error.to_string())?;
        let first = script.attempts;
        let (own, gone) = (script.own.clone(), script.gone.clone());
        let mut result = self.step(&nested, script).await;
        if result.is_ok() {
            result = self.step(&nested, script).await;
        }
        let undone = match self.random.u8(..4) {
            0 | 1 => {
                let released = nested.commit().await;
                if released.is_ok() {
                    return result;
                }
                // Nothing of the whole transaction can be committed then.
                released.map(drop).map_err(|error| error.to_string())
            }
            2 => nested.rollback().await.map_err(|error| error.to_string()),
            _ => {
                drop(nested);
                Ok(())
            }
        };
        for attempt in first..script.attempts {
            let op = script.op;
            self.worker.log.write(&Record::Void { op, attempt });
        }
        (script.own, script.gone) = (own, gone);
        undone
    }

    async fn step(&mut self, tx: &Transaction, script: &mut Script) -> Result<(), Failed> {
        let step = match self.random.u8(..20) {
            0..=5 => Step::Read,
            6..=13 => Step::Save,
            14 | 15 => Step::DeleteById,
            16..=18 => Step::Raw,
            _ => Step::RawAll,
        };
        let key = self.key();
        on_table!(key.table, M => self.take::<M>(step, key.id, tx, script).await)
    }

    async fn take<M: Subject>(
        &mut self,
        step: Step,
        id: i64,
        tx: &Transaction,
        script: &mut Script,
    ) -> Result<(), Failed> {
        let repository = Repository::<M>::new(&self.worker.db).on(tx);
        let key = super::key::<M>(id);
        match step {
            Step::Read => drop(self.read_inside(&repository, id, script).await?),
            Step::Save => {
                let row = self.read_inside(&repository, id, script).await?;
                let value = self.worker.value();
                let base = row.as_ref().map(Subject::seen);
                let is_keyless = row.is_none() && M::TABLE.has_generated_keys();
                let named = if is_keyless { UNKNOWN_ID } else { id };
                self.attempt::<M>(named, Change::Put(value.clone()), base, script);
                let saved = match row {
                    Some(row) if self.random.bool() => {
                        repository.save(row.with_value(&value)).await
                    }
                    Some(row) => repository.update(row.change_to(&value)).await,
                    None => repository.insert(M::new_row(id, &value)).await,
                };
                match saved {
                    Ok(row) => {
                        if is_keyless {
                            self.keyed::<M>(script.op, script.attempts - 1, row.id());
                        }
                        script.own.insert(super::key::<M>(row.id()), Some(value));
                    }
                    Err(error) => self.missed(script, error)?,
                }
            }
            Step::DeleteById => {
                self.attempt::<M>(id, Change::Delete, None, script);
                match repository.delete_by_id(id).await {
                    Ok(row) => {
                        self.deleted(script.op, script.attempts - 1, row.as_ref());
                        if row.is_some() {
                            script.own.insert(key, None);
                            script.gone.insert(key);
                            // Those that referred to it are no longer as they were written.
                            script
                                .own
                                .retain(|own, _| !own.table.may_change_with(key.table));
                        }
                    }
                    Err(error) => self.missed(script, error)?,
                }
            }
            Step::Raw => self.raw_inside::<M>(id, tx, script).await?,
            Step::RawAll => self.raw_all_inside::<M>(tx, script).await?,
        }
        Ok(())
    }

    /// Reads inside the transaction: its own writes, or the committed state.
    async fn read_inside<M: Subject>(
        &self,
        repository: &Repository<M>,
        id: i64,
        script: &Script,
    ) -> Result<Option<M>, Failed> {
        let key = super::key::<M>(id);
        let wrote = script.own.get(&key).cloned();
        let mut gone = script.gone.iter();
        let may_be_own = gone.any(|gone| M::TABLE.may_change_with(gone.table));
        if wrote.is_none() && !may_be_own {
            let snapshot = self.worker.engine.reads_from_snapshots();
            let from = snapshot.then_some(script.began);
            let find = repository.find_by_id(id);
            let read = self.read_since("find in transaction", id, from, false, find);
            return read.await.ok_or_else(|| "a read failed".into());
        }
        let row = match repository.find_by_id(id).await {
            Ok(row) => row.map(cached_repo::Cached::into_model),
            Err(error) => return Err(error.to_string()),
        };
        let saw = row.as_ref().map(Subject::seen);
        // A row that refers to one that the transaction has deleted should have changed with it, unless
        // that is there again.
        let parent = saw.as_ref().and_then(|saw| saw.parent);
        let parent = parent.zip(M::TABLE.parent());
        let parent = parent.map(|(id, (table, _))| Key { table, id });
        let dangles = |parent: &Key| {
            script.gone.contains(parent) && script.own.get(parent).is_none_or(Option::is_none)
        };
        let wrote = match wrote {
            Some(wrote) => wrote,
            None if parent.as_ref().is_some_and(dangles) => None,
            // What others wrote, or what went with another row.
            None => return Ok(row),
        };
        self.worker.log.write(&Record::OwnRead {
            op: script.op,
            at: Moment::now(),
            key,
            wrote,
            saw,
        });
        Ok(row)
    }

    /// A statement of the caller's own, with an `invalidate` before it or after it.
    async fn raw_inside<M: Subject>(
        &mut self,
        id: i64,
        tx: &Transaction,
        script: &mut Script,
    ) -> Result<(), Failed> {
        let (sql, change) = self.raw_sql::<M>(id);
        let (Change::Put(value) | Change::PutKeepingVersion(value)) = change.clone() else {
            return Ok(());
        };
        self.attempt::<M>(id, change, None, script);
        let invalidates_first = self.random.bool();
        if invalidates_first {
            tx.invalidate::<M>(id);
        }
        let executed = tx.execute_unprepared(&sql).await;
        if !invalidates_first {
            tx.invalidate::<M>(id);
        }
        match executed {
            Ok(result) if result.rows_affected() == 0 => self.void_last(script),
            Ok(_) => drop(script.own.insert(super::key::<M>(id), Some(value))),
            Err(error) => {
                self.void_last(script);
                return Err(error.to_string());
            }
        }
        Ok(())
    }

    /// Changes many rows by a statement of the caller's own, with an `invalidate_all` before it or after
    /// it.
    async fn raw_all_inside<M: Subject>(
        &mut self,
        tx: &Transaction,
        script: &mut Script,
    ) -> Result<(), Failed> {
        let invalidates_first = self.random.bool();
        let invalidates = self.worker.sabotage != Sabotage::WithoutInvalidateAll;
        if invalidates && invalidates_first {
            tx.invalidate_all::<M>();
        }
        let first = script.attempts;
        let changed = self
            .update_all::<M>(tx, script.op, &mut script.attempts)
            .await;
        if invalidates && !invalidates_first {
            tx.invalidate_all::<M>();
        }
        match changed {
            Ok(changed) => {
                let own = |(id, value)| (super::key::<M>(id), Some(value));
                script.own.extend(changed.into_iter().map(own));
                Ok(())
            }
            Err(error) => {
                for attempt in first..script.attempts {
                    let op = script.op;
                    self.worker.log.write(&Record::Void { op, attempt });
                }
                Err(error.to_string())
            }
        }
    }

    fn attempt<M: Subject>(
        &self,
        id: i64,
        change: Change,
        base: Option<crate::entities::Seen>,
        script: &mut Script,
    ) {
        self.try_to::<M>(script.op, id, change, base);
        script.attempts += 1;
    }

    fn void_last(&self, script: &Script) {
        self.worker.log.write(&Record::Void {
            op: script.op,
            attempt: script.attempts - 1,
        });
    }

    /// A write inside the transaction that changed nothing; the transaction may go on.
    fn missed(&self, script: &Script, error: WriteError) -> Result<(), Failed> {
        match error {
            WriteError::VersionConflict { .. } | WriteError::NotFound { .. } => {
                self.void_last(script);
                Ok(())
            }
            error => {
                // MariaDB undoes a statement that it refuses, and goes on with the transaction.
                self.void_last(script);
                Err(error.to_string())
            }
        }
    }
}

fn committed(result: Result<(), CommitError>) -> (Outcome, String) {
    match result {
        Ok(()) => (Outcome::Acknowledged, String::new()),
        Err(error @ (CommitError::Unknown { .. } | CommitError::Aborted)) => {
            (Outcome::Unknown, error.to_string())
        }
        Err(error) => (Outcome::Failed, error.to_string()),
    }
}
