//! How a transaction's COMMIT is sent: between the blocks of all it changed and their publication.
//!
//! Does not run the transaction's statements.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use sea_orm::{DatabaseTransaction, DbErr};
use tokio::time::Instant;

use super::{commit::database_refused, pending::Owed};
use crate::{
    TierError,
    config::OnCacheFailure,
    db::Core,
    protocol::{
        Key, Token, Version,
        state::{Block, Blocked, Done, Outcome, Published},
    },
    read::ms,
    session::{Change, Journal},
};

/// A transaction that did not commit, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An error before made it impossible, or a nested transaction is still open. It was rolled
    /// back, or is when the nested one ends.
    #[error("rolled back: {source}")]
    RolledBack {
        /// What stands in the way.
        source: DbErr,
    },
    /// The database refused the COMMIT: a deferred constraint, a serialization failure. It was
    /// rolled back.
    #[error("the database refused the commit: {source}")]
    Refused {
        /// What SeaORM said.
        source: DbErr,
    },
    /// It has ended already. Nothing was written.
    #[error("the transaction has already ended")]
    Ended,
    /// The cache cannot be told, and the policy is to refuse. It was rolled back.
    #[error("the cache is unavailable and `on_cache_failure` is `refuse`; rolled back")]
    CacheUnavailable {
        /// What the cache said.
        source: TierError,
    },
    /// More writes are in flight on one of its rows than the cache keeps track of. It was rolled
    /// back; try again.
    #[error("too many writes are in flight on {key}; rolled back, try again")]
    Contended {
        /// The key.
        key: String,
    },
    /// Telling the cache took so long that the row's protection might have lapsed. It was rolled
    /// back; try again.
    #[error("telling the cache took longer than `block` allows; rolled back, try again")]
    TooLate,
    /// COMMIT was sent and got no answer: it may have happened.
    #[error("the outcome of the COMMIT is unknown: {source}")]
    Unknown {
        /// What SeaORM said.
        source: DbErr,
    },
    /// The task that committed ended without a result: its runtime was shut down. It may have
    /// committed.
    #[error("the commit was aborted and may have happened")]
    Aborted,
}

/// A COMMIT under way.
pub(super) struct Commit<'a> {
    core: &'a Core,
    token: Token,
    changes: Vec<(Key, Change)>,
    entities: HashSet<Arc<str>>,
    /// Of each change, whether its key is blocked.
    held: Vec<bool>,
}

impl<'a> Commit<'a> {
    pub(super) fn new(core: &'a Core, journal: Journal) -> Self {
        let changes: Vec<_> = journal.keys.into_iter().collect();
        let held = vec![false; changes.len()];
        Self {
            core,
            token: Token::fresh(),
            changes,
            entities: journal.entities,
            held,
        }
    }

    pub(super) async fn run(mut self, conn: DatabaseTransaction) -> Result<(), CommitError> {
        let began = Instant::now();
        if let Err(error) = self.block().await {
            return self.give_up(conn, error).await;
        }
        let left = self.core.config.block.saturating_sub(began.elapsed());
        if left.is_zero() {
            return self.give_up(conn, CommitError::TooLate).await;
        }
        match self.send(conn, left).await {
            Ok(()) => {
                self.publish().await;
                Ok(())
            }
            Err(source) if database_refused(&source) => {
                self.release().await;
                Err(CommitError::Refused { source })
            }
            Err(source) => {
                self.leave().await;
                Err(CommitError::Unknown { source })
            }
        }
    }

    /// Blocks every key, in one round trip.
    async fn block(&mut self) -> Result<(), CommitError> {
        let config = &self.core.config;
        let request = Block {
            token: self.token,
            block_ms: ms(config.block),
            keep_ms: ms(config.keep),
        };
        let blocks = self
            .changes
            .iter()
            .map(|(key, _)| self.core.tier.block(key, request));
        let mut result = Ok(());
        for (at, reply) in join_all(blocks).await.into_iter().enumerate() {
            let (key, change) = &self.changes[at];
            match reply {
                Ok(Blocked::Held) => self.held[at] = true,
                Ok(Blocked::Busy) => {
                    result = Err(CommitError::Contended {
                        key: key.to_string(),
                    });
                }
                Err(source) if change.on_failure == OnCacheFailure::Refuse => {
                    result = Err(CommitError::CacheUnavailable { source });
                }
                Err(_) => {}
            }
        }
        result
    }

    async fn send(&self, conn: DatabaseTransaction, left: Duration) -> Result<(), DbErr> {
        if self.changes.is_empty() {
            return conn.commit().await;
        }
        match tokio::time::timeout(left, conn.commit()).await {
            Ok(result) => result,
            Err(_) => Err(DbErr::Custom(format!(
                "no answer to COMMIT within {left:?}"
            ))),
        }
    }

    /// Tells the cache what was committed, in one round trip.
    async fn publish(self) {
        let keep_ms = ms(self.core.config.keep);
        let dones = self
            .changes
            .iter()
            .zip(&self.held)
            .map(|((key, change), held)| {
                change.stats.writes.add(1);
                let outcome = match &change.put {
                    Some(put) if *held && put.version >= change.floor => Outcome::Put {
                        version: put.version,
                        inserted: put.inserted,
                        value: put.value.clone(),
                    },
                    Some(put) => Outcome::Invalidate {
                        floor: change.floor.max(put.version),
                    },
                    None => Outcome::Invalidate {
                        floor: change.floor,
                    },
                };
                self.core.tier.done(
                    key,
                    Done {
                        token: self.token,
                        keep_ms,
                        outcome,
                    },
                )
            });
        let replies = join_all(dones).await;
        for ((key, change), reply) in self.changes.iter().zip(replies) {
            match reply {
                Ok(Published::Put) => change.stats.puts.add(1),
                Ok(_) => change.stats.invalidations.add(1),
                Err(_) => self.owe(key, change),
            }
        }
        self.invalidate_entities().await;
    }

    /// The outcome is unknown: the blocks stay until they lapse, and keys without one are owed an
    /// invalidation.
    async fn leave(self) {
        for ((key, change), held) in self.changes.iter().zip(&self.held) {
            if !held {
                self.owe(key, change);
            }
        }
        self.invalidate_entities().await;
    }

    async fn give_up(
        self,
        conn: DatabaseTransaction,
        error: CommitError,
    ) -> Result<(), CommitError> {
        // Without a COMMIT the server rolls back, asked or not.
        let _ = conn.rollback().await;
        self.release().await;
        Err(error)
    }

    /// Takes the blocks off: nothing was written.
    async fn release(self) {
        let keep_ms = ms(self.core.config.keep);
        let held = self
            .changes
            .iter()
            .zip(&self.held)
            .filter(|(_, held)| **held);
        let releases = held.map(|((key, _), _)| {
            let request = Done {
                token: self.token,
                keep_ms,
                outcome: Outcome::RolledBack,
            };
            self.core.tier.done(key, request)
        });
        // Without an answer a block lapses by itself.
        let _ = join_all(releases).await;
    }

    fn owe(&self, key: &Key, change: &Change) {
        change.stats.unpublished.add(1);
        let floor = change
            .put
            .as_ref()
            .map_or(change.floor, |put| put.version.max(change.floor));
        self.core.pending.owe(
            key,
            &change.prefix,
            Owed {
                token: self.token,
                floor,
            },
        );
    }

    async fn invalidate_entities(&self) {
        let keep_ms = ms(self.core.config.keep);
        for prefix in &self.entities {
            let outcome = Outcome::Invalidate {
                floor: Version::ZERO,
            };
            let request = Done {
                token: Token::fresh(),
                keep_ms,
                outcome,
            };
            if self
                .core
                .tier
                .invalidate_all(prefix, request)
                .await
                .is_err()
            {
                self.core.pending.owe_all(prefix);
            }
        }
    }
}
