//! Cache-aside, made safe: the caller loads the row, under a lease like any other load.

use tokio::time::Instant;

use super::{Claim, Query, Row, Seen};
use crate::{
    CachedEntity,
    protocol::{MissReason, Token},
};

/// What a cache-aside lookup found.
pub(crate) enum Aside<M> {
    Known(Row<M>),
    /// Not in the cache; with a token if the caller may store what it loads.
    Miss(Option<Token>),
}

impl<M: CachedEntity> Query<M> {
    pub(crate) async fn look_aside(&self) -> Aside<M> {
        let stats = &self.state.stats;
        if self.state.core.pending.distrusts(&self.key) {
            stats.bypasses.add(1);
            return Aside::Miss(None);
        }
        let reason = match self.look().await {
            Seen::Row(row, _) => {
                stats.shared_hits.add(1);
                return Aside::Known(Some(row));
            }
            Seen::Absent => {
                stats.shared_hits.add(1);
                stats.absent_hits.add(1);
                return Aside::Known(None);
            }
            Seen::Miss(reason) => {
                stats.misses.add(1);
                reason
            }
            Seen::Unknown => {
                stats.bypasses.add(1);
                MissReason::Nothing
            }
        };
        match self.claim(reason).await {
            Claim::Known(row) => Aside::Known(row),
            Claim::Granted(token, _) => Aside::Miss(Some(token)),
            Claim::Past => Aside::Miss(None),
        }
    }

    /// Stores what the caller loaded since `began`, if its lease still stands.
    pub(crate) async fn fill_aside(&self, token: Option<Token>, row: Option<&M>, began: Instant) {
        if let Some(token) = token {
            let load_cost_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
            self.store(token, Some(row), load_cost_ms).await;
        }
    }

    /// Gives a lease back unused.
    pub(crate) async fn release(&self, token: Token) {
        self.store(token, None, 0).await;
    }
}
