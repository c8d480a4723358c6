//! Cache-aside, made safe: the caller loads the row, under a lease like any other load.

use tokio::time::Instant;

use super::{Claim, Query, Row, Tenure, load_cost_ms};
use crate::{CachedEntity, session::Scope};

/// What a cache-aside lookup found.
pub(crate) enum Aside<M: CachedEntity> {
    Known(Row<M>),
    /// Not in the cache; with a lease if the caller may store what it loads.
    Miss(Option<Tenure<M>>),
}

impl<M: CachedEntity> Query<M> {
    pub(crate) async fn look_aside(&self) -> Aside<M> {
        let stats = &self.state.stats;
        let inside = matches!(self.scope, Scope::Transaction(_));
        if !inside && self.policy.fresh {
            return Aside::Miss(self.place().lease_anew().await);
        }
        if inside || self.state.core.pending.distrusts(&self.key) {
            stats.bypasses.add(1);
            return Aside::Miss(None);
        }
        let reason = match self.serve(self.look().await) {
            Ok(row) => return Aside::Known(row),
            Err(Some(reason)) => reason,
            Err(None) => return Aside::Miss(None),
        };
        match self.claim(reason).await {
            Claim::Known(row) => Aside::Known(row),
            Claim::Granted(tenure) => Aside::Miss(Some(tenure)),
            Claim::Past => Aside::Miss(None),
        }
    }

    /// Stores what the caller loaded since `began`, if its lease still stands.
    pub(crate) async fn fill_aside(&self, tenure: Option<Tenure<M>>, row: &Row<M>, began: Instant) {
        if let Some(tenure) = tenure {
            self.store(tenure, Some(row), load_cost_ms(began)).await;
        }
    }
}
