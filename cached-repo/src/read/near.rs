//! What a read asks of the near cache, and gives it to keep.
//!
//! Does not ask another tier.

use std::{sync::Arc, time::Duration};

use sea_orm::sea_query::ValueTuple;

use super::question::Rows;
use crate::{
    cached::{AnyModel, Row},
    entity::ops::NearRows,
    near::{GenerationStamp, Life},
    protocol::{Entry, Key, Timestamp},
};

/// The near cache of an entity; one that keeps nothing for an entity without.
pub(super) struct Near(Option<Arc<dyn NearRows>>);

impl Near {
    pub(super) fn new(rows: Option<Arc<dyn NearRows>>) -> Self {
        Self(rows)
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What is kept of a row: the row, or that there is none.
    pub(super) fn get(&self, id: &ValueTuple) -> Option<Option<Row>> {
        self.0.as_ref()?.get(id)
    }

    /// To be taken before the shared tier is asked for what may be kept.
    pub(super) fn stamp(&self, key: &Key) -> Option<GenerationStamp> {
        self.0.as_ref()?.stamp(key)
    }

    /// Keeps what the shared tier holds.
    pub(super) fn keep_seen(
        &self,
        id: &ValueTuple,
        stamp: Option<GenerationStamp>,
        entry: &Entry,
        rows: &Rows,
        now: Timestamp,
    ) {
        let life = || Life {
            age: now.since(entry.at),
            left: entry.fresh_until().since(now),
        };
        self.keep(id, stamp, rows, entry.payload.len(), life);
    }

    /// Keeps what the shared tier has just stored for `fresh_ms`.
    pub(super) fn keep_stored(
        &self,
        id: &ValueTuple,
        stamp: Option<GenerationStamp>,
        rows: &Rows,
        encoded_bytes: usize,
        fresh_ms: u64,
    ) {
        let life = || Life {
            age: Duration::ZERO,
            left: Duration::from_millis(fresh_ms),
        };
        self.keep(id, stamp, rows, encoded_bytes, life);
    }

    fn keep(
        &self,
        id: &ValueTuple,
        stamp: Option<GenerationStamp>,
        rows: &Rows,
        encoded_bytes: usize,
        life: impl FnOnce() -> Life,
    ) {
        if let (Some(near), Some(stamp)) = (&self.0, stamp) {
            let model: Option<AnyModel> = rows.as_slice().first().map(|row| row.model.clone());
            near.keep(id, stamp, model, encoded_bytes, life());
        }
    }
}
