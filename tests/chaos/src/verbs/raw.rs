//! Statements past the library, and what tells the cache of them.

use cached_repo::Repository;
use sea_orm::{ConnectionTrait, DbErr, Statement, TransactionTrait};

use super::{Actor, statement_outcome};
use crate::{
    clock::Moment,
    entities::{Subject, TEAMS, team_of},
    history::{Change, Invalidated, OpId, Outcome, Record},
    settings::CACHE_TIMEOUT,
    worker::Sabotage,
};

/// One of how many rows of a table a statement about many rows changes.
const SHARE: i64 = 4;

impl Actor {
    /// Writes a row past the library, and then invalidates it.
    pub(super) async fn raw<M: Subject>(
        &mut self,
        repository: &Repository<M>,
        id: i64,
        invalidated: Invalidated,
    ) {
        let verb = match invalidated {
            Invalidated::Perhaps => "raw, then refresh",
            _ => "raw, then invalidate",
        };
        let (sql, change) = self.raw_sql::<M>(id);
        let op = self.begin(verb, invalidated);
        self.try_to::<M>(op, id, change, None);
        let executed = self.worker.db.connection().execute_unprepared(&sql).await;
        match executed {
            Ok(result) if result.rows_affected() == 0 => {
                self.worker.log.write(&Record::Void { op, attempt: 0 });
                return self.end(op, Outcome::Failed, "no such row".into());
            }
            Ok(_) => {}
            Err(error) => return self.end(op, statement_outcome(&error), error.to_string()),
        }
        let began = Moment::now();
        let why = match invalidated {
            Invalidated::Perhaps => match repository.refresh(id).await {
                // It has not waited for the cache to its end, and does not say so.
                Ok(_) if Moment::now().since(began) >= CACHE_TIMEOUT => {
                    return self.end(op, Outcome::Unknown, "the refresh took long".into());
                }
                Ok(_) => String::new(),
                Err(error) => return self.end(op, Outcome::Unknown, error.to_string()),
            },
            // An invalidation that could not be sent is queued.
            _ => match repository.invalidate(id).await {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            },
        };
        self.end(op, Outcome::Acknowledged, why);
    }

    /// An UPDATE past the library; half of them do not raise the version.
    pub(super) fn raw_sql<M: Subject>(&mut self, id: i64) -> (String, Change) {
        let (table, value) = (M::TABLE.name(), self.worker.value());
        let team = team_of(&value);
        let raises = M::TABLE.is_versioned() && self.random.bool();
        let version = if raises {
            ", version = version + 1"
        } else {
            ""
        };
        let sql =
            format!("UPDATE {table} SET value = '{value}', team = {team}{version} WHERE id = {id}");
        let change = match raises {
            true => Change::Put(value),
            false => Change::PutKeepingVersion(value),
        };
        (sql, change)
    }

    /// Writes many rows past the library, and then invalidates their entity.
    pub(super) async fn raw_all<M: Subject>(&mut self, repository: &Repository<M>) {
        let op = self.begin("raw, then invalidate_all", Invalidated::After);
        let tx = match self.worker.db.connection().begin().await {
            Ok(tx) => tx,
            Err(error) => return self.end(op, Outcome::Failed, error.to_string()),
        };
        if let Err(error) = self.update_all::<M>(&tx, op, &mut 0).await {
            // Without a COMMIT nothing is committed, whatever the answer.
            let _ = tx.rollback().await;
            return self.end(op, Outcome::Failed, error.to_string());
        }
        if let Err(error) = tx.commit().await {
            return self.end(op, Outcome::Unknown, error.to_string());
        }
        let mut why = String::new();
        // An invalidation that could not be sent is queued.
        if self.worker.sabotage != Sabotage::WithoutInvalidateAll
            && let Err(error) = repository.invalidate_all().await
        {
            why = error.to_string();
        }
        self.end(op, Outcome::Acknowledged, why);
    }

    /// Gives many rows of a table new values with one statement, in a transaction; returns the keys and
    /// the values.
    pub(super) async fn update_all<M: Subject>(
        &mut self,
        tx: &impl ConnectionTrait,
        op: OpId,
        attempts: &mut usize,
    ) -> Result<Vec<(i64, String)>, DbErr> {
        let (table, ids) = (M::TABLE.name(), self.worker.ids(M::TABLE));
        let (from, to) = (ids.start(), ids.end());
        // One of so many rows: of a row that is changed past the library, little is promised.
        let share = self.random.i64(0..SHARE);
        // The history must say which rows there are before they are changed.
        let sql = format!(
            "SELECT id FROM {table} WHERE id BETWEEN {from} AND {to} AND id % {SHARE} = {share} \
             ORDER BY id FOR UPDATE"
        );
        let statement = Statement::from_string(tx.get_database_backend(), sql);
        let rows = tx.query_all_raw(statement).await?;
        let ids = rows.iter().map(|row| row.try_get("", "id"));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let raises = M::TABLE.is_versioned() && self.random.bool();
        let version = if raises {
            ", version = version + 1"
        } else {
            ""
        };
        let prefix = self.worker.value();
        let value = |id: i64| format!("{prefix}-{id}-{}", id % TEAMS);
        let mut cases = String::new();
        let mut changed = Vec::new();
        for id in ids {
            let value = value(id);
            self.worker.log.write(&Record::Try {
                op,
                at: Moment::now(),
                key: super::key::<M>(id),
                change: match raises {
                    true => Change::Put(value.clone()),
                    false => Change::PutKeepingVersion(value.clone()),
                },
                base: None,
            });
            *attempts += 1;
            cases += &format!(" WHEN {id} THEN '{value}'");
            changed.push((id, value));
        }
        let list = changed.iter().map(|(id, _)| id.to_string());
        let list = list.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "UPDATE {table} SET value = CASE id{cases} END, team = id % {TEAMS}{version} \
             WHERE id IN ({list})"
        );
        tx.execute_unprepared(&sql).await?;
        Ok(changed)
    }
}
