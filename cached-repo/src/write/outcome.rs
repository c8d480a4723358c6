//! What a write does, and what became of it.

use crate::{cached::AnyModel, entity::Entity, error::WriteError, protocol::Version};

/// What a save does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
}

/// What became of a write's SQL.
pub(super) enum Sql {
    Committed(Written),
    /// Nothing was written.
    Refused(WriteError),
    /// Nothing was written, because the row is not what the caller took it for.
    Contradicted(WriteError),
    /// The statement was sent and may be committed, now or later.
    Unknown(WriteError),
}

/// What a statement did to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Inserted,
    Updated,
    Deleted,
}

/// A written row; for a delete, the row as it was.
pub(super) struct Written {
    pub(super) model: AnyModel,
    pub(super) effect: Effect,
}

impl Written {
    pub(super) fn new(model: AnyModel, effect: Effect) -> Self {
        Self { model, effect }
    }

    /// The version below which nothing may be stored any more.
    pub(super) fn floor(&self, entity: &Entity) -> Version {
        match entity.ops.version(&*self.model) {
            Some(version) if self.effect == Effect::Deleted => version.next(),
            Some(version) => version,
            None => Version::ZERO,
        }
    }
}
