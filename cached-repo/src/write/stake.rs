//! What one write stakes out: by a claim of its own, or in the journal of the transaction it is
//! part of.
//!
//! Does not run SQL.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    claim::{Claim, Cover, Refusal},
    commit::{Sql, Written, database_refused},
    touch::Touched,
};
use crate::{
    CachedEntity, WriteError,
    config::OnCacheFailure,
    db::EntityState,
    protocol::{Key, Version},
    session::{Change, Journal, Put, Scope, Session},
};

/// The keys of one write, from before its SQL until the cache knows what became of it.
pub(super) struct Stake<'a, M: CachedEntity> {
    state: &'a EntityState<M>,
    touched: Touched,
    holder: Holder,
}

enum Holder {
    Own(Claim),
    /// The transaction blocks the keys before its COMMIT.
    Transaction(Arc<Session>),
}

impl<'a, M: CachedEntity> Stake<'a, M> {
    /// Blocks what is known of the keys, or notes them.
    pub(super) async fn out(
        state: &'a EntityState<M>,
        scope: &Scope,
        touched: Touched,
    ) -> Result<Self, WriteError> {
        // Before the SQL: whatever becomes of it, it may have changed the row.
        let mut journal = Journal::default();
        if let Some(key) = &touched.row {
            journal.note(key.clone(), state.change(Version::ZERO, None));
        }
        for hint in &touched.hints {
            journal.note(hint.clone(), state.hint_change());
        }
        let holder = match scope {
            Scope::Transaction(session) => {
                for (key, change) in journal.keys {
                    session.journal().note(key, change);
                }
                Holder::Transaction(Arc::clone(session))
            }
            Scope::Pool => {
                let mut claim = Claim::on(&state.core, journal);
                if let Err(refusal) = claim.block().await {
                    claim.release().await;
                    return Err(refused(state, refusal));
                }
                Holder::Own(claim)
            }
        };
        Ok(Self {
            state,
            touched,
            holder,
        })
    }

    /// By when the SQL must be committed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.holder {
            Holder::Own(claim) => Some(claim.deadline()),
            Holder::Transaction(_) => None,
        }
    }

    /// Whether some key is known only once the SQL has run, and must be blocked before what it
    /// did is committed.
    pub(super) fn needs_a_second_look(&self) -> bool {
        let must_block = self.state.on_cache_failure == OnCacheFailure::Refuse;
        !self.touched.complete || (must_block && self.touched.row.is_none())
    }

    /// Blocks what the written row shows to be touched besides.
    pub(super) async fn look_again(&mut self, row: &M) -> Result<(), WriteError> {
        let key = self.state.key_of(row);
        let hints = self.hints_of(row);
        if let Holder::Own(claim) = &mut self.holder {
            claim.note(key, self.state.change(Version::ZERO, None));
            for (hint, change) in hints {
                claim.note(hint, change);
            }
            let blocked = claim.block().await;
            blocked.map_err(|refusal| refused(self.state, refusal))?;
        }
        Ok(())
    }

    /// What to hold while the SQL runs: if that never returns (a row that panics when it is
    /// decoded), what it may have written is owed, unless a block stands that would lapse.
    pub(super) fn cover(&self) -> Cover {
        match &self.holder {
            Holder::Own(claim) => claim.cover(),
            Holder::Transaction(_) => Cover::none(&self.state.core),
        }
    }

    /// Publishes what the SQL did; gives the row and whether publishing it is pending.
    pub(super) async fn settle(self, sql: Sql<M>) -> Result<(M, bool), WriteError> {
        match sql {
            Sql::Committed(written) => {
                let changes = self.changes(&written);
                let pending = match self.holder {
                    Holder::Own(mut claim) => {
                        for (key, change) in changes {
                            claim.note(key, change);
                        }
                        claim.publish().await.is_err()
                    }
                    Holder::Transaction(session) => {
                        for (key, change) in changes {
                            session.journal().note(key, change);
                        }
                        false
                    }
                };
                Ok((written.row, pending))
            }
            Sql::Refused(error) => {
                self.note_what_is_not_known(&error);
                if let Holder::Own(claim) = self.holder {
                    claim.release().await;
                }
                Err(error)
            }
            Sql::Contradicted(error) => {
                if matches!(error, WriteError::VersionConflict { .. }) {
                    self.state.stats.conflicts.add(1);
                }
                let row = self.touched.row.as_ref();
                match (self.holder, row) {
                    (Holder::Own(claim), _) => claim.contradict(row, found_version(&error)).await,
                    (Holder::Transaction(_), Some(row)) => {
                        // The cache may hold what misled the caller, whatever becomes of the
                        // transaction. What could not be told is owed.
                        let _ = self.state.invalidate(row).await;
                    }
                    (Holder::Transaction(_), None) => {}
                }
                Err(error)
            }
            Sql::Unknown(error) => {
                self.note_what_is_not_known(&error);
                if let Holder::Own(claim) = self.holder {
                    claim.leave().await;
                }
                Err(error)
            }
        }
    }

    /// Inside a transaction a statement may have done its work although it failed, because its row
    /// could not be read. If that commits, keys have changed that nobody knows.
    fn note_what_is_not_known(&self, error: &WriteError) {
        let all_known = self.touched.complete && self.touched.row.is_some();
        let undone =
            matches!(error, WriteError::Database { source, .. } if database_refused(source));
        if let Holder::Transaction(session) = &self.holder
            && !all_known
            && !undone
        {
            let prefix = Arc::clone(self.state.keys.prefix());
            session.journal().entities.insert(prefix);
        }
    }

    /// What the cache is to be told of a committed row.
    fn changes(&self, written: &Written<M>) -> Vec<(Key, Change)> {
        let (state, row) = (self.state, &written.row);
        let key = state.key_of(row);
        let put = put_of(state, &key, written);
        let change = Change {
            writes: 1,
            ..state.change(written.floor(), put)
        };
        std::iter::once((key, change))
            .chain(self.hints_of(row))
            .collect()
    }

    /// What the row may be found by besides, after the write.
    fn hints_of(&self, row: &M) -> Vec<(Key, Change)> {
        let hints = self.touched.lookups.iter();
        let hints = hints.filter_map(|at| self.state.hint_of(*at, row));
        hints.map(|hint| (hint, self.state.hint_change())).collect()
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

fn refused<M: CachedEntity>(state: &EntityState<M>, refusal: Refusal) -> WriteError {
    match refusal {
        Refusal::Contended(key) => WriteError::Contended {
            entity: state.name.clone(),
            id: WriteError::id_text(&key),
        },
        Refusal::Unavailable(source) => WriteError::CacheUnavailable { source },
    }
}

/// How to store the written row; `None` if it is gone, or has no version to order it by.
fn put_of<M: CachedEntity>(state: &EntityState<M>, key: &Key, written: &Written<M>) -> Option<Put> {
    let version = written.row.version().filter(|_| !written.deleted)?;
    match state.seal(key, &written.row, version, &state.policy) {
        Ok(value) => Some(Put {
            version,
            inserted: written.inserted,
            value,
        }),
        Err(error) => {
            tracing::warn!(%key, %error, "a row cannot be cached");
            None
        }
    }
}
