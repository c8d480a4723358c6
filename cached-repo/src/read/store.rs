//! What of a load is stored, and for how long.
//!
//! Does not load, and does not talk to the tier.

use super::{Query, Row, Tenure};
use crate::{
    CachedEntity,
    config::ReadPolicy,
    db::EntityState,
    protocol::{
        Key, Version, seal_absent,
        state::{Filled, Found, Value},
    },
};

impl<M: CachedEntity> Query<M> {
    /// Ends a load with what it found, `None` if it failed: stores it in the shared tier, if its
    /// lease still stands, and then keeps it near.
    pub(super) async fn store(&self, tenure: Tenure<M>, row: Option<&Row<M>>, load_cost_ms: u32) {
        let stamp = self.stamp();
        let found = row.map(|row| self.found(row.as_deref(), load_cost_ms));
        let stored = found.as_ref().and_then(Found::value);
        let stored = stored.map(|value| (value.payload.len(), value.fresh_ms));
        let authoritative = self.policy.fresh;
        let filled = self.place().settle(tenure, found, authoritative).await;
        if let (Some(Filled::Stored), Some(row), Some((bytes, fresh_ms))) = (filled, row, stored) {
            self.keep_stored(stamp, row.as_ref(), bytes, fresh_ms);
        }
    }

    /// What is to be stored of a load.
    fn found(&self, row: Option<&M>, load_cost_ms: u32) -> Found {
        match row {
            // A row that the database calls equal to the key but that is spelt otherwise has a
            // key of its own; no writer would invalidate it under this one.
            Some(row) if self.state.key_of(row) != self.key => Found::Nothing,
            Some(row) => {
                let version = row.version().unwrap_or(Version::ZERO);
                match self.state.seal(&self.key, row, version, &self.policy) {
                    Ok(value) => Found::Row {
                        version,
                        value: Value {
                            load_cost_ms,
                            ..value
                        },
                    },
                    Err(error) => {
                        tracing::warn!(key = %self.key, %error, "a row cannot be cached");
                        Found::Nothing
                    }
                }
            }
            None => {
                let exact = self.state.spelling_is_exact(&self.id);
                self.state
                    .absent(&self.key, &self.policy, exact, load_cost_ms)
            }
        }
    }
}

impl<M: CachedEntity> EntityState<M> {
    /// What is to be stored of an absence: nothing where an insert may not be sure to find it
    /// under the same key text, because the database calls differently spelt values equal.
    pub(super) fn absent(
        &self,
        key: &Key,
        policy: &ReadPolicy,
        spelling_is_exact: bool,
        load_cost_ms: u32,
    ) -> Found {
        if policy.negative_ttl.is_zero() || !spelling_is_exact {
            return Found::Nothing;
        }
        let fresh_ms = self.jittered_ms(policy.negative_ttl);
        Found::Absent(Value {
            payload: seal_absent(key),
            schema: 0,
            load_cost_ms,
            fresh_ms,
            ttl_ms: fresh_ms,
        })
    }
}
