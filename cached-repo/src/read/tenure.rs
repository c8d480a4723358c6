//! The right to load a row: how it is asked for, and given back however its holder ends.
//!
//! Invariants:
//! - From before the tier is asked until the load is stored, a lease is a [`Tenure`]: a caller
//!   that goes away and a load that panics leave none behind for others to wait for.
//!
//! Does not decide who may load.

use super::{Query, ms};
use crate::{
    CachedEntity,
    protocol::{
        Entry, Token, Version,
        state::{Lease, Leased, Want},
    },
    tier::TierError,
};

/// What the tier says to a reader that asks for a lease.
pub(super) enum Answer<M: CachedEntity> {
    Granted(Tenure<M>),
    Hit(Entry),
    Wait,
    Blocked,
    /// The tier gave no answer.
    Unknown,
}

impl<M: CachedEntity> Query<M> {
    /// Asks for the right to load.
    pub(super) async fn lease(&self, want: Want) -> Answer<M> {
        let tenure = Tenure::begin(self, want);
        let lease_ms = ms(self.state.core.config.lease);
        let request = Lease {
            token: tenure.token(),
            lease_ms,
            floor: Version::ZERO,
            want,
        };
        let answer = match self.state.core.tier.lease(&self.key, request).await {
            Ok(Leased::Granted) => return Answer::Granted(tenure),
            // It may still be granted; nobody should wait for a reader that has moved on.
            Err(TierError::Timeout(_)) => return Answer::Unknown,
            Ok(Leased::Hit(entry)) => Answer::Hit(entry),
            Ok(Leased::Wait) => Answer::Wait,
            Ok(Leased::Blocked) => Answer::Blocked,
            Err(_) => Answer::Unknown,
        };
        tenure.end();
        answer
    }
}

/// A lease that was asked for and perhaps granted; given back on drop.
pub(crate) struct Tenure<M: CachedEntity> {
    query: Query<M>,
    token: Token,
    want: Want,
    ended: bool,
}

impl<M: CachedEntity> Tenure<M> {
    /// Of an attempt of its own.
    fn begin(query: &Query<M>, want: Want) -> Self {
        Self {
            query: query.clone(),
            token: Token::fresh(),
            want,
            ended: false,
        }
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn want(&self) -> Want {
        self.want
    }

    /// There is nothing to give back (any more).
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl<M: CachedEntity> Drop for Tenure<M> {
    fn drop(&mut self) {
        // Outside a runtime the lease lapses by itself.
        if self.ended || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (query, token) = (self.query.clone(), self.token);
        self.query
            .state
            .core
            .tasks
            .spawn(async move { query.release(token).await });
    }
}
