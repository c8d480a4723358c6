//! What a reader may do with an entry it was sent: pure rules, no I/O.

use super::{
    Entry, Kind, Timestamp, Version,
    epoch::{NO_SCHEMA, stamped},
};

/// What the reader knows and allows.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Fingerprint of the reader's struct.
    pub schema: u32,
    /// The entity's epoch.
    pub epoch: u32,
    /// The reader takes nothing older.
    pub floor: Version,
    /// Whether a row past its TTL, still kept, may be served while it is reloaded.
    pub serve_stale: bool,
    /// How eagerly rows are reloaded before their TTL, see [`Classification::Early`]; zero for never.
    pub early_refresh: f64,
    /// A random number in `0.0..1.0` for early refresh.
    pub chance: f64,
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    /// Serve the payload.
    Fresh,
    /// Serve the payload and reload it in the background: its TTL is near, and this reader drew
    /// the lot (XFetch, Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", 2015).
    Early,
    /// Serve the payload, which is past its TTL, and reload it in the background.
    Stale,
    /// The row does not exist.
    KnownAbsent,
    /// Ask the database.
    Miss(MissReason),
}

/// Why an entry is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// The key holds nothing.
    Nothing,
    /// The key holds a tombstone.
    Tombstone,
    /// A write is in flight.
    Writing,
    /// The entry is older than what the reader knows of.
    BelowFloor,
    /// Another shape of the struct wrote it, or it is of an earlier epoch: from before the entity was
    /// invalidated as a whole.
    OtherSchema,
    /// It is past its TTL.
    Expired,
    /// The bytes are not an entry, or not the row they claim to be.
    Corrupt,
}

impl MissReason {
    /// The cache holds something that this reader can never use, so that asking for "any value
    /// that arrived meanwhile" would return it again.
    pub(crate) fn wants_replacement(self) -> bool {
        matches!(self, Self::Expired | Self::Corrupt)
    }
}

/// Says what `entry` is good for.
pub fn classify(entry: &Entry, now: Timestamp, policy: &Policy) -> Classification {
    if !entry.claims.writers().is_empty() {
        return Classification::Miss(MissReason::Writing);
    }
    let fresh = entry.fresh_until() > now;
    match entry.kind {
        Kind::Tombstone => Classification::Miss(MissReason::Tombstone),
        _ if entry.version < policy.floor => Classification::Miss(MissReason::BelowFloor),
        Kind::Absent if entry.schema != stamped(NO_SCHEMA, policy.epoch) => {
            Classification::Miss(MissReason::OtherSchema)
        }
        Kind::Absent if fresh => Classification::KnownAbsent,
        Kind::Absent => Classification::Miss(MissReason::Expired),
        Kind::Value if entry.schema != stamped(policy.schema, policy.epoch) => {
            Classification::Miss(MissReason::OtherSchema)
        }
        Kind::Value if fresh && expires_early(entry, now, policy) => Classification::Early,
        Kind::Value if fresh => Classification::Fresh,
        Kind::Value if policy.serve_stale => Classification::Stale,
        Kind::Value => Classification::Miss(MissReason::Expired),
    }
}

/// `now − β · cost · ln(chance) ≥ fresh_until`: the dearer the load and the nearer the end, the
/// likelier.
fn expires_early(entry: &Entry, now: Timestamp, policy: &Policy) -> bool {
    let left_ms = entry.fresh_until().since(now).as_secs_f64() * 1000.0;
    let head_start_ms = -policy.early_refresh * f64::from(entry.load_cost_ms) * policy.chance.ln();
    head_start_ms >= left_ms
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::{Claims, Slot, Token};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn value(span_ms: u64, load_cost_ms: u32) -> Entry {
        Entry {
            kind: Kind::Value,
            version: Version::new(7).unwrap(),
            at: NOW,
            span_ms,
            load_cost_ms,
            schema: 1,
            claims: Claims::None,
            payload: Bytes::new(),
        }
    }

    fn policy() -> Policy {
        Policy {
            schema: 1,
            epoch: 0,
            floor: Version::ZERO,
            serve_stale: false,
            early_refresh: 1.0,
            chance: 0.999,
        }
    }

    #[test]
    fn a_write_in_flight_hides_the_value_even_after_its_time_is_up() {
        let mut entry = value(1000, 1);
        entry.claims = Claims::Writers(vec![Slot {
            token: Token::from_bits(1),
            until: Timestamp::from_millis(1),
        }]);
        assert_eq!(
            classify(&entry, NOW, &policy()),
            Classification::Miss(MissReason::Writing)
        );
    }

    #[test]
    fn a_lease_for_a_refresh_leaves_the_value_readable() {
        let mut entry = value(1000, 1);
        entry.claims = Claims::Lease(Slot {
            token: Token::from_bits(1),
            until: NOW.plus_ms(10),
        });
        assert_eq!(classify(&entry, NOW, &policy()), Classification::Fresh);
    }

    #[test]
    fn the_floor_the_schema_and_the_ttl_each_make_a_miss() {
        let old = Policy {
            floor: Version::new(8).unwrap(),
            ..policy()
        };
        let other = Policy {
            schema: 2,
            ..policy()
        };
        let later = NOW.plus_ms(1000);
        assert_eq!(
            classify(&value(1000, 1), NOW, &old),
            Classification::Miss(MissReason::BelowFloor)
        );
        assert_eq!(
            classify(&value(1000, 1), NOW, &other),
            Classification::Miss(MissReason::OtherSchema)
        );
        assert_eq!(
            classify(&value(1000, 1), later, &policy()),
            Classification::Miss(MissReason::Expired)
        );
    }

    #[test]
    fn an_entry_of_another_epoch_is_a_miss_whatever_it_says() {
        let mut absent = Entry {
            kind: Kind::Absent,
            schema: NO_SCHEMA,
            ..value(1000, 1)
        };
        assert_eq!(
            classify(&absent, NOW, &policy()),
            Classification::KnownAbsent
        );
        let raised = Policy {
            epoch: 1,
            serve_stale: true,
            ..policy()
        };
        let outdated = Classification::Miss(MissReason::OtherSchema);
        assert_eq!(classify(&absent, NOW, &raised), outdated);
        assert_eq!(classify(&value(1000, 1), NOW, &raised), outdated);
        absent.schema = stamped(NO_SCHEMA, 1);
        assert_eq!(classify(&absent, NOW, &raised), Classification::KnownAbsent);
        let current = Entry {
            schema: stamped(1, 1),
            ..value(1000, 1)
        };
        assert_eq!(classify(&current, NOW, &raised), Classification::Fresh);
    }

    #[test]
    fn a_stale_row_is_served_only_if_the_policy_says_so() {
        let later = NOW.plus_ms(1000);
        let serve = Policy {
            serve_stale: true,
            ..policy()
        };
        assert_eq!(
            classify(&value(1000, 1), later, &serve),
            Classification::Stale
        );
    }

    #[test]
    fn a_dear_row_near_its_end_is_refreshed_early_by_an_unlucky_reader_only() {
        let unlucky = Policy {
            chance: 0.000_001,
            ..policy()
        };
        let off = Policy {
            early_refresh: 0.0,
            ..unlucky
        };
        assert_eq!(
            classify(&value(1000, 100), NOW, &unlucky),
            Classification::Early
        );
        assert_eq!(
            classify(&value(1000, 100), NOW, &policy()),
            Classification::Fresh
        );
        assert_eq!(
            classify(&value(1000, 100), NOW, &off),
            Classification::Fresh
        );
    }
}
