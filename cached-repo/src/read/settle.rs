//! What the cache is told when a reader has loaded answers itself: what to store, and what was wrong.
//!
//! Does not load.

use std::sync::Arc;

use super::{lease::LeaseGuard, load::Query, question::Rows};
use crate::tier::run_bounded;

/// Tells the cache what was loaded for questions of one kind: stores it under its lease, and repairs
/// what a fresh read contradicts.
pub(super) async fn settle(loads: Vec<(Query, Option<LeaseGuard>, Rows)>, cost_ms: u32) {
    let Some((first, ..)) = loads.first() else {
        return;
    };
    let (reader, policy) = (Arc::clone(&first.reader), first.policy);
    let kind = first.question.by.clone();
    let stored = loads.into_iter().map(async |(query, guard, rows)| {
        match guard {
            Some(guard) => query.store(guard, Some(&rows), cost_ms).await,
            None => reader.leases.announce(&query.question.key).await,
        }
        rows.into_vec()
    });
    let rows = run_bounded(stored).await;
    if policy.fresh {
        reader.repairs(&policy).after(&kind, &rows.concat()).await;
    }
}
