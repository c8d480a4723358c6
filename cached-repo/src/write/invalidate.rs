//! Changes that the library did not make: callers say that there were some, and the cache is told.
//!
//! Does not change rows.

use std::{mem, sync::Arc};

use sea_orm::{DbErr, sea_query::ValueTuple};

use super::block_set::{BlockSet, invalidate_entities};
use crate::{
    context::{Context, EntityContext},
    database::Executor,
    entity::statements::find_by_id,
    error::CacheError,
    invalidation::{Journal, UnreadRow},
    policy::OnCacheFailure,
    protocol::{Key, Version},
    session::{Scope, Session},
    tier::TierError,
};

/// Makes the entry of a row, and the index entries that lead to it now, tombstones: now or, if the
/// tier does not acknowledge it, later.
pub(crate) async fn invalidate(
    context: &Arc<EntityContext>,
    scope: &Scope,
    id: ValueTuple,
) -> Result<(), CacheError> {
    if let Scope::Transaction(session) = scope
        && !session.transaction.has_ended()
    {
        note_invalidation(context, session, id);
        return Ok(());
    }
    let shared = &context.shared;
    let mut journal = Journal::default();
    journal.note_entities(other_keys(context));
    let mut rows = Vec::new();
    for (model, id) in in_each_model(context, id) {
        journal.note(model.entity.row_key(&id), model.raw_change());
        if !model.entity.lookups.is_empty() {
            rows.push(unread(&model, id));
        }
    }
    let blocks = BlockSet::new(shared, journal);
    if rows.is_empty() {
        return Ok(blocks.publish().await?);
    }
    // The row's own entry first, which needs no statement. In a task of its own, so that the rest
    // follows if the caller goes away.
    let acknowledged = shared.tasks.spawn({
        let shared = Arc::clone(shared);
        async move {
            let own = blocks.publish().await;
            let mut index = Ok(());
            for row in rows {
                index = invalidate_index_entries(&shared, row).await.and(index);
            }
            index.and(own.map_err(Into::into))
        }
    });
    let aborted = |_| TierError::Failed("the runtime was shut down".into());
    acknowledged.await.map_err(aborted)?
}

/// Outdates every entry of the entity, now or later.
pub(crate) async fn invalidate_all(
    context: &EntityContext,
    scope: &Scope,
) -> Result<(), CacheError> {
    if let Scope::Transaction(session) = scope
        && !session.transaction.has_ended()
    {
        note_invalidation_of_all(context, session);
        return Ok(());
    }
    let models = all_models(context).into_iter();
    let prefixes = models.map(|(prefix, _)| prefix).collect();
    invalidate_entities(&context.shared, prefixes).await?;
    context.entity.stats.invalidations.add(1);
    Ok(())
}

/// Notes that statements of the user's own may change any row.
pub(crate) fn note_invalidation_of_all(context: &EntityContext, session: &Session) {
    session.journal().note_entities(all_models(context));
}

/// All models of a table.
pub(super) fn all_models(context: &EntityContext) -> Vec<(Arc<str>, OnCacheFailure)> {
    let siblings = context.siblings();
    let siblings = siblings.iter().map(|model| model.as_a_whole());
    siblings.chain([context.as_a_whole()]).collect()
}

/// The models of the table with another primary key.
fn other_keys(context: &EntityContext) -> Vec<(Arc<str>, OnCacheFailure)> {
    let siblings = context.siblings().into_iter();
    let others = siblings.filter(|model| !context.entity.has_key_of(&model.entity));
    others.map(|model| model.as_a_whole()).collect()
}

/// The models of a table, each with the primary key of a row.
fn in_each_model(
    context: &Arc<EntityContext>,
    id: ValueTuple,
) -> Vec<(Arc<EntityContext>, ValueTuple)> {
    let siblings = context.siblings().into_iter();
    let siblings = siblings.filter_map(|model| {
        let id = context.entity.id_in(&model.entity, &id)?;
        Some((model, id))
    });
    let mut models: Vec<_> = siblings.collect();
    models.push((Arc::clone(context), id));
    models
}

/// Notes that a statement of the user's own changes a row.
pub(crate) fn note_invalidation(context: &Arc<EntityContext>, session: &Session, id: ValueTuple) {
    let mut journal = session.journal();
    journal.note_entities(other_keys(context));
    for (model, id) in in_each_model(context, id) {
        let key = model.entity.row_key(&id);
        journal.note(key.clone(), model.raw_change());
        if !model.entity.lookups.is_empty() {
            journal.add_unread(key, unread(&model, id));
        }
    }
}

/// Makes the entry of a key a tombstone, now or later.
pub(super) async fn invalidate_key(context: &EntityContext, key: &Key) -> Result<(), TierError> {
    let mut journal = Journal::default();
    journal.note(key.clone(), context.row_change(Version::ZERO, None));
    BlockSet::new(&context.shared, journal).publish().await
}

/// Notes the index entries that lead by now to the rows that were changed past the library.
pub(super) async fn read_unread(journal: &mut Journal, conn: &Executor<'_>) -> Result<(), DbErr> {
    for row in mem::take(&mut journal.unread).into_values().flatten() {
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
            let _ = invalidate_entities(shared, vec![prefix]).await;
            Err(CacheError::Database { source })
        }
    }
}

/// A row whose index entries are to be found.
pub(super) fn unread(context: &EntityContext, id: ValueTuple) -> UnreadRow {
    UnreadRow {
        entity: Arc::clone(&context.entity),
        id,
        index_change: context.index_change(),
    }
}
