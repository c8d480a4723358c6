//! Epochs: a number for each entity, which outdates all of the entity's entries when it is raised.
//!
//! An entry carries the epoch that was known before the SQL that it comes from began, and is used only
//! while that is its entity's epoch. So an entity is invalidated as a whole in one operation, however
//! many entries it has.
//!
//! All epochs of a namespace are one table. Processes read it now and then and trust what they read for
//! [`TRUST`]. Whoever raises an epoch waits that long: then no process uses an older one. A write of
//! unknown extent *blocks* its entity before the COMMIT, which raises the epoch too; while a block
//! stands, nobody uses or stores entries of the entity.
//!
//! Pure functions over a table and a time, as in [`state`](super::state); `epoch.lua` says the same.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Slot, Timestamp, Token};

/// For how long a process trusts what it has read of a table.
pub const TRUST: Duration = Duration::from_millis(250);

/// The epochs of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epochs {
    /// What the epochs are counted from. A table that was lost comes back with another base, so that
    /// no earlier entry is used.
    pub base: u32,
    /// The entities that have been invalidated, by what their keys start with.
    pub entities: BTreeMap<Arc<str>, EntityEpoch>,
}

/// The epoch of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntityEpoch {
    /// How often it was raised; wraps around.
    pub raised: u32,
    /// The writes in flight that may change any row.
    pub blocks: Vec<Slot>,
}

/// What is asked of a table.
#[derive(Clone, Debug)]
pub struct EpochRequest {
    /// The base of the table, if there is none.
    pub base: u32,
    /// What to change.
    pub change: EpochChange,
    /// Of which entities, by what their keys start with.
    pub entities: Vec<Arc<str>>,
}

/// A change of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EpochChange {
    /// Nothing: the table is only read.
    Read,
    /// Outdates all entries.
    Raise,
    /// The same, and nothing is used or stored until the block ends or lapses.
    Block {
        /// Names this attempt.
        token: Token,
        /// How long the write may take.
        block_ms: u64,
    },
    /// The write has committed. Where its block no longer stands, entries are outdated once more.
    End {
        /// The block's token.
        token: Token,
    },
    /// The write has not changed anything.
    Release {
        /// The block's token.
        token: Token,
    },
}

impl EpochChange {
    fn token(&self) -> Option<Token> {
        match *self {
            Self::Read | Self::Raise => None,
            Self::Block { token, .. } | Self::End { token } | Self::Release { token } => {
                Some(token)
            }
        }
    }
}

/// A table after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochReply {
    /// When it was changed, by the tier's clock.
    pub now: Timestamp,
    /// Whether an epoch was raised, so that processes may trust an older one for a while.
    pub raised: bool,
    /// The table.
    pub epochs: Epochs,
}

/// Changes a table; `None` is one that nobody has made yet, or that was lost.
pub fn change(table: &mut Option<Epochs>, now: Timestamp, request: &EpochRequest) -> EpochReply {
    let epochs = table.get_or_insert_with(|| Epochs {
        base: request.base,
        ..Epochs::default()
    });
    let mut any_raised = false;
    for entity in &request.entities {
        if request.change == EpochChange::Read {
            break;
        }
        let epoch = epochs.entities.entry(Arc::clone(entity)).or_default();
        // Blocks that have lapsed go: nothing from before them is used, and loads that began after
        // them show whatever was committed in time.
        epoch.blocks.retain(|block| block.until > now);
        let listed = epoch.blocks.len();
        if let Some(token) = request.change.token() {
            epoch.blocks.retain(|block| block.token != token);
        }
        let stood = epoch.blocks.len() < listed;
        let raises = match request.change {
            EpochChange::Read | EpochChange::Release { .. } => false,
            EpochChange::Raise | EpochChange::Block { .. } => true,
            EpochChange::End { .. } => !stood,
        };
        if raises {
            epoch.raised = epoch.raised.wrapping_add(1);
            any_raised = true;
        }
        if let EpochChange::Block { token, block_ms } = request.change {
            let until = now.plus_ms(block_ms);
            epoch.blocks.push(Slot { token, until });
        }
    }
    EpochReply {
        now,
        raised: any_raised,
        epochs: epochs.clone(),
    }
}

impl EpochReply {
    /// The epoch of an entity, and whether a write blocks it.
    pub fn of(&self, entity: &str) -> (u32, bool) {
        let base = self.epochs.base;
        match self.epochs.entities.get(entity) {
            None => (base, false),
            Some(epoch) => {
                let stands = |block: &Slot| block.until > self.now;
                let is_blocked = epoch.blocks.iter().any(stands);
                (base.wrapping_add(epoch.raised), is_blocked)
            }
        }
    }
}

/// The schema fingerprint of an absence: it is the same for every shape of the struct.
pub const NO_SCHEMA: u32 = 0;

/// What an entry of this epoch has in the place of its schema fingerprint.
pub fn stamped(schema: u32, epoch: u32) -> u32 {
    schema.wrapping_add(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    struct Table(Option<Epochs>);

    impl Table {
        fn change(&mut self, at_ms: u64, change: EpochChange) -> EpochReply {
            let request = EpochRequest {
                base: 100,
                change,
                entities: vec!["a:".into()],
            };
            self::change(&mut self.0, START.plus_ms(at_ms), &request)
        }
    }

    #[test]
    fn a_raise_outdates_one_entity() {
        let mut table = Table(None);
        assert_eq!(table.change(0, EpochChange::Read).of("a:"), (100, false));
        let raised = table.change(0, EpochChange::Raise);
        assert!(raised.raised);
        assert_eq!(raised.of("a:"), (101, false));
        assert_eq!(raised.of("b:"), (100, false));
    }

    #[test]
    fn a_block_holds_until_it_ends_or_lapses() {
        let (one, two) = (Token::from_bits(1), Token::from_bits(2));
        let block = |token| EpochChange::Block {
            token,
            block_ms: 50,
        };
        let mut table = Table(None);
        assert_eq!(table.change(0, block(one)).of("a:"), (101, true));
        assert_eq!(table.change(10, block(two)).of("a:"), (102, true));
        let end = table.change(20, EpochChange::End { token: one });
        assert_eq!((end.raised, end.of("a:")), (false, (102, true)));
        assert_eq!(table.change(59, EpochChange::Read).of("a:"), (102, true));
        assert_eq!(table.change(60, EpochChange::Read).of("a:"), (102, false));
        // It ends too late: a reader may have stored what it replaces.
        let end = table.change(60, EpochChange::End { token: two });
        assert_eq!((end.raised, end.of("a:")), (true, (103, false)));
    }

    #[test]
    fn a_rolled_back_write_outdates_nothing_more() {
        let token = Token::from_bits(1);
        let mut table = Table(None);
        table.change(
            0,
            EpochChange::Block {
                token,
                block_ms: 50,
            },
        );
        let released = table.change(1, EpochChange::Release { token });
        assert_eq!((released.raised, released.of("a:")), (false, (101, false)));
        let again = table.change(2, EpochChange::Release { token });
        assert_eq!((again.raised, again.of("a:")), (false, (101, false)));
    }

    /// Goal: a table that was lost gives no epoch that an earlier entry may have.
    #[test]
    fn a_lost_table_comes_back_with_another_base() {
        let mut table = Table(None);
        table.change(0, EpochChange::Raise);
        table.0 = None;
        let request = EpochRequest {
            base: 7,
            change: EpochChange::Read,
            entities: Vec::new(),
        };
        let reply = change(&mut table.0, START, &request);
        assert_eq!(reply.of("a:"), (7, false));
    }
}
