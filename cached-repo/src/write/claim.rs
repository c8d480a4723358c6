//! A write's claim on its key, from before the SQL until the cache knows what became of it.
//!
//! Does not run SQL.

use std::{future::Future, sync::Arc};

use tokio::time::Instant;

use super::{
    commit::{Commit, Sql},
    pending::{Debt, Owed},
};
use crate::{
    CachedEntity, TierError, WriteError,
    config::OnCacheFailure,
    db::EntityState,
    protocol::{
        Key, Token, Version,
        state::{Block, Blocked, Done, Outcome, Published},
    },
    read::ms,
    session::{Put, Scope, Session},
};

/// A write's claim on its key, from before the SQL until it is published.
pub(super) struct Claim {
    token: Token,
    key: Option<Key>,
    /// Whether the tier acknowledged the block.
    standing: Standing,
    /// When the block lapses, at the earliest.
    deadline: Instant,
}

enum Standing {
    Held,
    /// The write is part of a transaction, which blocks its keys before its COMMIT.
    Noted(Arc<Session>),
    /// There is no key yet (the database makes it), or the tier did not answer.
    None,
}

impl Claim {
    /// Blocks the key, if it is known.
    pub(super) async fn stake<M: CachedEntity>(
        state: &EntityState<M>,
        scope: &Scope,
        key: Option<Key>,
    ) -> Result<Self, WriteError> {
        let token = Token::fresh();
        let deadline = Instant::now() + state.core.config.block;
        if let Scope::Transaction(session) = scope {
            if let Some(key) = &key {
                // Before the SQL: whatever becomes of it, it may have changed the row.
                let change = state.change(Version::ZERO, None);
                session.journal().note(key.clone(), change);
            }
            let standing = Standing::Noted(Arc::clone(session));
            return Ok(Self {
                token,
                key,
                standing,
                deadline,
            });
        }
        let config = &state.core.config;
        let Some(key) = key else {
            if config.on_cache_failure == OnCacheFailure::Refuse {
                // There is nothing to block; whether it could be told later is asked all the same.
                let nothing = state.keys.row(sea_orm::Value::BigInt(None));
                let answer = state.core.tier.get(&nothing).await;
                answer.map_err(|source| WriteError::CacheUnavailable { source })?;
            }
            return Ok(Self {
                token,
                key: None,
                standing: Standing::None,
                deadline,
            });
        };
        let request = Block {
            token,
            block_ms: ms(config.block),
            keep_ms: ms(config.keep),
        };
        let standing = match state.core.tier.block(&key, request).await {
            Ok(Blocked::Held) => Standing::Held,
            Ok(Blocked::Busy) => {
                let (entity, id) = (state.name.clone(), WriteError::id_text(&key));
                return Err(WriteError::Contended { entity, id });
            }
            Err(source) => match config.on_cache_failure {
                OnCacheFailure::Proceed => Standing::None,
                OnCacheFailure::Refuse => return Err(WriteError::CacheUnavailable { source }),
            },
        };
        Ok(Self {
            token,
            key: Some(key),
            standing,
            deadline,
        })
    }

    /// Runs the SQL. If it never returns (a row that panics when it is decoded) and no block
    /// stands that would lapse, what it may have written is owed.
    pub(super) async fn cover<M: CachedEntity>(
        &self,
        state: &EntityState<M>,
        sql: impl Future<Output = Sql<M>>,
    ) -> Sql<M> {
        let owed = Owed {
            token: self.token,
            floor: Version::ZERO,
        };
        let debt = match (&self.key, &self.standing) {
            (Some(key), Standing::None) => {
                let owe = || state.core.pending.owe(key, state.keys.prefix(), owed);
                Some(Debt::of(owe))
            }
            _ => None,
        };
        let sql = sql.await;
        if let Some(debt) = debt {
            debt.paid();
        }
        sql
    }

    /// By when the SQL must be committed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Publishes what the SQL did; gives the row and whether publishing it is pending.
    pub(super) async fn settle<M: CachedEntity>(
        self,
        state: &EntityState<M>,
        sql: Sql<M>,
    ) -> Result<(M, bool), WriteError> {
        match sql {
            Sql::Committed(commit) if let Standing::Noted(session) = &self.standing => {
                self.note(state, session, &commit);
                Ok((commit.row, false))
            }
            Sql::Committed(commit) => {
                state.stats.writes.add(1);
                let pending = self.publish(state, &commit).await;
                Ok((commit.row, pending))
            }
            Sql::Refused(error) => {
                self.release(state).await;
                Err(error)
            }
            Sql::Contradicted(error) => {
                if matches!(error, WriteError::VersionConflict { .. }) {
                    state.stats.conflicts.add(1);
                }
                if let Some(key) = &self.key {
                    let owed = Owed {
                        token: self.token,
                        floor: Version::ZERO,
                    };
                    // A failure is remembered by the queue, and nothing was written.
                    let _ = publish_invalidation(state, key, owed).await;
                }
                Err(error)
            }
            Sql::Unknown(error) => {
                if let (Some(key), Standing::None) = (&self.key, &self.standing) {
                    let owed = Owed {
                        token: self.token,
                        floor: Version::ZERO,
                    };
                    // A failure is remembered by the queue.
                    let _ = publish_invalidation(state, key, owed).await;
                }
                Err(error)
            }
        }
    }

    /// Publishes a commit; says whether it is pending.
    async fn publish<M: CachedEntity>(&self, state: &EntityState<M>, commit: &Commit<M>) -> bool {
        let found = state.key_of(&commit.row);
        let mut pending = false;
        if let Some(key) = self.key.as_ref().filter(|key| **key != found) {
            // The database calls two texts equal: the row that was written has another key.
            let owed = Owed {
                token: self.token,
                floor: Version::ZERO,
            };
            pending |= publish_invalidation(state, key, owed).await.is_err();
        }
        let put = match self.standing {
            Standing::Held if self.key.as_ref() == Some(&found) => put_of(state, &found, commit),
            _ => None,
        };
        let Some(put) = put else {
            let owed = Owed {
                token: self.token,
                floor: commit.floor(),
            };
            return pending | publish_invalidation(state, &found, owed).await.is_err();
        };
        let keep_ms = ms(state.core.config.keep);
        let request = Done {
            token: self.token,
            keep_ms,
            outcome: put.into(),
        };
        let owed = Owed {
            token: self.token,
            floor: commit.floor(),
        };
        let debt = Debt::of(|| state.core.pending.owe(&found, state.keys.prefix(), owed));
        let published = state.core.tier.done(&found, request).await;
        match published {
            Ok(Published::Put) => state.stats.puts.add(1),
            Ok(_) => state.stats.invalidations.add(1),
            Err(_) => {
                state.stats.unpublished.add(1);
                pending = true;
            }
        }
        if published.is_ok() {
            debt.paid();
        }
        pending
    }

    /// Notes what a transaction has changed, for its COMMIT to publish.
    fn note<M: CachedEntity>(&self, state: &EntityState<M>, session: &Session, commit: &Commit<M>) {
        let found = state.key_of(&commit.row);
        let put = put_of(state, &found, commit);
        let mut journal = session.journal();
        if let Some(key) = self.key.as_ref().filter(|key| **key != found) {
            journal.note(key.clone(), state.change(Version::ZERO, None));
        }
        journal.note(found, state.change(commit.floor(), put));
    }

    /// Nothing was written: the claim goes, the tombstone stays until someone reads.
    async fn release<M: CachedEntity>(self, state: &EntityState<M>) {
        if let (Some(key), Standing::Held) = (self.key, self.standing) {
            let keep_ms = ms(state.core.config.keep);
            let request = Done {
                token: self.token,
                keep_ms,
                outcome: Outcome::RolledBack,
            };
            // Without an answer the block lapses by itself.
            let _ = state.core.tier.done(&key, request).await;
        }
    }
}

/// How to store the committed row; `None` if it is gone, or has no version to order it by.
fn put_of<M: CachedEntity>(state: &EntityState<M>, key: &Key, commit: &Commit<M>) -> Option<Put> {
    let version = commit.row.version().filter(|_| !commit.deleted)?;
    match state.seal(key, &commit.row, version, &state.policy) {
        Ok(value) => Some(Put {
            version,
            inserted: commit.inserted,
            value,
        }),
        Err(error) => {
            tracing::warn!(%key, %error, "a row cannot be cached");
            None
        }
    }
}

impl From<Put> for Outcome {
    fn from(
        Put {
            version,
            inserted,
            value,
        }: Put,
    ) -> Self {
        Self::Put {
            version,
            inserted,
            value,
        }
    }
}

/// Makes the entry of a key a tombstone; what the tier cannot be told is owed.
pub(super) async fn publish_invalidation<M: CachedEntity>(
    state: &EntityState<M>,
    key: &Key,
    owed: Owed,
) -> Result<(), TierError> {
    let keep_ms = ms(state.core.config.keep);
    let outcome = Outcome::Invalidate { floor: owed.floor };
    let request = Done {
        token: owed.token,
        keep_ms,
        outcome,
    };
    let debt = Debt::of(|| state.core.pending.owe(key, state.keys.prefix(), owed));
    match state.core.tier.done(key, request).await {
        Ok(_) => {
            debt.paid();
            state.stats.invalidations.add(1);
            Ok(())
        }
        Err(error) => {
            state.stats.unpublished.add(1);
            Err(error)
        }
    }
}
