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
//! - What could not be published is pending, and this process does not serve those keys.
//! - While an outcome is unknown its block stays: the statement may still commit, and until the
//!   block lapses nobody stores what it is about to change.
//!
//! Does not serve reads.

mod claim;
mod closing;
mod commit;
mod finish;
pub(crate) mod hand;
mod pending;
mod stake;
mod touch;
pub(crate) mod transaction;

use std::{future::Future, sync::Arc};

use sea_orm::{ActiveModelBehavior, ActiveModelTrait, sea_query::FromValueTuple};

pub(crate) use self::pending::Pending;
use self::{finish::Finish, stake::Stake, touch::Touched};
use crate::{
    ActiveModelOf, CachedEntity, Id, WriteError,
    cached::{Cached, Provenance},
    db::EntityState,
    session::Scope,
};

/// What a write does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
}

/// Inserts or updates a row.
pub(crate) async fn row<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
    verb: Verb,
    active: ActiveModelOf<M>,
) -> Result<Cached<M>, WriteError> {
    carried_out(state, scope, |state, scope| async move {
        let expected = commit::expected_version(&state, verb, &active)?;
        let conn = scope.executor(&state.core.conn);
        let active = active
            .before_save(&conn, verb == Verb::Insert)
            .await
            .map_err(|source| WriteError::database(&state.name, source))?;
        let id = active.get_primary_key_value();
        if id.is_none() && verb == Verb::Update {
            return Err(WriteError::KeyNotSet {
                entity: state.name.clone(),
            });
        }
        let id = id.map(Id::<M>::from_value_tuple);
        let key = id.clone().map(|id| state.keys.row(id));

        let touched = Touched::by(&state, verb, &active, key);
        let mut stake = Stake::out(&state, &scope, touched).await?;
        let cover = stake.cover();
        let sql = match (verb, &id) {
            (Verb::Update, Some(id)) => {
                commit::update(&state, &conn, &mut stake, active, id, expected).await
            }
            _ => commit::insert(&state, &conn, &mut stake, active).await,
        };
        let settled = stake.settle(sql).await;
        cover.dismiss();
        let (row, pending) = settled?;
        let row = ActiveModelOf::<M>::after_save(row, &conn, verb == Verb::Insert)
            .await
            .map_err(|source| WriteError::AfterHook {
                entity: state.name.clone(),
                source,
            })?;
        Ok(Cached::new(
            Arc::new(row),
            Provenance {
                pending,
                ..Provenance::DATABASE
            },
        ))
    })
    .await
}

/// Deletes a row that was read.
pub(crate) async fn delete<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
    row: M,
) -> Result<(), WriteError> {
    carried_out(state, scope, |state, scope| async move {
        let conn = scope.executor(&state.core.conn);
        let key = state.key_of(&row);
        let active = row
            .clone()
            .into_active_model()
            .before_delete(&conn)
            .await
            .map_err(|source| WriteError::database(&state.name, source))?;
        let mut stake = Stake::out(&state, &scope, Touched::row(key)).await?;
        let cover = stake.cover();
        let sql = commit::delete(&state, &conn, &mut stake, &row, active.clone()).await;
        let settled = stake.settle(sql).await;
        cover.dismiss();
        settled?;
        active
            .after_delete(&conn)
            .await
            .map_err(|source| WriteError::AfterHook {
                entity: state.name.clone(),
                source,
            })?;
        Ok(())
    })
    .await
}

/// Deletes a row whatever its version.
pub(crate) async fn delete_by_id<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
    id: Id<M>,
) -> Result<Option<M>, WriteError> {
    carried_out(state, scope, |state, scope| async move {
        let conn = scope.executor(&state.core.conn);
        let touched = Touched::row(state.keys.row(id.clone()));
        let mut stake = Stake::out(&state, &scope, touched).await?;
        let cover = stake.cover();
        let sql = commit::delete_by_id(&state, &conn, &mut stake, id).await;
        let settled = stake.settle(sql).await;
        cover.dismiss();
        match settled {
            Ok((row, _)) => Ok(Some(row)),
            Err(WriteError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Carries a write out: with the caller, and outside a transaction also without, so that it ends
/// whatever becomes of the caller.
async fn carried_out<M, T, F>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
    write: impl FnOnce(Arc<EntityState<M>>, Scope) -> F,
) -> Result<T, WriteError>
where
    M: CachedEntity,
    T: Send + 'static,
    F: Future<Output = Result<T, WriteError>> + Send + 'static,
{
    let write = write(Arc::clone(state), scope.clone());
    if let Scope::Transaction(_) = scope {
        return write.await;
    }
    match Finish::of(write, &state.core.tasks).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::Aborted {
            entity: state.name.clone(),
        }),
    }
}
