//! What of a load is stored, and for how long.
//!
//! Invariants:
//! - An index entry is stored only if everything that the database calls equal to its values has
//!   its key: else a write could add a row whose index entry has another key, and not block this
//!   one.
//! - A row that a lookup has loaded is not stored: its SELECT began before anyone could lease its
//!   key. The first read through the index entry stores it.
//!
//! Does not load, and does not talk to the tier.

use sea_orm::sea_query::Value as SqlValue;

use super::question::{By, Question, Rows};
use crate::{
    cached::Row,
    config::ReadPolicy,
    context::EntityContext,
    entity::LookupKind,
    protocol::{
        Version,
        epoch::{NO_SCHEMA, stamped},
        seal_absent,
        state::{Loaded, Value},
    },
};

/// What is to be stored of a load's answer.
pub(super) fn to_store(
    context: &EntityContext,
    question: &Question,
    policy: &ReadPolicy,
    rows: &Rows,
    load_cost_ms: u32,
    epoch: u32,
) -> Loaded {
    let found = match (&question.by, rows.as_slice()) {
        (by, []) => {
            let is_exact = by.is_exact(&context.entity);
            absence(context, question, policy, is_exact, epoch)
        }
        (By::Id(_), [row, ..]) => single_row(context, question, policy, row, epoch),
        (By::Lookup { lookup, values }, rows) => {
            index_entry(context, question, policy, (*lookup, values), rows, epoch)
        }
    };
    with_cost(found.unwrap_or(Loaded::Nothing), load_cost_ms)
}

/// A row that the database calls equal to the key but that is spelt otherwise has a key of its
/// own; no writer would invalidate it under this one.
fn single_row(
    context: &EntityContext,
    question: &Question,
    policy: &ReadPolicy,
    row: &Row,
    epoch: u32,
) -> Option<Loaded> {
    let model = &*row.model;
    if context.entity.key_of(model) != question.key {
        return None;
    }
    let version = context.entity.version_of(model);
    let value = context.seal(&question.key, model, version, policy, epoch);
    let value = value.ok()?;
    Some(Loaded::Row { version, value })
}

fn index_entry(
    context: &EntityContext,
    question: &Question,
    policy: &ReadPolicy,
    (lookup, values): (usize, &[SqlValue]),
    rows: &[Row],
    epoch: u32,
) -> Option<Loaded> {
    let entity = &context.entity;
    let complete = match entity.lookups[lookup].kind {
        // A unique row is the only one, whatever the database calls equal.
        LookupKind::Unique => rows.len() == 1,
        LookupKind::Index { max_rows } => {
            let bound = max_rows.unwrap_or(context.shared.config.index_max_rows);
            if rows.len() > bound {
                entity.stats.lists_too_long.add(1);
                return None;
            }
            entity.index_key_is_exact(lookup, values)
        }
    };
    let leads_here = |row: &Row| entity.leads_to(lookup, &question.key, &*row.model);
    if !complete || !rows.iter().all(leads_here) {
        entity.stats.lookups_uncached.add(1);
        return None;
    }
    let ids: Vec<_> = rows.iter().map(|row| entity.id_of(&*row.model)).collect();
    let value = context.seal_index(&question.key, &ids, policy, epoch);
    let value = value.ok()?;
    Some(Loaded::Row {
        version: Version::ZERO,
        value,
    })
}

/// Nothing is stored where an insert may not be sure to find it under the same cache key, because
/// the database calls differently spelt values equal.
fn absence(
    context: &EntityContext,
    question: &Question,
    policy: &ReadPolicy,
    is_exact: bool,
    epoch: u32,
) -> Option<Loaded> {
    if policy.negative_ttl.is_zero() {
        return None;
    }
    if !is_exact {
        context.entity.stats.lookups_uncached.add(1);
        return None;
    }
    let fresh_ms = context.jittered_ms(policy.negative_ttl);
    Some(Loaded::Absent(Value {
        payload: seal_absent(&question.key),
        schema: stamped(NO_SCHEMA, epoch),
        load_cost_ms: 0,
        fresh_ms,
        ttl_ms: fresh_ms,
    }))
}

fn with_cost(mut found: Loaded, cost_ms: u32) -> Loaded {
    if let Loaded::Row { value, .. } | Loaded::Absent(value) = &mut found {
        value.load_cost_ms = cost_ms;
    }
    found
}
