//! The keys of one write, from before its SQL until the cache knows what became of it: blocked by
//! the write itself, or noted in the journal of its transaction.
//!
//! Does not run SQL.

use std::sync::Arc;

use futures_util::future::join;
use sea_orm::{DbErr, sea_query::ValueTuple};
use tokio::time::Instant;

use super::{
    affected::AffectedKeys,
    block_set::BlockSet,
    invalidate::{all_models, invalidate_key, unread},
    outcome::{Effect, Sql, Written},
};
use crate::{
    cached::AnyModel,
    context::EntityContext,
    database::{Executor, is_refusal},
    entity::{ops::ModelRef, statements::find_by_id},
    error::WriteError,
    invalidation::{Change, EnqueueOnDrop, Journal, Put},
    protocol::{Key, Version},
    session::{Scope, Session},
    tier::TierError,
};

/// See the module.
pub(super) struct WriteGuard<'a> {
    context: &'a Arc<EntityContext>,
    affected: AffectedKeys,
    /// The entity's epoch before the SQL; `None` if nothing may be stored.
    epoch: Option<u32>,
    blocks: Blocks,
}

enum Blocks {
    Own(BlockSet),
    /// The transaction blocks the keys before its COMMIT.
    OfTransaction(Arc<Session>),
}

impl<'a> WriteGuard<'a> {
    /// Blocks the keys that are known, or notes them.
    pub(super) async fn begin(
        context: &'a Arc<EntityContext>,
        scope: &Scope,
        affected: AffectedKeys,
    ) -> Result<Self, WriteError> {
        // Before the SQL: whatever becomes of it, it may have changed the row.
        let mut journal = Journal::default();
        if let Some(id) = &affected.id {
            let key = context.entity.row_key(id);
            journal.note(key, context.row_change(Version::ZERO, None));
            note_in_siblings(&mut journal, context, &affected, id);
        }
        for key in &affected.index.known {
            journal.note(key.clone(), context.index_change());
        }
        for sibling in &affected.siblings {
            for key in &sibling.index.known {
                journal.note(key.clone(), sibling.context.index_change());
            }
            let entity = &sibling.context.entity;
            if !context.entity.has_key_of(entity) {
                // Nobody knows the row's key there.
                journal.note_entities([sibling.context.as_a_whole()]);
            }
        }
        let (usable, blocks) = match scope {
            Scope::Transaction(session) => {
                session.journal().absorb(journal);
                let blocks = Blocks::OfTransaction(Arc::clone(session));
                (context.storable().await, blocks)
            }
            Scope::Pool => {
                let mut blocks = BlockSet::new(&context.shared, journal);
                let (usable, blocked) = join(context.storable(), blocks.block()).await;
                if let Err(source) = blocked {
                    blocks.release().await;
                    return Err(WriteError::CacheUnavailable { source });
                }
                (usable, Blocks::Own(blocks))
            }
        };
        Ok(Self {
            context,
            affected,
            epoch: usable.epoch(),
            blocks,
        })
    }

    /// By when the SQL must be committed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.blocks {
            Blocks::Own(blocks) => Some(blocks.deadline()),
            Blocks::OfTransaction(_) => None,
        }
    }

    /// Whether some key is known only once the SQL has run, and must be blocked before it commits.
    pub(super) fn needs_late_blocks(&self) -> bool {
        let row_is_unknown = self.affected.id.is_none();
        !self.affected.index_is_complete()
            || self.affected.id_may_differ
            || (self.context.must_block() && row_is_unknown)
    }

    /// Adds keys of other rows that the statements of the write have changed; to be blocked with those
    /// that only the row shows.
    pub(super) fn note(&mut self, changes: Journal) {
        match &mut self.blocks {
            Blocks::Own(blocks) => blocks.absorb(changes),
            Blocks::OfTransaction(session) => session.journal().absorb(changes),
        }
    }

    /// Notes the keys that only the written row shows, and blocks all that are not blocked yet.
    pub(super) async fn block_late(
        &mut self,
        model: ModelRef<'_>,
        conn: &Executor<'_>,
    ) -> Result<(), Late> {
        let Blocks::Own(blocks) = &mut self.blocks else {
            return Ok(());
        };
        let (context, affected) = (self.context, &self.affected);
        let id = context.entity.id_of(model);
        let mut late = Journal::default();
        late.note(
            context.entity.row_key(&id),
            context.row_change(Version::ZERO, None),
        );
        note_in_siblings(&mut late, context, affected, &id);
        for (key, change) in index_changes(context, affected, model) {
            late.note(key, change);
        }
        for sibling in affected
            .siblings
            .iter()
            .filter(|sibling| !sibling.index.complete)
        {
            let entity = &sibling.context.entity;
            let Some(id) = context.entity.id_in(entity, &id) else {
                continue;
            };
            let row = find_by_id(entity, conn, &id)
                .await
                .map_err(Late::Database)?;
            for key in row.iter().flat_map(|row| entity.index_keys_of(&**row)) {
                late.note(key, sibling.context.index_change());
            }
        }
        blocks.absorb(late);
        blocks.block().await.map_err(Late::Cache)
    }

    /// See [`BlockSet::enqueue_if_lost`].
    pub(super) fn enqueue_if_lost(&self) -> Option<EnqueueOnDrop<impl FnOnce() + Send + use<>>> {
        match &self.blocks {
            Blocks::Own(blocks) => Some(blocks.enqueue_if_lost()),
            Blocks::OfTransaction(_) => None,
        }
    }

    /// Publishes what the SQL did; gives the model, and whether its publication is queued.
    pub(super) async fn publish(self, sql: Sql) -> Result<(AnyModel, bool), WriteError> {
        match sql {
            Sql::Committed(written) => {
                let changes = self.changes(&written);
                let pending = match self.blocks {
                    Blocks::Own(mut blocks) => {
                        for (key, change) in changes {
                            blocks.note(key, change);
                        }
                        blocks.publish().await.is_err()
                    }
                    Blocks::OfTransaction(session) => {
                        let mut journal = session.journal();
                        for (key, change) in changes {
                            journal.note(key, change);
                        }
                        let id = self.context.entity.id_of(&*written.model);
                        note_incomplete_siblings(&mut journal, self.context, &self.affected, &id);
                        false
                    }
                };
                Ok((written.model, pending))
            }
            Sql::Refused(error) => {
                self.note_unknown_keys(&error);
                if let Blocks::Own(blocks) = self.blocks {
                    blocks.release().await;
                }
                Err(error)
            }
            Sql::Contradicted(error) => {
                if matches!(error, WriteError::VersionConflict { .. }) {
                    self.context.entity.stats.conflicts.add(1);
                }
                let row = self.affected.id.as_ref();
                let row = row.map(|id| self.context.entity.row_key(id));
                let row = row.as_ref();
                match (self.blocks, row) {
                    (Blocks::Own(blocks), _) => {
                        blocks.contradict(row, found_version(&error)).await;
                    }
                    (Blocks::OfTransaction(_), Some(row)) => {
                        // The cache may hold what misled the caller, whatever becomes of the
                        // transaction. What the tier does not acknowledge is queued.
                        let _ = invalidate_key(self.context, row).await;
                    }
                    (Blocks::OfTransaction(_), None) => {}
                }
                Err(error)
            }
            Sql::Unknown(error) => {
                self.note_unknown_keys(&error);
                if let Blocks::Own(blocks) = self.blocks {
                    blocks.abandon().await;
                }
                Err(error)
            }
        }
    }

    /// Inside a transaction a statement may have done its work although it failed, because its row
    /// could not be read. If that commits, keys have changed that nobody knows.
    fn note_unknown_keys(&self, error: &WriteError) {
        let all_known = self.affected.index_is_complete() && self.affected.id.is_some();
        let undone = matches!(error, WriteError::Database { source, .. } if is_refusal(source));
        if let Blocks::OfTransaction(session) = &self.blocks
            && !all_known
            && !undone
        {
            session.journal().note_entities(all_models(self.context));
        }
    }

    /// What to publish of a committed row.
    fn changes(&self, written: &Written) -> Vec<(Key, Change)> {
        let (context, model) = (self.context, &*written.model);
        for (at, given) in &self.affected.rounded {
            let entity = &context.entity;
            entity.columns[*at].learn(given, &entity.ops.value(model, *at), entity.backend);
        }
        let key = context.entity.key_of(model);
        let put = self
            .epoch
            .and_then(|epoch| put_of(context, &key, written, epoch));
        let change = Change {
            writes: 1,
            ..context.row_change(written.floor(&context.entity), put)
        };
        let mut siblings = Journal::default();
        let id = context.entity.id_of(model);
        note_in_siblings(&mut siblings, context, &self.affected, &id);
        std::iter::once((key, change))
            .chain(index_changes(context, &self.affected, model))
            .chain(siblings.keys)
            .collect()
    }
}

/// Why the keys that only the written row shows are not blocked.
pub(super) enum Late {
    /// The cache did not acknowledge it, and the policy is to refuse.
    Cache(TierError),
    Database(DbErr),
}

/// The index entries that may lead to the row only since the write.
fn index_changes(
    context: &EntityContext,
    affected: &AffectedKeys,
    model: ModelRef<'_>,
) -> Vec<(Key, Change)> {
    let lookups = affected.index.lookups.iter();
    let keys = lookups.filter_map(|at| context.entity.index_key_if_met(*at, model));
    keys.map(|key| (key, context.index_change())).collect()
}

/// Notes the row in the other models of its table that have another key for it.
fn note_in_siblings(
    journal: &mut Journal,
    context: &EntityContext,
    affected: &AffectedKeys,
    id: &ValueTuple,
) {
    for sibling in &affected.siblings {
        if let Some(key) = sibling.row(&context.entity, id) {
            journal.note(key, sibling.context.row_change(Version::ZERO, None));
        }
    }
}

/// Notes that the index entries of other models are to be found before the COMMIT.
fn note_incomplete_siblings(
    journal: &mut Journal,
    context: &EntityContext,
    affected: &AffectedKeys,
    id: &ValueTuple,
) {
    for sibling in affected
        .siblings
        .iter()
        .filter(|sibling| !sibling.index.complete)
    {
        if let Some(id) = context.entity.id_in(&sibling.context.entity, id) {
            let key = sibling.context.entity.row_key(&id);
            journal.add_unread(key, unread(&sibling.context, id));
        }
    }
}

/// The version that the database has, as a conflict says.
fn found_version(error: &WriteError) -> Version {
    let found = match error {
        WriteError::VersionConflict { found, .. } => u64::try_from(*found).ok(),
        _ => None,
    };
    found.and_then(Version::new).unwrap_or_default()
}

/// How to store the written row; `None` if it is gone, or has no version to order it by.
fn put_of(context: &EntityContext, key: &Key, written: &Written, epoch: u32) -> Option<Put> {
    let model = &*written.model;
    let version = context.entity.ops.version(model);
    let version = version.filter(|_| written.effect != Effect::Deleted)?;
    let value = context
        .seal(key, model, version, &context.policy, epoch)
        .ok()?;
    Some(Put {
        version,
        inserted: written.effect == Effect::Inserted,
        value,
    })
}
