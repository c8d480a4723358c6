//! The keys of one write, from before its SQL until the cache knows what became of it: blocked by
//! the write itself, or noted in the journal of its transaction.
//!
//! Does not run SQL.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    affected::AffectedKeys,
    block_set::BlockSet,
    invalidate::invalidate_key,
    outcome::{Effect, Sql, Written},
};
use crate::{
    cached::AnyModel,
    context::EntityContext,
    database::is_refusal,
    entity::ops::ModelRef,
    error::WriteError,
    invalidation::{Change, EnqueueOnDrop, Journal, Put},
    protocol::{Key, Version},
    session::{Scope, Session},
};

/// See the module.
pub(super) struct WriteGuard<'a> {
    context: &'a EntityContext,
    affected: AffectedKeys,
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
        context: &'a EntityContext,
        scope: &Scope,
        affected: AffectedKeys,
    ) -> Result<Self, WriteError> {
        // Before the SQL: whatever becomes of it, it may have changed the row.
        let mut journal = Journal::default();
        if let Some(key) = &affected.row {
            journal.note(key.clone(), context.row_change(Version::ZERO, None));
        }
        for key in &affected.index {
            journal.note(key.clone(), context.index_change());
        }
        let blocks = match scope {
            Scope::Transaction(session) => {
                for (key, change) in journal.keys {
                    session.journal().note(key, change);
                }
                Blocks::OfTransaction(Arc::clone(session))
            }
            Scope::Pool => {
                let mut blocks = BlockSet::new(&context.shared, journal);
                if let Err(source) = blocks.block().await {
                    blocks.release().await;
                    return Err(WriteError::CacheUnavailable { source });
                }
                Blocks::Own(blocks)
            }
        };
        Ok(Self {
            context,
            affected,
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
        let row_is_unknown = self.affected.row.is_none();
        !self.affected.complete || (self.context.must_block() && row_is_unknown)
    }

    /// Blocks the keys that only the written row shows.
    pub(super) async fn block_late(&mut self, model: ModelRef<'_>) -> Result<(), WriteError> {
        let key = self.context.entity.key_of(model);
        let index = self.index_changes(model);
        if let Blocks::Own(blocks) = &mut self.blocks {
            blocks.note(key, self.context.row_change(Version::ZERO, None));
            for (key, change) in index {
                blocks.note(key, change);
            }
            let blocked = blocks.block().await;
            blocked.map_err(|source| WriteError::CacheUnavailable { source })?;
        }
        Ok(())
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
                        for (key, change) in changes {
                            session.journal().note(key, change);
                        }
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
                let row = self.affected.row.as_ref();
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
        let all_known = self.affected.complete && self.affected.row.is_some();
        let undone = matches!(error, WriteError::Database { source, .. } if is_refusal(source));
        if let Blocks::OfTransaction(session) = &self.blocks
            && !all_known
            && !undone
        {
            let prefix = Arc::clone(self.context.entity.keys.prefix());
            session.journal().entities.insert(prefix);
        }
    }

    /// What to publish of a committed row.
    fn changes(&self, written: &Written) -> Vec<(Key, Change)> {
        let (context, model) = (self.context, &*written.model);
        let key = context.entity.key_of(model);
        let put = put_of(context, &key, written);
        let change = Change {
            writes: 1,
            ..context.row_change(written.floor(&context.entity), put)
        };
        std::iter::once((key, change))
            .chain(self.index_changes(model))
            .collect()
    }

    /// The index entries that may lead to the row only since the write.
    fn index_changes(&self, model: ModelRef<'_>) -> Vec<(Key, Change)> {
        let lookups = self.affected.lookups.iter();
        let keys = lookups.filter_map(|at| self.context.entity.index_key_of(*at, model));
        keys.map(|key| (key, self.context.index_change())).collect()
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
fn put_of(context: &EntityContext, key: &Key, written: &Written) -> Option<Put> {
    let model = &*written.model;
    let version = context.entity.ops.version(model);
    let version = version.filter(|_| written.effect != Effect::Deleted)?;
    let value = context.seal(key, model, version, &context.policy).ok()?;
    Some(Put {
        version,
        inserted: written.effect == Effect::Inserted,
        value,
    })
}
