//! What the shared tier says of a question.
//!
//! Does no I/O, and counts nothing.

use sea_orm::sea_query::ValueTuple;

use super::question::{By, Question, Rows};
use crate::{
    cached::{Provenance, Row, Source},
    config::ReadPolicy,
    context::EntityContext,
    invalidation::Usable,
    protocol::{
        Classification, Content, Entry, MissReason, Policy, RowDecoder, SealError, Timestamp,
        Version, classify, open, state::Want,
    },
};

/// What the shared tier says of a question.
pub(super) enum Seen {
    /// The answer.
    Rows(Rows, Freshness),
    /// The primary keys of the rows that a lookup found.
    Index(Vec<ValueTuple>, Freshness),
    /// Nothing that can be used.
    Miss(MissReason),
    /// It gave no answer, or it is not trusted for this key.
    Unknown,
}

/// Whether what is served should be loaded again behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// Its TTL is near, and this reader is to reload it.
    Early,
    /// It is past its TTL.
    Stale,
}

impl Freshness {
    pub(super) fn wants_reload(self) -> bool {
        self != Self::Fresh
    }
}

/// What entries are judged by.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The moment, by the tier's clock.
    pub(super) now: Timestamp,
    pub(super) usable: Usable,
}

impl View {
    pub(super) fn of(context: &EntityContext) -> Self {
        Self {
            now: context.shared.tier.now(),
            usable: context.usable(),
        }
    }
}

/// What an entry says of a question.
pub(super) fn judge(
    context: &EntityContext,
    question: &Question,
    policy: &ReadPolicy,
    entry: &Entry,
    view: View,
) -> Seen {
    let View { now, usable } = view;
    let epoch = match usable {
        Usable::Of(epoch) => epoch,
        Usable::Blocked => return Seen::Miss(MissReason::Writing),
        Usable::Unknown => return Seen::Unknown,
    };
    let entity = &context.entity;
    let usable = classify(
        entry,
        now,
        &Policy {
            schema: entity.definition.schema,
            epoch,
            floor: Version::ZERO,
            serve_stale: now.since(entry.fresh_until()) < policy.stale_ttl,
            early_refresh: context.shared.config.early_refresh,
            chance: fastrand::f64(),
        },
    );
    let freshness = match usable {
        Classification::Miss(reason) => return Seen::Miss(reason),
        Classification::Fresh | Classification::KnownAbsent => Freshness::Fresh,
        Classification::Early => Freshness::Early,
        Classification::Stale => Freshness::Stale,
    };
    let opened = match &question.by {
        By::Id(_) => {
            let decode = |row: &mut RowDecoder<'_>| entity.ops.decode(row);
            open(&question.key, entry, decode).map(|content| match content {
                Content::Row(model) => {
                    let provenance = Provenance {
                        source: Source::Shared,
                        age: now.since(entry.at),
                        stale: freshness == Freshness::Stale,
                        pending: false,
                    };
                    Seen::Rows(Rows::One(Row { model, provenance }), freshness)
                }
                Content::Absent => Seen::Rows(Rows::None, freshness),
            })
        }
        By::Lookup { .. } => {
            let decode = |keys: &mut RowDecoder<'_>| entity.decode_keys(keys);
            open(&question.key, entry, decode).map(|content| match content {
                Content::Row(ids) => Seen::Index(ids, freshness),
                Content::Absent => Seen::Index(Vec::new(), freshness),
            })
        }
    };
    opened.unwrap_or_else(|error: SealError| {
        tracing::debug!(key = %question.key, %error, "an entry is corrupt");
        Seen::Miss(MissReason::Corrupt)
    })
}

/// What a reader that missed asks the tier for.
pub(super) fn wanted(reason: MissReason) -> Want {
    if reason.wants_replacement() {
        Want::Refresh
    } else {
        Want::Value
    }
}
