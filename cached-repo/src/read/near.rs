//! What a read asks of the near cache, and what it gives it to keep.
//!
//! Invariants:
//! - A key that is owed an invalidation is not read from it.
//!
//! Does not ask another tier.

use std::{sync::Arc, time::Duration};

use super::{Query, Row, Seen};
use crate::{
    CachedEntity, Id,
    cached::Cached,
    config::ReadPolicy,
    db::EntityState,
    near::{Life, Stamp},
    protocol::Entry,
    session::Scope,
};

impl<M: CachedEntity> EntityState<M> {
    /// What the near cache knows of a row: asked before anything else.
    #[inline]
    pub(crate) fn find_near(
        &self,
        scope: &Scope,
        id: &Id<M>,
        policy: &ReadPolicy,
    ) -> Option<Row<M>> {
        let near = self.near.as_ref().filter(|_| policy.near)?;
        if let Scope::Transaction(_) = scope {
            return None;
        }
        // Before the look: a key that is owed no longer has been told to the near cache already.
        let pending = &self.core.pending;
        if pending.len() > 0 && pending.distrusts(&self.keys.row(id.clone())) {
            return None;
        }
        let row = near.get(id)?;
        self.stats.near_hits.add(1);
        if row.is_none() {
            self.stats.absent_hits.add(1);
        }
        Some(row)
    }
}

impl<M: CachedEntity> Query<M> {
    /// To be taken before the shared tier is asked for what may be kept.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.state.near.as_ref()?.stamp(&self.key)
    }

    /// Keeps what the shared tier holds.
    pub(super) fn keep_seen(&self, stamp: Option<Stamp>, entry: &Entry, seen: &Seen<M>) {
        let row = match seen {
            Seen::Row(row, _) => Some(row.shared()),
            Seen::Absent => None,
            Seen::Miss(_) | Seen::Unknown => return,
        };
        // Its life near counts from now: the rows of a batch are decoded one after the other.
        let now = self.state.core.tier.now();
        let life = Life {
            age: now.since(entry.at),
            left: entry.fresh_until().since(now),
        };
        self.keep(stamp, row, entry.payload.len(), life);
    }

    /// Keeps what the shared tier has just stored for `fresh_ms`.
    pub(super) fn keep_stored(
        &self,
        stamp: Option<Stamp>,
        row: Option<&Cached<M>>,
        encoded_bytes: usize,
        fresh_ms: u64,
    ) {
        let life = Life {
            age: Duration::ZERO,
            left: Duration::from_millis(fresh_ms),
        };
        self.keep(stamp, row.map(Cached::shared), encoded_bytes, life);
    }

    fn keep(&self, stamp: Option<Stamp>, row: Option<Arc<M>>, encoded_bytes: usize, life: Life) {
        if let (Some(near), Some(stamp)) = (&self.state.near, stamp) {
            near.keep(self.id.clone(), stamp, row, encoded_bytes, life);
        }
    }
}
