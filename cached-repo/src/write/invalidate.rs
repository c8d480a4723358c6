//! Changes that the library did not make: callers say that there were some, and the cache is told.
//!
//! Does not change rows.

use std::{mem, sync::Arc};

use sea_orm::{DbErr, sea_query::ValueTuple};

use super::block_set::{BlockSet, invalidate_entity};
use crate::{
    context::{Context, EntityContext},
    database::Executor,
    entity::statements::find_by_id,
    error::CacheError,
    invalidation::{Journal, UnreadRow},
    protocol::{Key, Version},
    session::{Scope, Session},
    tier::TierError,
};

/// Makes the entry of a row, and the index entries that lead to it now, tombstones: now or, if the
/// tier does not acknowledge it, later.
pub(crate) async fn invalidate(
    context: &EntityContext,
    scope: &Scope,
    id: ValueTuple,
) -> Result<(), CacheError> {
    if let Scope::Transaction(session) = scope
        && !session.transaction.has_ended()
    {
        note_invalidation(context, session, id);
        return Ok(());
    }
    let (shared, entity) = (&context.shared, &context.entity);
    let mut journal = Journal::default();
    journal.note(entity.row_key(&id), context.raw_change());
    let blocks = BlockSet::new(shared, journal);
    if entity.lookups.is_empty() {
        return Ok(blocks.publish().await?);
    }
    let row = unread(context, id);
    // The row's own entry first, which needs no statement. In a task of its own, so that the rest
    // follows if the caller goes away.
    let acknowledged = shared.tasks.spawn({
        let shared = Arc::clone(shared);
        async move {
            let own = blocks.publish().await;
            let index = invalidate_index_entries(&shared, row).await;
            index.and(own.map_err(Into::into))
        }
    });
    let aborted = |_| TierError::Failed("the runtime was shut down".into());
    acknowledged.await.map_err(aborted)?
}

/// Makes every entry of the entity a tombstone, now or later.
pub(crate) async fn invalidate_all(
    context: &EntityContext,
    scope: &Scope,
) -> Result<(), CacheError> {
    let prefix = context.entity.keys.prefix();
    if let Scope::Transaction(session) = scope
        && !session.transaction.has_ended()
    {
        session.journal().entities.insert(Arc::clone(prefix));
        return Ok(());
    }
    let keys = invalidate_entity(&context.shared, prefix).await?;
    context.entity.stats.invalidations.add(keys);
    Ok(())
}

/// Notes that a statement of the user's own changes a row.
pub(crate) fn note_invalidation(context: &EntityContext, session: &Session, id: ValueTuple) {
    let key = context.entity.row_key(&id);
    let mut journal = session.journal();
    if !context.entity.lookups.is_empty() {
        journal.unread.insert(key.clone(), unread(context, id));
    }
    journal.note(key, context.raw_change());
}

/// Makes the entry of a key a tombstone, now or later.
pub(super) async fn invalidate_key(context: &EntityContext, key: &Key) -> Result<(), TierError> {
    let mut journal = Journal::default();
    journal.note(key.clone(), context.row_change(Version::ZERO, None));
    BlockSet::new(&context.shared, journal).publish().await
}

/// Notes the index entries that lead by now to the rows that were changed past the library.
pub(super) async fn read_unread(journal: &mut Journal, conn: &Executor<'_>) -> Result<(), DbErr> {
    for row in mem::take(&mut journal.unread).into_values() {
        note_index_entries(journal, row, conn).await?;
    }
    Ok(())
}

async fn note_index_entries(
    journal: &mut Journal,
    row: UnreadRow,
    conn: &Executor<'_>,
) -> Result<(), DbErr> {
    let UnreadRow {
        entity,
        id,
        index_change,
    } = row;
    if let Some(model) = find_by_id(&entity, conn, &id).await? {
        for key in entity.index_keys_of(&*model) {
            journal.note(key, index_change.clone());
        }
    }
    Ok(())
}

/// Makes the index entries that lead to a row now tombstones.
async fn invalidate_index_entries(shared: &Arc<Context>, row: UnreadRow) -> Result<(), CacheError> {
    let mut journal = Journal::default();
    let prefix = Arc::clone(row.entity.keys.prefix());
    match note_index_entries(&mut journal, row, &Executor::Pool(&shared.conn)).await {
        Ok(()) => Ok(BlockSet::new(shared, journal).publish().await?),
        Err(source) => {
            // Nobody knows which index entries lead to the row, so all of the entity's entries go.
            // What the tier does not acknowledge is queued.
            let _ = invalidate_entity(shared, &prefix).await;
            Err(CacheError::Database { source })
        }
    }
}

fn unread(context: &EntityContext, id: ValueTuple) -> UnreadRow {
    UnreadRow {
        entity: Arc::clone(&context.entity),
        id,
        index_change: context.index_change(),
    }
}
