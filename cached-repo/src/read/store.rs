//! How a load ends: what it found is stored, or what it was to replace is taken away.
//!
//! Does not load.

use super::{Query, Tenure, ms};
use crate::{
    CachedEntity,
    protocol::{
        Token, Version, seal_absent,
        state::{Done, Fill, Filled, Found, Outcome, Value, Want},
    },
};

impl<M: CachedEntity> Query<M> {
    /// Ends a lease with what a load found, and takes away what the load was to replace if that
    /// may not be stored in its place.
    pub(super) async fn store_or_repair(
        &self,
        tenure: Tenure<M>,
        found: Option<Option<&M>>,
        load_cost_ms: u32,
    ) {
        let filled = self.store(tenure.token(), found, load_cost_ms).await;
        // After a lease for a value there is nothing to take away but a placeholder.
        let replaces = tenure.want() == Want::Refresh;
        if filled.is_some() {
            tenure.end();
        }
        let kept = match filled {
            Some(Filled::Stored) => false,
            Some(Filled::Released | Filled::BelowFloor) => true,
            // The lease lapsed, or Redis has no room for the row. Who asked for a fresh row is
            // not served the old one afterwards.
            Some(Filled::LeaseLost) | None => self.policy.fresh,
        };
        if kept && replaces && found.is_some() {
            self.invalidate(Version::ZERO).await;
        }
    }

    /// Ends a lease with what a load found; `None` for a load that failed.
    pub(super) async fn store(
        &self,
        token: Token,
        found: Option<Option<&M>>,
        load_cost_ms: u32,
    ) -> Option<Filled> {
        let found = match found {
            Some(Some(row)) if self.state.key_of(row) == self.key => {
                let version = row.version().unwrap_or(Version::ZERO);
                self.value_of(row, version, load_cost_ms)
                    .map_or(Found::Nothing, |value| Found::Row { version, value })
            }
            Some(None) if self.may_store_absent() => Found::Absent(self.absent(load_cost_ms)),
            // A row that the database calls equal to the key but that is spelt otherwise has a
            // key of its own; no writer would invalidate it under this one.
            _ => Found::Nothing,
        };
        let gives_back = matches!(found, Found::Nothing);
        let filled = self
            .state
            .core
            .tier
            .fill(&self.key, Fill { token, found })
            .await
            .ok();
        if filled == Some(Filled::Stored) {
            self.state.stats.fills.add(1);
        } else if !gives_back {
            self.state.stats.fills_refused.add(1);
        }
        filled
    }

    /// Makes the entry a tombstone. If the tier gives no answer, the entry stays as it is: this
    /// only repairs what someone wrote past the library.
    pub(super) async fn invalidate(&self, floor: Version) {
        let request = Done {
            token: Token::fresh(),
            keep_ms: ms(self.state.core.config.keep),
            outcome: Outcome::Invalidate { floor },
        };
        if self.state.core.tier.done(&self.key, request).await.is_ok() {
            self.state.stats.invalidations.add(1);
        }
    }

    /// The sealed row; `None` if it cannot be encoded, which is logged once per load.
    fn value_of(&self, row: &M, version: Version, load_cost_ms: u32) -> Option<Value> {
        match self.state.seal(&self.key, row, version, &self.policy) {
            Ok(value) => Some(Value {
                load_cost_ms,
                ..value
            }),
            Err(error) => {
                tracing::warn!(key = %self.key, %error, "a row cannot be cached");
                None
            }
        }
    }

    fn absent(&self, load_cost_ms: u32) -> Value {
        let fresh_ms = self.state.jittered_ms(self.policy.negative_ttl);
        Value {
            payload: seal_absent(&self.key),
            schema: 0,
            load_cost_ms,
            fresh_ms,
            ttl_ms: fresh_ms,
        }
    }

    /// Whether an insert of this row is sure to find the absence under the same key text: not
    /// where the database may call two different texts equal.
    fn may_store_absent(&self) -> bool {
        !self.policy.negative_ttl.is_zero() && self.state.spelling_is_exact(&self.id)
    }
}
