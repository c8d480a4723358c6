//! The SQL of a write, with its version check, and what can be said of its outcome.
//!
//! PostgreSQL and SQLite return the row from the statement itself. MySQL and MariaDB have no
//! `UPDATE … RETURNING`, and triggers may change a row after RETURNING saw it
//! (`reload_after_write`): there the statement and a SELECT share a transaction.
//!
//! Does not know the cache.

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait,
    Iterable, QueryFilter, QuerySelect, TransactionTrait, ValidatedUpdateOne,
    sea_query::{Expr, ExprTrait, Value},
};
use tokio::time::Instant;

use super::{Verb, stake::Stake};
use crate::{
    ActiveModelOf, CachedEntity, ColumnOf, Id, WriteError,
    db::EntityState,
    protocol::Version,
    session::{Executor, sql_state},
};

/// What became of a write's SQL.
pub(super) enum Sql<M> {
    Committed(Written<M>),
    /// Nothing was written.
    Refused(WriteError),
    /// Nothing was written, because the row is not what the caller took it for.
    Contradicted(WriteError),
    /// The statement was sent and may be committed, now or later.
    Unknown(WriteError),
}

/// A written row; for a delete, the row as it was.
pub(super) struct Written<M> {
    pub(super) row: M,
    pub(super) inserted: bool,
    pub(super) deleted: bool,
}

impl<M: CachedEntity> Written<M> {
    /// The version below which nothing may be stored any more.
    pub(super) fn floor(&self) -> Version {
        match self.row.version() {
            Some(version) if self.deleted => version.next(),
            Some(version) => version,
            None => Version::ZERO,
        }
    }
}

/// The version a write expects to find: what the caller read.
pub(super) fn expected_version<M: CachedEntity>(
    state: &EntityState<M>,
    verb: Verb,
    active: &ActiveModelOf<M>,
) -> Result<Option<Value>, WriteError> {
    let Some(column) = M::version_column().filter(|_| verb == Verb::Update) else {
        return Ok(None);
    };
    match active.get(column) {
        ActiveValue::Set(version) | ActiveValue::Unchanged(version) => Ok(Some(version)),
        ActiveValue::NotSet => Err(WriteError::VersionNotSet {
            entity: state.name.clone(),
        }),
    }
}

pub(super) async fn insert<M: CachedEntity>(
    state: &EntityState<M>,
    conn: &Executor<'_>,
    stake: &mut Stake<'_, M>,
    mut active: ActiveModelOf<M>,
) -> Sql<M> {
    leave_generated_columns::<M>(&mut active);
    if let Some(column) = M::version_column()
        && active.is_not_set(column)
    {
        set_first_version(&mut active, column);
    }
    let insert = <M::Entity as EntityTrait>::insert(active);
    let returns = returns_rows::<M>(conn);
    let result = if returns && !stake.needs_a_second_look() {
        let row = insert.exec_with_returning(conn).await;
        row.map(Some).map_err(Failure::of_statement)
    } else {
        atomically(conn, stake, async |tx| {
            if returns {
                return insert.exec_with_returning(tx).await.map(Some);
            }
            let id = insert.exec(tx).await?.last_insert_id;
            reload::<M>(tx, id).await.map(Some)
        })
        .await
    };
    match result {
        Ok(Some(row)) => Sql::Committed(Written {
            row,
            inserted: true,
            deleted: false,
        }),
        Ok(None) => Failure::Nothing(DbErr::RecordNotInserted).into_sql(state),
        Err(failure) => failure.into_sql(state),
    }
}

pub(super) async fn update<M: CachedEntity>(
    state: &EntityState<M>,
    conn: &Executor<'_>,
    stake: &mut Stake<'_, M>,
    mut active: ActiveModelOf<M>,
    id: &Id<M>,
    expected: Option<Value>,
) -> Sql<M> {
    leave_generated_columns::<M>(&mut active);
    if let Some(column) = M::version_column() {
        active.not_set(column);
    }
    let update = match <M::Entity as EntityTrait>::update(active).validate() {
        Ok(update) => checked::<M>(update, expected.clone()),
        Err(error) => return Failure::Nothing(error).into_sql(state),
    };
    let returns = returns_rows::<M>(conn);
    let result = if returns && !stake.needs_a_second_look() {
        let row = update.exec(conn).await;
        row.map(Some).map_err(Failure::of_statement)
    } else {
        atomically(conn, stake, async |tx| {
            if returns {
                return update.exec(tx).await.map(Some);
            }
            update.exec_without_returning(tx).await?;
            reload::<M>(tx, id.clone()).await.map(Some)
        })
        .await
    };
    match result {
        Ok(Some(row)) => Sql::Committed(Written {
            row,
            inserted: false,
            deleted: false,
        }),
        Ok(None) => contradiction(state, conn, id, expected).await,
        Err(failure) if failure.no_row_matched() => contradiction(state, conn, id, expected).await,
        Err(failure) => failure.into_sql(state),
    }
}

pub(super) async fn delete<M: CachedEntity>(
    state: &EntityState<M>,
    conn: &Executor<'_>,
    stake: &mut Stake<'_, M>,
    row: &M,
    active: ActiveModelOf<M>,
) -> Sql<M> {
    let expected = M::version_column().map(|column| row.get(column));
    let mut delete = match <M::Entity as EntityTrait>::delete(active).validate() {
        Ok(delete) => delete,
        Err(error) => return Failure::Nothing(error).into_sql(state),
    };
    if let (Some(column), Some(version)) = (M::version_column(), expected.clone()) {
        delete = delete.filter(column.eq(version));
    }
    let id = EntityState::id_of(row);
    // The row that goes may be spelt otherwise than the caller's, and then has a key of its own.
    let deleted = if state.spelling_is_exact(&id) {
        let deleted = delete.exec(conn).await;
        deleted
            .map(|result| (result.rows_affected > 0).then(|| row.clone()))
            .map_err(Failure::of_statement)
    } else if conn.get_database_backend() == DbBackend::MySql {
        let find = <M::Entity as EntityTrait>::find_by_id(id.clone()).lock_exclusive();
        atomically(conn, stake, async |tx| {
            let row = find.one(tx).await?;
            let deleted = delete.exec(tx).await?.rows_affected > 0;
            Ok(row.filter(|_| deleted))
        })
        .await
    } else {
        delete
            .exec_with_returning(conn)
            .await
            .map_err(Failure::of_statement)
    };
    match deleted {
        Ok(Some(row)) => Sql::Committed(Written {
            row,
            inserted: false,
            deleted: true,
        }),
        Ok(None) => contradiction(state, conn, &id, expected).await,
        Err(failure) => failure.into_sql(state),
    }
}

pub(super) async fn delete_by_id<M: CachedEntity>(
    state: &EntityState<M>,
    conn: &Executor<'_>,
    stake: &mut Stake<'_, M>,
    id: Id<M>,
) -> Sql<M> {
    let delete = <M::Entity as EntityTrait>::delete_by_id(id.clone());
    let deleted = if conn.get_database_backend() == DbBackend::MySql {
        // The version must be known, so that a late writer of it cannot bring the row back.
        let find = <M::Entity as EntityTrait>::find_by_id(id.clone()).lock_exclusive();
        atomically(conn, stake, async |tx| {
            let row = find.one(tx).await?;
            // A row that was inserted since is left alone: its version is not known.
            if row.is_some() {
                delete.exec(tx).await?;
            }
            Ok(row)
        })
        .await
    } else {
        delete
            .exec_with_returning(conn)
            .await
            .map_err(Failure::of_statement)
    };
    match deleted {
        Ok(Some(row)) => Sql::Committed(Written {
            row,
            inserted: false,
            deleted: true,
        }),
        Ok(None) => Sql::Contradicted(WriteError::not_found(&state.name, &state.keys.row(id))),
        Err(failure) => failure.into_sql(state),
    }
}

/// Adds the version check and the version's step to an update.
fn checked<M: CachedEntity>(
    mut update: ValidatedUpdateOne<ActiveModelOf<M>>,
    expected: Option<Value>,
) -> ValidatedUpdateOne<ActiveModelOf<M>> {
    use sea_orm::QueryTrait;
    if let (Some(column), Some(version)) = (M::version_column(), expected) {
        QueryTrait::query(&mut update).value(column, Expr::col(column).add(1));
        update = update.filter(column.eq(version));
    }
    update
}

/// Why no row matched: another version, or no row.
async fn contradiction<M: CachedEntity>(
    state: &EntityState<M>,
    conn: &Executor<'_>,
    id: &Id<M>,
    expected: Option<Value>,
) -> Sql<M> {
    let found = <M::Entity as EntityTrait>::find_by_id(id.clone())
        .one(conn)
        .await;
    let key = state.keys.row(id.clone());
    match (found, expected, M::version_column()) {
        (Ok(Some(row)), Some(expected), Some(column)) => {
            Sql::Contradicted(WriteError::VersionConflict {
                entity: state.name.clone(),
                id: WriteError::id_text(&key),
                expected: version_number(&expected),
                found: version_number(&row.get(column)),
            })
        }
        (Ok(_), ..) => Sql::Contradicted(WriteError::not_found(&state.name, &key)),
        (Err(source), ..) => Sql::Contradicted(WriteError::database(&state.name, source)),
    }
}

/// Whether one statement both writes and returns the row as it stays.
fn returns_rows<M: CachedEntity>(conn: &Executor<'_>) -> bool {
    let backend = conn.get_database_backend();
    // SeaORM's `mariadb-use-returning` speaks for INSERT and DELETE; no MariaDB has it for UPDATE.
    backend != DbBackend::MySql
        && backend.support_returning()
        && !M::DEFINITION.options.reload_after_write
}

async fn reload<M: CachedEntity>(tx: &Executor<'_>, id: Id<M>) -> Result<M, DbErr> {
    let row = <M::Entity as EntityTrait>::find_by_id(id).one(tx).await?;
    row.ok_or(DbErr::RecordNotUpdated)
}

/// Runs the statements of one write in a transaction, their own or the one they are in. In their
/// own, what the row shows to be touched besides is blocked before the COMMIT.
async fn atomically<M: CachedEntity>(
    conn: &Executor<'_>,
    stake: &mut Stake<'_, M>,
    work: impl AsyncFnOnce(&Executor<'_>) -> Result<Option<M>, DbErr>,
) -> Result<Option<M>, Failure> {
    let Executor::Pool(pool) = conn else {
        return work(conn).await.map_err(Failure::Nothing);
    };
    let tx = pool.begin().await.map_err(Failure::Nothing)?;
    let worked = match work(&Executor::Own(&tx)).await {
        Ok(row) => prepared(stake, row).await,
        Err(error) => Err(Failure::Nothing(error)),
    };
    match worked {
        Ok(row) => match tx.commit().await {
            Ok(()) => Ok(row),
            Err(error) => Err(Failure::Unknown(error)),
        },
        Err(failure) => {
            // Without a COMMIT the server rolls back, asked or not.
            let _ = tx.rollback().await;
            Err(failure)
        }
    }
}

/// The row, if it may be committed.
async fn prepared<M: CachedEntity>(
    stake: &mut Stake<'_, M>,
    row: Option<M>,
) -> Result<Option<M>, Failure> {
    if let Some(row) = &row {
        stake.look_again(row).await.map_err(Failure::Refused)?;
    }
    let late = |deadline| Instant::now() >= deadline;
    if stake.deadline().is_some_and(late) {
        return Err(Failure::TooLate);
    }
    Ok(row)
}

/// SQL that failed.
enum Failure {
    /// Nothing was written.
    Nothing(DbErr),
    /// Nothing was written: it was not committed, because that took too long.
    TooLate,
    /// Nothing was written: the cache refused a claim.
    Refused(WriteError),
    /// It may have been, or may yet be.
    Unknown(DbErr),
}

impl Failure {
    /// Of a statement that commits by itself.
    fn of_statement(error: DbErr) -> Self {
        let refused = database_refused(&error)
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

    fn no_row_matched(&self) -> bool {
        // RecordNotFound: SeaORM makes an update without columns a SELECT.
        matches!(
            self,
            Self::Nothing(DbErr::RecordNotUpdated | DbErr::RecordNotFound(_))
        )
    }

    fn into_sql<M: CachedEntity>(self, state: &EntityState<M>) -> Sql<M> {
        match self {
            Self::Nothing(source) => Sql::Refused(WriteError::database(&state.name, source)),
            Self::TooLate => Sql::Refused(WriteError::TooLate {
                entity: state.name.clone(),
            }),
            Self::Refused(error) => Sql::Refused(error),
            Self::Unknown(source) => Sql::Unknown(WriteError::database(&state.name, source)),
        }
    }
}

/// Whether the database itself answered that it did not do it. A statement that commits by itself
/// has then written nothing, unless the answer was that the server is in trouble.
pub(super) fn database_refused(error: &DbErr) -> bool {
    match sql_state(error).as_deref() {
        // SQLSTATE: connection, system and internal errors, shutdown, completion unknown, and
        // what MySQL has no class for.
        Some(state) if state.len() == 5 => {
            let uncertain = ["08", "58", "XX", "57P", "40003", "HY000"];
            !uncertain.iter().any(|class| state.starts_with(class))
        }
        // SQLite's result codes; the low byte of an I/O error is 10.
        Some(code) => code.parse::<u32>().is_ok_and(|code| code & 0xff != 10),
        None => false,
    }
}

/// Leaves the columns that only the database writes out of a statement.
fn leave_generated_columns<M: CachedEntity>(active: &mut ActiveModelOf<M>) {
    for column in ColumnOf::<M>::iter().filter(M::is_generated) {
        active.not_set(column);
    }
}

/// Sets a version column to 1, whichever integer it is.
fn set_first_version<A: ActiveModelTrait>(
    active: &mut A,
    column: <A::Entity as EntityTrait>::Column,
) {
    let ones = [
        Value::BigInt(Some(1)),
        Value::Int(Some(1)),
        Value::SmallInt(Some(1)),
        Value::BigUnsigned(Some(1)),
        Value::Unsigned(Some(1)),
    ];
    for one in ones {
        if active.try_set(column, one).is_ok() {
            return;
        }
    }
}

fn version_number(value: &Value) -> i128 {
    match value {
        Value::SmallInt(Some(version)) => i128::from(*version),
        Value::Int(Some(version)) => i128::from(*version),
        Value::BigInt(Some(version)) => i128::from(*version),
        Value::Unsigned(Some(version)) => i128::from(*version),
        Value::BigUnsigned(Some(version)) => i128::from(*version),
        // `VersionField` admits no other type.
        _ => 0,
    }
}
