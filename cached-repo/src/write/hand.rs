//! Changes that the library did not make: callers say that there were some, and the cache is told.
//!
//! Does not change rows.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{DbErr, EntityTrait};

use super::claim::{self, Claim};
use crate::{
    CacheError, CachedEntity, Id, TierError,
    db::EntityState,
    protocol::{Key, Version},
    session::{Change, Executor, Journal, Reread, Scope, Session},
};

/// Makes the entry of a row, and those of what it is found by now, tombstones: now or, if the tier
/// cannot be told, later.
pub(crate) async fn invalidate<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
    id: Id<M>,
) -> Result<(), CacheError> {
    if let Scope::Transaction(session) = scope
        && !session.has_ended()
    {
        invalidated_by_hand(state, session, id);
        return Ok(());
    }
    let mut journal = Journal::default();
    journal.note(state.keys.row(id.clone()), state.raw_change());
    let claim = Claim::on(&state.core, journal);
    if M::lookups().is_empty() {
        return Ok(claim.publish().await?);
    }
    let row = Row {
        state: Arc::clone(state),
        id,
    };
    // The row's own entry first, which needs no statement. In a task of its own, so that the rest
    // follows if the caller goes away.
    let told = state.core.tasks.spawn(async move {
        let told = claim.publish().await;
        row.invalidate_hints().await.and(told.map_err(Into::into))
    });
    let aborted = |_| TierError::Failed("the runtime was shut down".into());
    told.await.map_err(aborted)?
}

/// Makes every entry of the entity a tombstone, now or later.
pub(crate) async fn invalidate_all<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    scope: &Scope,
) -> Result<(), CacheError> {
    let prefix = state.keys.prefix();
    if let Scope::Transaction(session) = scope
        && !session.has_ended()
    {
        session.journal().entities.insert(Arc::clone(prefix));
        return Ok(());
    }
    let keys = claim::invalidate_all(&state.core, prefix).await?;
    state.stats.invalidations.add(keys);
    Ok(())
}

/// Notes that a statement of the user's own changes a row.
pub(super) fn invalidated_by_hand<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    session: &Session,
    id: Id<M>,
) {
    let key = state.keys.row(id.clone());
    let mut journal = session.journal();
    if !M::lookups().is_empty() {
        let row = Row {
            state: Arc::clone(state),
            id,
        };
        journal.unread.insert(key.clone(), Arc::new(row));
    }
    journal.note(key, state.raw_change());
}

/// A row, to be read again.
struct Row<M: CachedEntity> {
    state: Arc<EntityState<M>>,
    id: Id<M>,
}

impl<M: CachedEntity> Row<M> {
    /// Makes the entries of what the row is found by now tombstones.
    async fn invalidate_hints(&self) -> Result<(), CacheError> {
        let core = &self.state.core;
        match self.found_by(Executor::Pool(&core.conn)).await {
            Ok(found_by) => {
                let mut journal = Journal::default();
                for (key, change) in found_by {
                    journal.note(key, change);
                }
                Ok(Claim::on(core, journal).publish().await?)
            }
            Err(source) => {
                // Nobody knows what the row is found by now, so all that is known goes. What could
                // not be told is owed.
                let _ = claim::invalidate_all(core, self.state.keys.prefix()).await;
                Err(CacheError::Database { source })
            }
        }
    }
}

impl<M: CachedEntity> Reread for Row<M> {
    fn found_by<'a>(
        &'a self,
        conn: Executor<'a>,
    ) -> BoxFuture<'a, Result<Vec<(Key, Change)>, DbErr>> {
        Box::pin(async move {
            if M::lookups().is_empty() {
                return Ok(Vec::new());
            }
            let row = <M::Entity as EntityTrait>::find_by_id(self.id.clone())
                .one(&conn)
                .await?;
            let hints = row.iter().flat_map(|row| self.state.hints_of(row));
            Ok(hints.map(|hint| (hint, self.state.hint_change())).collect())
        })
    }
}

impl<M: CachedEntity> EntityState<M> {
    /// Makes the entry of a key a tombstone, now or later.
    pub(super) async fn invalidate(&self, key: &Key) -> Result<(), TierError> {
        let mut journal = Journal::default();
        journal.note(key.clone(), self.change(Version::ZERO, None));
        Claim::on(&self.core, journal).publish().await
    }
}
