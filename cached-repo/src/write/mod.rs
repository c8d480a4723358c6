//! The write pipeline: block → SQL → publish, the only place that knows this order.
//!
//! ```text
//! before_save ─ block ─ SQL ─ committed ──── put the row, or invalidate ─ after_save
//!                        ├── refused ─────── release the block
//!                        ├── conflict ────── invalidate: the cache may hold what misled the caller
//!                        └── outcome unknown ─ leave the block until it lapses
//! ```
//! Invariants:
//! - Outside a transaction a write that has begun ends: a caller that goes away leaves neither an
//!   open block nor an unpublished commit behind, but a task that sees to it.
//! - A row is put only under a block of its own; without one it is invalidated.
//! - What could not be published is queued, and this process does not serve those keys.
//! - While an outcome is unknown its block stays: the statement may still commit, and until the
//!   block lapses nobody stores what it is about to change.
//!
//! Does not serve reads.

mod affected;
mod block_set;
mod cascade;
mod commit;
mod detach;
mod guard;
mod invalidate;
mod outcome;
mod sql;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::sea_query::ValueTuple;

pub use self::commit::Committed;
use self::{
    affected::AffectedKeys,
    detach::Detach,
    guard::WriteGuard,
    outcome::Sql,
    sql::{Statement, Values, expected_version},
};
pub(crate) use self::{
    commit::commit,
    invalidate::{invalidate, invalidate_all, note_invalidation, note_invalidation_of_all},
    outcome::Verb,
};
use crate::{
    cached::{AnyModel, Provenance, Row},
    context::EntityContext,
    entity::ops::{DeleteOps, SaveOps},
    error::WriteError,
    invalidation::EnqueueOnDrop,
    session::{Scope, warn_if_inside},
};

/// Inserts or updates a row.
pub(crate) async fn save(
    context: &Arc<EntityContext>,
    scope: &Scope,
    verb: Verb,
    mut active: Box<dyn SaveOps>,
) -> Result<Row, WriteError> {
    let write = |context: Arc<EntityContext>, scope: Scope| async move {
        let entity = &*context.entity;
        let conn = scope.executor(&context.shared.conn);
        let expected = expected_version(entity, verb, |column| active.value(column))?;
        let inserts = verb == Verb::Insert;
        active
            .before_save(conn, inserts)
            .await
            .map_err(|source| context.write_failed(source))?;
        let values: Values = (0..entity.columns.len())
            .map(|column| active.value(column))
            .collect();
        let id = entity.id_among(&values);
        if id.is_none() && verb == Verb::Update {
            return Err(WriteError::KeyNotSet {
                entity: entity.name.clone(),
            });
        }
        let affected = AffectedKeys::of_save(&context, verb, &values, id.clone());
        let (model, pending) = run(&context, &scope, affected, async |statement| {
            match (verb, &id) {
                (Verb::Update, Some(id)) => statement.update(id, values, expected).await,
                _ => statement.insert(values).await,
            }
        })
        .await?;
        let model = active
            .after_save(model, conn, inserts)
            .await
            .map_err(|source| after_hook(&context, source))?;
        Ok(Row {
            model,
            provenance: Provenance {
                pending,
                ..Provenance::DATABASE
            },
        })
    };
    carry_out(context, scope, write).await
}

/// Deletes a row that was read.
pub(crate) async fn delete(
    context: &Arc<EntityContext>,
    scope: &Scope,
    model: AnyModel,
    mut active: Box<dyn DeleteOps>,
) -> Result<(), WriteError> {
    let write = |context: Arc<EntityContext>, scope: Scope| async move {
        let entity = &*context.entity;
        let conn = scope.executor(&context.shared.conn);
        active
            .before_delete(conn)
            .await
            .map_err(|source| context.write_failed(source))?;
        let values: Values = (0..entity.columns.len())
            .map(|column| active.value(column))
            .collect();
        let affected = AffectedKeys::of_delete(&context, entity.id_of(&*model));
        run(&context, &scope, affected, async |statement| {
            statement.delete(&model, &values).await
        })
        .await?;
        active
            .after_delete(conn)
            .await
            .map_err(|source| after_hook(&context, source))
    };
    carry_out(context, scope, write).await
}

/// Deletes a row whatever its version; gives it as it was.
pub(crate) async fn delete_by_id(
    context: &Arc<EntityContext>,
    scope: &Scope,
    id: ValueTuple,
) -> Result<Option<AnyModel>, WriteError> {
    let write = |context: Arc<EntityContext>, scope: Scope| async move {
        let affected = AffectedKeys::of_delete(&context, id.clone());
        let deleted = run(&context, &scope, affected, async |statement| {
            statement.delete_by_id(&id).await
        });
        match deleted.await {
            Ok((model, _)) => Ok(Some(model)),
            Err(WriteError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    carry_out(context, scope, write).await
}

/// Block, SQL, publish. Gives the model, and whether its publication is queued.
async fn run(
    context: &Arc<EntityContext>,
    scope: &Scope,
    affected: AffectedKeys,
    sql: impl AsyncFnOnce(Statement<'_, '_>) -> Sql,
) -> Result<(AnyModel, bool), WriteError> {
    let mut guard = WriteGuard::begin(context, scope, affected).await?;
    let lost = guard.enqueue_if_lost();
    let sql = sql(Statement {
        context,
        conn: scope.executor(&context.shared.conn),
        guard: &mut guard,
    });
    let sql = sql.await;
    let published = guard.publish(sql).await;
    if let Some(lost) = lost {
        EnqueueOnDrop::disarm(lost);
    }
    published
}

/// Carries a write out: with the caller, and outside a transaction also without, so that it ends
/// whatever becomes of the caller.
async fn carry_out<T, F>(
    context: &Arc<EntityContext>,
    scope: &Scope,
    write: impl FnOnce(Arc<EntityContext>, Scope) -> F,
) -> Result<T, WriteError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, WriteError>> + Send + 'static,
{
    if context.shared.tasks.have_ended() {
        // Nobody would replay an invalidation.
        return Err(WriteError::RuntimeEnded {
            entity: context.entity.name.clone(),
        });
    }
    let write: BoxFuture<'static, _> = Box::pin(write(Arc::clone(context), scope.clone()));
    if scope.is_transaction() {
        return write.await;
    }
    warn_if_inside(context);
    let ended = Detach::new(write, &context.shared.tasks).await;
    ended.unwrap_or_else(|_| {
        Err(WriteError::Aborted {
            entity: context.entity.name.clone(),
        })
    })
}

fn after_hook(context: &EntityContext, source: sea_orm::DbErr) -> WriteError {
    WriteError::AfterHook {
        entity: context.entity.name.clone(),
        source,
    }
}
