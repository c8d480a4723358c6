//! The write pipeline: block → SQL → publish, the only place that knows this order.
//!
//! ```text
//! before_save ─ block ─ SQL ─ committed ──── put the row, or invalidate ─ after_save
//!                        ├── refused ─────── release the block
//!                        ├── conflict ────── invalidate: the cache may hold what misled the caller
//!                        └── outcome unknown ─ leave the block until it lapses
//! ```
//! Invariants:
//! - A write runs in a task of its own once it has begun: a caller that goes away leaves neither
//!   an open block nor an unpublished commit behind.
//! - A row is put only under a block of its own; without one it is invalidated.
//! - What could not be published is pending, and this process does not serve those keys.
//! - While an outcome is unknown its block stays: the statement may still commit, and until the
//!   block lapses nobody stores what it is about to change.
//!
//! Does not serve reads.

mod commit;
mod pending;

use std::{future::Future, sync::Arc};

use sea_orm::{ActiveModelBehavior, ActiveModelTrait, sea_query::FromValueTuple};

pub(crate) use self::pending::Pending;
use self::{
    commit::{Commit, Sql},
    pending::Owed,
};
use crate::{
    ActiveModelOf, CacheError, CachedEntity, Id, TierError, WriteError,
    cached::{Cached, Provenance},
    config::OnCacheFailure,
    db::EntityState,
    protocol::{
        Key, Token, Version,
        state::{Block, Blocked, Done, Outcome, Published},
    },
    read::ms,
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
    verb: Verb,
    active: ActiveModelOf<M>,
) -> Result<Cached<M>, WriteError> {
    let state = Arc::clone(state);
    detached(&state.clone(), async move {
        let expected = commit::expected_version(&state, verb, &active)?;
        let conn = &state.core.conn;
        let active = active
            .before_save(conn, verb == Verb::Insert)
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

        let claim = Claim::stake(&state, key).await?;
        let sql = async {
            match (verb, &id) {
                (Verb::Update, Some(id)) => commit::update(&state, active, id, expected).await,
                _ => commit::insert(&state, active).await,
            }
        };
        let sql = claim.cover(&state, sql).await;
        let (row, pending) = claim.settle(&state, sql).await?;
        let row = ActiveModelOf::<M>::after_save(row, conn, verb == Verb::Insert)
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
    row: M,
) -> Result<(), WriteError> {
    let state = Arc::clone(state);
    detached(&state.clone(), async move {
        let conn = &state.core.conn;
        let key = state.key_of(&row);
        let active = row
            .clone()
            .into_active_model()
            .before_delete(conn)
            .await
            .map_err(|source| WriteError::database(&state.name, source))?;
        let claim = Claim::stake(&state, Some(key)).await?;
        let sql = commit::delete(&state, &row, active.clone());
        let sql = claim.cover(&state, sql).await;
        claim.settle(&state, sql).await?;
        active
            .after_delete(conn)
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
    id: Id<M>,
) -> Result<Option<M>, WriteError> {
    let state = Arc::clone(state);
    detached(&state.clone(), async move {
        let claim = Claim::stake(&state, Some(state.keys.row(id.clone()))).await?;
        let sql = claim.cover(&state, commit::delete_by_id(&state, id)).await;
        match claim.settle(&state, sql).await {
            Ok((row, _)) => Ok(Some(row)),
            Err(WriteError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Makes the entry of a key a tombstone, now or, if the tier cannot be told, later.
pub(crate) async fn invalidate<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
    key: Key,
) -> Result<(), CacheError> {
    let owed = Owed {
        token: Token::fresh(),
        floor: Version::ZERO,
    };
    publish_invalidation(state, &key, owed).await?;
    Ok(())
}

/// Makes every entry of the entity a tombstone, now or later.
pub(crate) async fn invalidate_all<M: CachedEntity>(
    state: &Arc<EntityState<M>>,
) -> Result<(), CacheError> {
    let keep_ms = ms(state.core.config.keep);
    let outcome = Outcome::Invalidate {
        floor: Version::ZERO,
    };
    let request = Done {
        token: Token::fresh(),
        keep_ms,
        outcome,
    };
    let prefix = state.keys.prefix();
    let debt = Debt::of(|| state.core.pending.owe_all(prefix));
    let keys = state.core.tier.invalidate_all(prefix, request).await?;
    debt.paid();
    state.stats.invalidations.add(keys);
    Ok(())
}

/// Runs a write in a task of its own, so that it ends whatever becomes of the caller.
async fn detached<M: CachedEntity, T: Send + 'static>(
    state: &EntityState<M>,
    write: impl Future<Output = Result<T, WriteError>> + Send + 'static,
) -> Result<T, WriteError> {
    use tracing::Instrument;
    match state.core.tasks.spawn(write.in_current_span()).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::Aborted {
            entity: state.name.clone(),
        }),
    }
}

/// A write's claim on its key, from before the SQL until it is published.
struct Claim {
    token: Token,
    key: Option<Key>,
    /// Whether the tier acknowledged the block.
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Held,
    /// There is no key yet (the database makes it), or the tier did not answer.
    None,
}

impl Claim {
    /// Blocks the key, if it is known.
    async fn stake<M: CachedEntity>(
        state: &EntityState<M>,
        key: Option<Key>,
    ) -> Result<Self, WriteError> {
        let token = Token::fresh();
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
        })
    }

    /// Runs the SQL. If it never returns (a row that panics when it is decoded) and no block
    /// stands that would lapse, what it may have written is owed.
    async fn cover<M: CachedEntity>(
        &self,
        state: &EntityState<M>,
        sql: impl Future<Output = Sql<M>>,
    ) -> Sql<M> {
        let owed = Owed {
            token: self.token,
            floor: Version::ZERO,
        };
        let debt = match (&self.key, self.standing) {
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

    /// Publishes what the SQL did; gives the row and whether publishing it is pending.
    async fn settle<M: CachedEntity>(
        self,
        state: &EntityState<M>,
        sql: Sql<M>,
    ) -> Result<(M, bool), WriteError> {
        match sql {
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
                if let (Some(key), Standing::None) = (&self.key, self.standing) {
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
            Standing::Held if !commit.deleted && self.key.as_ref() == Some(&found) => {
                self.put_of(state, &found, commit)
            }
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
            outcome: put,
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

    /// How to store the committed row; `None` if it has no version to order it by.
    fn put_of<M: CachedEntity>(
        &self,
        state: &EntityState<M>,
        key: &Key,
        commit: &Commit<M>,
    ) -> Option<Outcome> {
        let version = commit.row.version()?;
        match state.seal(key, &commit.row, version, &state.policy) {
            Ok(value) => Some(Outcome::Put {
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

/// Makes the entry of a key a tombstone; what the tier cannot be told is owed.
async fn publish_invalidation<M: CachedEntity>(
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

/// What is owed unless it is paid, whatever becomes of the one who waits for the payment.
struct Debt<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Debt<F> {
    fn of(owe: F) -> Self {
        Self(Some(owe))
    }

    fn paid(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Debt<F> {
    fn drop(&mut self) {
        if let Some(owe) = self.0.take() {
            owe();
        }
    }
}
