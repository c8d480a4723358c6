//! A claim on keys, from before what they stand for is committed until the cache knows what became
//! of it. A single write claims its row and what the row is found by; a transaction claims all
//! that its statements have changed.
//!
//! Invariants:
//! - All keys are blocked in one round trip, and told of the outcome in one.
//! - A row is put only under a block of its own; without one its key is invalidated.
//! - What the tier could not be told is owed, whatever becomes of the one who waits for it.
//!
//! Does not run SQL.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::pending::{Debt, Owed};
use crate::{
    TierError,
    config::OnCacheFailure,
    db::Core,
    protocol::{
        Key, Token, Version,
        state::{Block, Blocked, Done, Outcome, Published},
    },
    read::ms,
    session::{Change, Journal, Put},
    tier::each,
};

const FIRST_BUSY_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Keys that a write, or a transaction, is about to change.
pub(super) struct Claim {
    core: Arc<Core>,
    token: Token,
    keys: Vec<Claimed>,
    /// Prefixes of entities any row of which may change.
    entities: HashSet<Arc<str>>,
    /// When the first block lapses, at the earliest.
    deadline: Instant,
}

struct Claimed {
    key: Key,
    change: Change,
    standing: Standing,
}

/// Whether a key is blocked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The tier was not asked.
    Unasked,
    /// It is.
    Held,
    /// The tier did not answer; it may be.
    Unknown,
}

/// A claim that the tier or the policy refused. What was blocked is to be released.
pub(super) enum Refusal {
    /// More writes are in flight on this key than the tier keeps track of.
    Contended(Key),
    /// The tier cannot be told, and the policy is to refuse.
    Unavailable(TierError),
}

impl Claim {
    /// A claim on what a journal lists; nothing is blocked yet.
    pub(super) fn on(core: &Arc<Core>, journal: Journal) -> Self {
        let keys = journal.keys.into_iter().map(|(key, change)| Claimed {
            key,
            change,
            standing: Standing::Unasked,
        });
        Self {
            core: Arc::clone(core),
            token: Token::fresh(),
            keys: keys.collect(),
            entities: journal.entities,
            deadline: Instant::now() + core.config.block,
        }
    }

    /// By when what it stands for must be committed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds what has changed beyond what is listed, or what became of a key that is.
    pub(super) fn note(&mut self, key: Key, change: Change) {
        match self.keys.iter_mut().find(|claimed| claimed.key == key) {
            Some(claimed) => claimed.change.absorb(change),
            None => self.keys.push(Claimed {
                key,
                change,
                standing: Standing::Unasked,
            }),
        }
    }

    /// Blocks every key for which that was not tried. A row with too many writers is refused; a
    /// hint is shared by many rows, so it is waited for until its writers are fewer.
    pub(super) async fn block(&mut self) -> Result<(), Refusal> {
        let patience = self
            .deadline
            .min(Instant::now() + self.core.config.block / 2);
        let mut pause = FIRST_BUSY_PAUSE;
        while let Some(hint) = self.try_block().await? {
            if Instant::now() >= patience {
                return Err(Refusal::Contended(hint));
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_BUSY_PAUSE);
        }
        Ok(())
    }

    /// Blocks what has room for one more writer; gives a hint that has not.
    async fn try_block(&mut self) -> Result<Option<Key>, Refusal> {
        let request = Block {
            token: self.token,
            block_ms: ms(self.core.config.block),
            keep_ms: ms(self.core.config.keep),
        };
        let unasked = self
            .keys
            .iter_mut()
            .filter(|claimed| claimed.standing == Standing::Unasked);
        let tier = &self.core.tier;
        let blocks = unasked.map(async |claimed| {
            let answer = tier.block(&claimed.key, request).await;
            claimed.standing = match &answer {
                Ok(Blocked::Held) => Standing::Held,
                Ok(Blocked::Busy) => Standing::Unasked,
                // Nothing was sent, or it may have arrived.
                Err(_) => Standing::Unknown,
            };
            match answer {
                Ok(Blocked::Held) => Ok(None),
                Ok(Blocked::Busy) if claimed.change.of_hint => Ok(Some(claimed.key.clone())),
                Ok(Blocked::Busy) => Err(Refusal::Contended(claimed.key.clone())),
                Err(error) => match claimed.change.on_failure {
                    OnCacheFailure::Proceed => Ok(None),
                    OnCacheFailure::Refuse => Err(Refusal::Unavailable(error)),
                },
            }
        });
        let answers: Vec<_> = each(blocks).await.into_iter().collect::<Result<_, _>>()?;
        Ok(answers.into_iter().flatten().next())
    }

    /// From now until the returned guard is dismissed: if what the claim stands for never returns
    /// (a row that panics when it is decoded), the keys without a block that would lapse are owed
    /// an invalidation.
    pub(super) fn cover(&self) -> Cover {
        let bare = |claimed: &&Claimed| claimed.standing != Standing::Held;
        let keys = self.keys.iter().filter(bare);
        Cover {
            core: Arc::clone(&self.core),
            keys: keys
                .map(|claimed| (claimed.key.clone(), Arc::clone(&claimed.change.prefix)))
                .collect(),
            token: self.token,
        }
    }

    /// Tells the tier what was committed; after an error it is owed what it could not be told.
    pub(super) async fn publish(self) -> Result<(), TierError> {
        let keys = each(self.keys.iter().map(|claimed| self.tell(claimed))).await;
        let entities = self.invalidate_entities().await;
        keys.into_iter().collect::<Result<(), _>>().and(entities)
    }

    async fn tell(&self, claimed: &Claimed) -> Result<(), TierError> {
        let Claimed { key, change, .. } = claimed;
        change.stats.writes.add(change.writes);
        let held = claimed.standing == Standing::Held;
        let put = change.put.clone();
        let put = put.filter(|put| held && put.version >= change.floor);
        let request = Done {
            token: self.token,
            keep_ms: ms(self.core.config.keep),
            outcome: put.map_or(
                Outcome::Invalidate {
                    floor: change.known(),
                },
                Outcome::from,
            ),
        };
        let debt = Debt::of(|| self.owe(claimed, claimed.change.known(), None));
        match self.core.tier.done(key, request).await {
            Ok(published) => {
                debt.paid();
                match published {
                    Published::Put => change.stats.puts.add(1),
                    _ => change.stats.invalidations.add(1),
                }
                Ok(())
            }
            Err(error) => {
                change.stats.unpublished.add(1);
                Err(error)
            }
        }
    }

    /// Nothing was written: the blocks go, the tombstones stay until someone reads.
    pub(super) async fn release(self) {
        let keep_ms = ms(self.core.config.keep);
        let blocked = self
            .keys
            .iter()
            .filter(|claimed| claimed.standing != Standing::Unasked);
        let releases = blocked.map(|claimed| {
            let request = Done {
                token: self.token,
                keep_ms,
                outcome: Outcome::RolledBack,
            };
            self.core.tier.done(&claimed.key, request)
        });
        // Without an answer a block lapses by itself.
        let _ = each(releases).await;
    }

    /// Nothing was written, because the cache may hold what misled the caller: `row` is
    /// invalidated, with what the database has as its floor, and the other blocks go.
    pub(super) async fn contradict(mut self, row: Option<&Key>, found: Version) {
        let misled = self.keys.iter_mut();
        for claimed in misled.filter(|claimed| Some(&claimed.key) == row) {
            // Without a floor, whoever wrote it could not put what it wrote.
            claimed.change.floor = found;
        }
        let (misleading, others) = self
            .keys
            .into_iter()
            .partition(|claimed| Some(&claimed.key) == row);
        self.keys = others;
        let other = Self {
            core: Arc::clone(&self.core),
            token: self.token,
            keys: misleading,
            entities: HashSet::new(),
            deadline: self.deadline,
        };
        // What could not be told is owed.
        let _ = tokio::join!(self.release(), other.publish());
    }

    /// The outcome is unknown: the blocks stay until they lapse, because the statement may still
    /// commit, and until then nobody stores what it is about to change. It may even commit after
    /// that; so every key is owed an invalidation some time later, and one that is not blocked
    /// now. None of it has a floor: what was to be written may never be.
    pub(super) async fn leave(self) {
        let late = self.deadline + self.core.config.block;
        for claimed in &self.keys {
            claimed.change.stats.unpublished.add(1);
            let due = (claimed.standing == Standing::Held).then_some(late);
            self.owe(claimed, Version::ZERO, due);
        }
        // What could not be told is owed.
        let _ = self.invalidate_entities().await;
        if !self.entities.is_empty() {
            let (core, tasks) = (Arc::clone(&self.core), self.core.tasks.clone());
            tasks.spawn(async move {
                tokio::time::sleep_until(late).await;
                for prefix in &self.entities {
                    // What could not be told is owed.
                    let _ = invalidate_all(&core, prefix).await;
                }
            });
        }
    }

    /// Remembers what the tier is to be told, at once or at `due`.
    fn owe(&self, claimed: &Claimed, floor: Version, due: Option<Instant>) {
        let owed = Owed {
            token: self.token,
            floor,
            due,
        };
        self.core
            .pending
            .owe(&claimed.key, &claimed.change.prefix, owed);
    }

    async fn invalidate_entities(&self) -> Result<(), TierError> {
        let mut told = Ok(());
        for prefix in &self.entities {
            told = told.and(invalidate_all(&self.core, prefix).await.map(drop));
        }
        told
    }
}

/// Makes every entry whose key starts with `prefix` a tombstone, now or later; says how many.
pub(super) async fn invalidate_all(core: &Core, prefix: &Arc<str>) -> Result<u64, TierError> {
    let request = Done {
        token: Token::fresh(),
        keep_ms: ms(core.config.keep),
        outcome: Outcome::Invalidate {
            floor: Version::ZERO,
        },
    };
    let debt = Debt::of(|| core.pending.owe_all(prefix));
    let keys = core.tier.invalidate_all(prefix, request).await?;
    debt.paid();
    Ok(keys)
}

/// What is owed if what a claim stands for never returns; see [`Claim::cover`].
pub(super) struct Cover {
    core: Arc<Core>,
    keys: Vec<(Key, Arc<str>)>,
    token: Token,
}

impl Cover {
    /// Nothing is.
    pub(super) fn none(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            keys: Vec::new(),
            token: Token::fresh(),
        }
    }

    /// It has returned.
    pub(super) fn dismiss(mut self) {
        self.keys.clear();
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        for (key, prefix) in &self.keys {
            let owed = Owed {
                token: self.token,
                floor: Version::ZERO,
                due: None,
            };
            self.core.pending.owe(key, prefix, owed);
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
