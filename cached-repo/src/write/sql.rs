//! The SQL of a write, with its version check, and what can be said of its outcome.
//!
//! PostgreSQL and SQLite return the row from the statement itself. MySQL and MariaDB have no
//! `UPDATE … RETURNING`, and triggers may change a row after RETURNING saw it
//! (`reload_after_write`): there the statement and a SELECT share a transaction.
//!
//! Does not know the cache.

use std::sync::Arc;

use sea_orm::{
    ActiveValue, ConnectionTrait, DbBackend, DbErr, TransactionTrait,
    sea_query::{DeleteStatement, InsertStatement, Value, ValueTuple},
};
use tokio::time::Instant;

use super::{
    cascade::{Cascade, delete_cascades, update_cascades},
    guard::{Late, WriteGuard},
    outcome::{Effect, Sql, Verb, Written},
};
use crate::{
    cached::AnyModel,
    context::EntityContext,
    database::{Executor, is_refusal},
    entity::{
        Entity,
        statements::{Update, fetch_one, find_by_id},
        version_number,
    },
    error::WriteError,
};

/// The values of all columns.
pub(super) type Values = Vec<ActiveValue<Value>>;

/// What the SQL of a write needs.
pub(super) struct Statement<'a, 'g> {
    pub(super) context: &'a Arc<EntityContext>,
    pub(super) conn: Executor<'a>,
    pub(super) guard: &'a mut WriteGuard<'g>,
}

/// The version that a write expects to find: the one that the caller has read.
pub(super) fn expected_version(
    entity: &Entity,
    verb: Verb,
    value: impl FnOnce(usize) -> ActiveValue<Value>,
) -> Result<Option<Value>, WriteError> {
    let Some(version) = entity.version.as_ref().filter(|_| verb == Verb::Update) else {
        return Ok(None);
    };
    match value(version.at).into_value() {
        Some(version) => Ok(Some(version)),
        None => Err(WriteError::VersionNotSet {
            entity: entity.name.clone(),
        }),
    }
}

impl Statement<'_, '_> {
    pub(super) async fn insert(self, mut values: Values) -> Sql {
        let entity = &*self.context.entity;
        leave_generated_columns(entity, &mut values);
        if let Some(version) = &entity.version
            && let unset @ ActiveValue::NotSet = &mut values[version.at]
        {
            *unset = ActiveValue::Set(version.first.clone());
        }
        let known_id = entity.id_among(&values).filter(|_| !entity.auto_increment);
        let mut insert = entity.insert(values);
        let returns = returns_rows(entity, &self.conn);
        if returns {
            insert.returning(entity.returning.clone());
        }
        let (context, conn) = (self.context, self.conn);
        let result = if returns && !self.guard.needs_late_blocks() {
            let model = fetch_one(entity, &self.conn, &insert).await;
            model.map_err(Failure::of_statement)
        } else {
            self.atomically(async |tx, _| {
                if returns {
                    return fetch_one(entity, tx, &insert).await;
                }
                let id = inserted_id(entity, tx, insert, known_id).await?;
                reload(entity, tx, &id).await.map(Some)
            })
            .await
        };
        match result {
            Ok(Some(model)) => Sql::Committed(Written::new(model, Effect::Inserted)),
            Ok(None) => Failure::Nothing(DbErr::RecordNotInserted).into_sql(context, &conn),
            Err(failure) => failure.into_sql(context, &conn),
        }
    }

    pub(super) async fn update(
        self,
        id: &ValueTuple,
        mut values: Values,
        expected: Option<Value>,
    ) -> Sql {
        let (context, conn) = (self.context, self.conn);
        let entity = &*context.entity;
        leave_generated_columns(entity, &mut values);
        if let Some(version) = &entity.version {
            values[version.at] = ActiveValue::NotSet;
        }
        let cascades = update_cascades(context, |at| new_value(&values, at).is_some());
        let cascading = cascades.then(|| values.clone());
        let update = entity.update(Update {
            id,
            values,
            expected: expected.clone(),
        });
        let returns = returns_rows(entity, &conn);
        let result = match update {
            // Nothing is set.
            None => {
                let model = find_by_id(entity, &conn, id).await;
                model.map_err(Failure::of_statement)
            }
            Some(mut update) if returns && !cascades && !self.guard.needs_late_blocks() => {
                update.returning(entity.returning.clone());
                let model = fetch_one(entity, &conn, &update).await;
                model.map_err(Failure::of_statement)
            }
            Some(mut update) => {
                self.atomically(async |tx, guard| {
                    let cascade = match cascading {
                        Some(values) => cascade_of_update(context, tx, id, &values).await?,
                        None => None,
                    };
                    if let Some(cascade) = &cascade {
                        guard.note(cascade.before_statement());
                    }
                    let model = if returns {
                        update.returning(entity.returning.clone());
                        let model = fetch_one(entity, tx, &update).await?;
                        model.ok_or(DbErr::RecordNotUpdated)?
                    } else {
                        if tx.execute(&update).await?.rows_affected() == 0 {
                            return Err(DbErr::RecordNotUpdated);
                        }
                        reload(entity, tx, id).await?
                    };
                    if let Some(cascade) = cascade {
                        let (changes, read) = cascade.after_statement(tx).await;
                        guard.note(changes);
                        read?;
                    }
                    Ok(Some(model))
                })
                .await
            }
        };
        match result {
            Ok(Some(model)) => Sql::Committed(Written::new(model, Effect::Updated)),
            Ok(None) | Err(Failure::Nothing(DbErr::RecordNotUpdated)) => {
                contradiction(context, &conn, id, expected).await
            }
            Err(failure) => failure.into_sql(context, &conn),
        }
    }

    /// Deletes a row that was read; `values` say by which key.
    pub(super) async fn delete(self, model: &AnyModel, values: &Values) -> Sql {
        let (context, conn) = (self.context, self.conn);
        let entity = &*context.entity;
        let Some(named) = entity.id_among(values) else {
            let error = DbErr::PrimaryKeyNotSet { ctx: "DeleteOne" };
            return Failure::Nothing(error).into_sql(context, &conn);
        };
        let expected = entity.version.as_ref();
        let expected = expected.map(|version| entity.ops.value(&**model, version.at));
        let mut delete = entity.delete(&named, expected.clone());
        let id = entity.id_of(&**model);
        // The row that goes may be spelt otherwise than the caller's, and then has another key.
        let deleted = if delete_cascades(context) {
            self.delete_with_others(&id, &delete).await
        } else if entity.row_key_is_exact(&id) {
            let deleted = conn.execute(&delete).await;
            deleted
                .map(|result| (result.rows_affected() > 0).then(|| Arc::clone(model)))
                .map_err(Failure::of_statement)
        } else if !returning_is_supported(&conn) {
            let find = entity.select_for_update(&id);
            self.atomically(async |tx, _| {
                let model = fetch_one(entity, tx, &find).await?;
                let deleted = tx.execute(&delete).await?.rows_affected() > 0;
                Ok(model.filter(|_| deleted))
            })
            .await
        } else {
            delete.returning(entity.returning.clone());
            let model = fetch_one(entity, &conn, &delete).await;
            model.map_err(Failure::of_statement)
        };
        match deleted {
            Ok(Some(model)) => Sql::Committed(Written::new(model, Effect::Deleted)),
            Ok(None) => contradiction(context, &conn, &id, expected).await,
            Err(failure) => failure.into_sql(context, &conn),
        }
    }

    pub(super) async fn delete_by_id(self, id: &ValueTuple) -> Sql {
        let (context, conn) = (self.context, self.conn);
        let entity = &*context.entity;
        let mut delete = entity.delete(id, None);
        let deleted = if delete_cascades(context) {
            self.delete_with_others(id, &delete).await
        } else if !returning_is_supported(&self.conn) {
            // The version must be known, so that a late writer of it cannot bring the row back.
            let find = entity.select_for_update(id);
            self.atomically(async |tx, _| {
                let model = fetch_one(entity, tx, &find).await?;
                // A row that was inserted since is left alone: its version is not known.
                if model.is_some() {
                    tx.execute(&delete).await?;
                }
                Ok(model)
            })
            .await
        } else {
            delete.returning(entity.returning.clone());
            let model = fetch_one(entity, &self.conn, &delete).await;
            model.map_err(Failure::of_statement)
        };
        match deleted {
            Ok(Some(model)) => Sql::Committed(Written::new(model, Effect::Deleted)),
            Ok(None) => Sql::Contradicted(context.not_found(&entity.row_key(id))),
            Err(failure) => failure.into_sql(context, &conn),
        }
    }

    /// Deletes a row, and finds what the database deletes or changes with it.
    async fn delete_with_others(
        self,
        id: &ValueTuple,
        delete: &DeleteStatement,
    ) -> Result<Option<AnyModel>, Failure> {
        let context = self.context;
        let find = context.entity.select_for_update(id);
        self.atomically(async |tx, guard| {
            let Some(model) = fetch_one(&context.entity, tx, &find).await? else {
                return Ok(None);
            };
            let cascade = Cascade::of_delete(context, tx, &model).await?;
            guard.note(cascade.before_statement());
            if tx.execute(delete).await?.rows_affected() == 0 {
                return Ok(None);
            }
            let (changes, read) = cascade.after_statement(tx).await;
            guard.note(changes);
            read?;
            Ok(Some(model))
        })
        .await
    }

    /// Runs the statements of one write in a transaction, their own or the one they are in. In
    /// their own, the keys that only the row shows are blocked before the COMMIT.
    async fn atomically(
        self,
        work: impl AsyncFnOnce(&Executor<'_>, &mut WriteGuard<'_>) -> Result<Option<AnyModel>, DbErr>,
    ) -> Result<Option<AnyModel>, Failure> {
        let Executor::Pool(pool) = self.conn else {
            return work(&self.conn, self.guard).await.map_err(Failure::Nothing);
        };
        let tx = pool.begin().await.map_err(Failure::Nothing)?;
        let worked = match work(&Executor::Own(&tx), self.guard).await {
            Ok(model) => prepared(self.guard, &Executor::Own(&tx), model).await,
            Err(error) => Err(Failure::Nothing(error)),
        };
        match worked {
            Ok(model) => match tx.commit().await {
                Ok(()) => Ok(model),
                Err(error) => Err(Failure::Unknown(error)),
            },
            Err(failure) => {
                // Without a COMMIT the server rolls back, asked or not.
                let _ = tx.rollback().await;
                Err(failure)
            }
        }
    }
}

/// The model, if it may be committed.
async fn prepared(
    guard: &mut WriteGuard<'_>,
    tx: &Executor<'_>,
    model: Option<AnyModel>,
) -> Result<Option<AnyModel>, Failure> {
    if let Some(model) = &model {
        let blocked = guard.block_late(&**model, tx).await;
        blocked.map_err(|late| match late {
            Late::Cache(source) => Failure::Refused(WriteError::CacheUnavailable { source }),
            Late::Database(source) => Failure::Nothing(source),
        })?;
    }
    let late = |deadline| Instant::now() >= deadline;
    if guard.deadline().is_some_and(late) {
        return Err(Failure::TooLate);
    }
    Ok(model)
}

/// Why no row matched: another version, or no row.
async fn contradiction(
    context: &EntityContext,
    conn: &Executor<'_>,
    id: &ValueTuple,
    expected: Option<Value>,
) -> Sql {
    let entity = &*context.entity;
    let found = match conn {
        Executor::Pool(_) => find_by_id(entity, conn, id).await,
        // The transaction may see an older state than the one that it conflicts with.
        Executor::Own(_) | Executor::Shared(_) => {
            fetch_one(entity, conn, &entity.select_for_update(id)).await
        }
    };
    let key = entity.row_key(id);
    Sql::Contradicted(match (found, expected, &entity.version) {
        (Ok(Some(model)), Some(expected), Some(version)) => WriteError::VersionConflict {
            entity: entity.name.clone(),
            id: WriteError::id_text(&key),
            expected: version_number(&expected).unwrap_or_default(),
            found: version_number(&entity.ops.value(&*model, version.at)).unwrap_or_default(),
        },
        (Ok(_), ..) => context.not_found(&key),
        (Err(source), ..) => context.write_failed(source),
    })
}

/// Finds what the database changes with a row that is about to be updated; `None` without such a row.
async fn cascade_of_update(
    context: &Arc<EntityContext>,
    tx: &Executor<'_>,
    id: &ValueTuple,
    values: &Values,
) -> Result<Option<Cascade>, DbErr> {
    let find = context.entity.select_for_update(id);
    let Some(before) = fetch_one(&context.entity, tx, &find).await? else {
        return Ok(None);
    };
    let after = |at: usize| new_value(values, at);
    Cascade::of_update(context, tx, &before, after)
        .await
        .map(Some)
}

/// The value that a statement gives a column; `None` if it leaves it alone.
fn new_value(values: &Values, at: usize) -> Option<Value> {
    match &values[at] {
        ActiveValue::Set(value) => Some(value.clone()),
        _ => None,
    }
}

/// Whether one statement both writes and returns the row as it stays.
fn returns_rows(entity: &Entity, conn: &Executor<'_>) -> bool {
    returning_is_supported(conn) && !entity.options().reload_after_write
}

/// Not on MySQL and MariaDB, nor on SQLite if SeaORM is built for releases without it.
fn returning_is_supported(conn: &Executor<'_>) -> bool {
    let backend = conn.get_database_backend();
    // SeaORM's `mariadb-use-returning` speaks for INSERT and DELETE; no MariaDB has it for UPDATE.
    backend != DbBackend::MySql && backend.support_returning()
}

async fn reload(entity: &Entity, tx: &Executor<'_>, id: &ValueTuple) -> Result<AnyModel, DbErr> {
    let model = find_by_id(entity, tx, id).await?;
    model.ok_or(DbErr::RecordNotUpdated)
}

/// Inserts a row; gives its primary key, as SeaORM would.
async fn inserted_id(
    entity: &Entity,
    tx: &Executor<'_>,
    mut insert: InsertStatement,
    known: Option<ValueTuple>,
) -> Result<ValueTuple, DbErr> {
    if tx.support_returning() {
        insert.returning(entity.returning.clone());
        let model = fetch_one(entity, tx, &insert).await?;
        let model = model.ok_or(DbErr::RecordNotInserted)?;
        return Ok(entity.id_of(&*model));
    }
    let inserted = tx.execute(&insert).await?;
    if inserted.rows_affected() == 0 {
        return Err(DbErr::RecordNotInserted);
    }
    match known {
        Some(id) => Ok(id),
        None if inserted.last_insert_id() == 0 => Err(DbErr::RecordNotInserted),
        None => {
            let id = entity.ops.generated_key(inserted.last_insert_id());
            id.map_err(|_| DbErr::UnpackInsertId)
        }
    }
}

/// SQL that failed.
enum Failure {
    /// Nothing was written.
    Nothing(DbErr),
    /// Nothing was written: it was not committed, because that took too long.
    TooLate,
    /// Nothing was written: the cache refused a block.
    Refused(WriteError),
    /// It may have been, or may yet be.
    Unknown(DbErr),
}

impl Failure {
    /// Of a statement that commits by itself.
    fn of_statement(error: DbErr) -> Self {
        let refused = is_refusal(&error)
            || matches!(
                error,
                DbErr::ConnectionAcquire(_)
                    | DbErr::Conn(_)
                    | DbErr::PrimaryKeyNotSet { .. }
                    | DbErr::RecordNotUpdated
                    | DbErr::RecordNotFound(_)
                    | DbErr::RecordNotInserted
                    | DbErr::BackendNotSupported { .. }
                    | DbErr::AccessDenied { .. }
                    | DbErr::RbacError(_)
            );
        if refused {
            Self::Nothing(error)
        } else {
            Self::Unknown(error)
        }
    }

    fn into_sql(self, context: &EntityContext, conn: &Executor<'_>) -> Sql {
        match self {
            Self::Nothing(source) => Sql::Refused(context.write_failed(source)),
            Self::TooLate => Sql::Refused(WriteError::TooLate {
                entity: context.entity.name.clone(),
            }),
            Self::Refused(error) => Sql::Refused(error),
            Self::Unknown(source) => Sql::Unknown(match conn {
                // Nothing of a transaction is written before its COMMIT.
                Executor::Shared(_) => context.write_failed(source),
                Executor::Pool(_) | Executor::Own(_) => WriteError::Unknown {
                    entity: context.entity.name.clone(),
                    source,
                },
            }),
        }
    }
}

/// Leaves the columns that only the database writes out of a statement.
fn leave_generated_columns(entity: &Entity, values: &mut Values) {
    for (column, value) in entity.columns.iter().zip(values) {
        if column.is_generated {
            *value = ActiveValue::NotSet;
        }
    }
}
