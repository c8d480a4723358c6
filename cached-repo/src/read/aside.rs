//! Cache-aside, made safe: the caller loads the row, under a lease like any other load.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    lease::{Acquired, LeaseGuard},
    load::{Query, load_cost_ms},
    pipeline::Read,
    question::{Question, Rows},
    seen::{Seen, View, wanted},
};
use crate::{
    cached::Row,
    protocol::{Entry, Key},
};

/// What a cache-aside lookup found.
pub(crate) enum Aside {
    Known(Option<Row>),
    /// Not in the cache.
    Miss(Box<AsideLoad>),
}

/// A row that the caller loads, and perhaps stores.
pub(crate) struct AsideLoad {
    query: Query,
    /// `None` if the row must not be stored.
    lease: Option<LeaseGuard>,
    began: Instant,
}

impl Aside {
    /// Looks a row up.
    pub(crate) async fn look_up(read: Read<'_>, question: Question) -> Self {
        let query = Query {
            reader: Arc::clone(read.reader),
            policy: read.policy,
            question,
            budget: read.budget,
        };
        let (reader, key) = (&query.reader, &query.question.key);
        let inside = read.scope.is_transaction();
        if !inside && read.policy.fresh {
            let lease = reader.leases.acquire_fresh(key, query.budget).await;
            return Self::miss(query, lease);
        }
        if inside || !reader.trusts(key) {
            reader.stats().bypasses.add(1);
            return Self::miss(query, None);
        }
        let seen = reader.look(&query.question, &query.policy, query.budget);
        let reason = match seen.await {
            Seen::Rows(rows, freshness) => {
                reader.count_hit(&rows, freshness);
                if freshness.wants_reload() {
                    query.clone().refresh_behind();
                }
                return Self::Known(rows.into_one());
            }
            Seen::Miss(reason) => reason,
            Seen::Index(..) | Seen::Unknown => {
                reader.stats().bypasses.add(1);
                return Self::miss(query, None);
            }
        };
        reader.count_miss(&query.question.by, reason);
        let accept = |entry: &Entry| {
            let view = View::of(&reader.context);
            match reader.judge(&query.question, &query.policy, entry, view) {
                Seen::Rows(rows, _) => Some(rows),
                Seen::Index(..) | Seen::Miss(_) | Seen::Unknown => None,
            }
        };
        let budget = query.budget.continued();
        let acquired = reader.leases.acquire(key, wanted(reason), budget, accept);
        match acquired.await {
            Acquired::Known(rows) => Self::Known(rows.into_one()),
            Acquired::Lease(guard) => Self::miss(query, Some(guard)),
            Acquired::Nothing => Self::miss(query, None),
        }
    }

    fn miss(query: Query, lease: Option<LeaseGuard>) -> Self {
        Self::Miss(Box::new(AsideLoad {
            query,
            lease,
            began: Instant::now(),
        }))
    }
}

impl AsideLoad {
    /// The cache key of the row that is to be loaded.
    pub(crate) fn key(&self) -> &Key {
        &self.query.question.key
    }

    /// The cache key of a row that was loaded.
    pub(crate) fn key_of(&self, row: &Row) -> Key {
        self.query.reader.context.entity.key_of(&*row.model)
    }

    /// Stores what the caller loaded, if its lease still stands.
    pub(crate) async fn fill(self, row: Option<Row>) {
        if let Some(lease) = self.lease {
            let rows: Rows = row.into_iter().collect();
            let cost_ms = load_cost_ms(self.began);
            self.query.store(lease, Some(&rows), cost_ms).await;
        }
    }
}
