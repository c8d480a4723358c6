//! What is counted, and under which names.
//!
//! Invariants:
//! - Every counter and its name is declared here, once.
//! - Counters and maxima only grow; a snapshot is not atomic across them.
//! - A gauge goes up and down, and is read where it lives when a snapshot is taken.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The largest of some numbers.
#[derive(Debug, Default)]
pub(crate) struct Maximum(AtomicU64);

impl Maximum {
    pub(crate) fn raise(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    (
        $(#[$doc:meta])* $live:ident, $snapshot:ident {
            $($(#[$field_doc:meta])* $field:ident,)*
        }
        $(maxima { $($(#[$max_doc:meta])* $max:ident,)* })?
        $(gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)* })?
    ) => {
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $field: Counter,)*
            $($(pub(crate) $max: Maximum,)*)?
        }

        impl $live {
            /// The counters and maxima; gauges are zero.
            pub(crate) fn snapshot(&self) -> $snapshot {
                $snapshot {
                    $($field: self.$field.get(),)*
                    $($($max: self.$max.get(),)*)?
                    $($($gauge: 0,)*)?
                }
            }
        }

        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[$field_doc])* pub $field: u64,)*
            $($($(#[$max_doc])* pub $max: u64,)*)?
            $($($(#[$gauge_doc])* pub $gauge: u64,)*)?
        }

        impl $snapshot {
            /// Every number with its name, for exporting.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [
                    $((stringify!($field), self.$field),)*
                    $($((stringify!($max), self.$max),)*)?
                    $($((stringify!($gauge), self.$gauge),)*)?
                ]
                .into_iter()
            }
        }

        impl std::ops::Add for $snapshot {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self {
                    $($field: self.$field + other.$field,)*
                    $($($max: self.$max.max(other.$max),)*)?
                    $($($gauge: self.$gauge + other.$gauge,)*)?
                }
            }
        }
    };
}

counters! {
    /// What the repositories of an entity have done since the [`CachedDb`](crate::CachedDb) was
    /// built.
    EntityStats, Stats {
        /// Reads served from the near cache, known absences included.
        near_hits,
        /// Reads served from the shared tier within the TTL, known absences included.
        shared_hits,
        /// Of both, reads that found the row known to be absent.
        absent_hits,
        /// Reads served from the shared tier past the TTL, while the row was reloaded.
        stale_hits,
        /// Reads that found nothing they could use in the cache.
        misses,
        /// Of these, misses because a write was in flight.
        misses_writing,
        /// Of these, misses because another shape of the struct wrote the entry, or it is from before
        /// the entity was invalidated as a whole.
        misses_other_schema,
        /// Of these, misses because the entry was corrupt or not ours.
        misses_corrupt,
        /// Reads that went past the cache: it failed, or it could not be trusted.
        bypasses,
        /// Reads that shared a load another caller had started.
        joined,
        /// Lookups, by unique or index columns, whose index entry was found in the cache.
        index_hits,
        /// Lookups whose index entry was not.
        index_misses,
        /// Lookups whose index entry led to a row that no longer matches, and were loaded again.
        index_outdated,
        /// Lookups by an index that found more rows than are kept.
        lists_too_long,
        /// Lists and absences that were not stored because the database may call other values equal,
        /// which have other keys; see [which lookups are cached](crate#which-lookups-are-cached).
        lookups_uncached,
        /// Unique lookups that found several rows. They give the one with the least primary key, and are
        /// not cached.
        lookups_ambiguous,
        /// SELECT statements that loaded rows.
        loads,
        /// Loads that failed.
        load_errors,
        /// Loads that were turned away because too many were under way; see
        /// [`Config::max_loads`](crate::Config::max_loads).
        loads_refused,
        /// Times a load waited for another process's lease.
        lease_waits,
        /// Rows and absences stored by a load.
        fills,
        /// Loads whose result was not stored because a write or a newer row came between.
        fills_refused,
        /// Rows and index entries that were not stored because they could not be encoded.
        encode_errors,
        /// Rows reloaded in the background, before or after their TTL.
        refreshes,
        /// Writes that committed.
        writes,
        /// Writes refused by the version check.
        conflicts,
        /// Changes tried again after a conflict.
        retries,
        /// Rows that a write stored in the cache.
        puts,
        /// Entries that a write or a caller invalidated; all entries of an entity at once count as one.
        invalidations,
        /// Times the cache did not acknowledge a change, whose invalidation was queued; see
        /// [`pending_invalidations`](Self::pending_invalidations).
        unpublished,
        /// Hits that the auditor compared with the database, see
        /// [`Config::audit_rate`](crate::Config::audit_rate).
        audit_checked,
        /// Of these, hits that differed from the database while a write passed by: the cache no
        /// longer served them when the auditor looked again.
        audit_in_motion,
        /// Of these, hits that were stale: the cache still served them after the database had
        /// shown another state.
        audit_stale,
        /// Stale entries behind these hits; one may be hit many times.
        audit_stale_entries,
        /// Hits that were drawn and not compared, because too many audits were under way, or
        /// because the row has no version and its bytes differ each time it is encoded.
        audit_skipped,
        /// Hits that were drawn and not compared, because the database or the cache failed.
        audit_failed,
        /// How long stale entries were seen to be stale, all together, in milliseconds: from the
        /// SELECT that showed another state until the cache no longer served them, or until now.
        audit_staleness_ms,
    }
    maxima {
        /// The longest that a stale entry was seen to be stale, in milliseconds. When it began,
        /// nobody saw: it is too short by at most the time from the write to the first hit that
        /// was drawn.
        audit_staleness_max_ms,
        /// The oldest that a stale entry was seen to be, in milliseconds since it was stored: no
        /// stale entry that was found had been stale for longer, save for the load that stored it.
        audit_age_max_ms,
    }
    gauges {
        /// Invalidations that are queued until the cache is back, now; an entity that is queued as
        /// a whole counts as one.
        pending_invalidations,
    }
}

impl Stats {
    /// The share of reads served from the cache, between 0 and 1; 0 without any reads.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let hits = self.near_hits + self.shared_hits + self.stale_hits;
        let reads = hits + self.misses + self.bypasses;
        if reads == 0 {
            0.0
        } else {
            hits as f64 / reads as f64
        }
    }
}

counters! {
    /// How the connection to the shared tier has fared.
    TierStats, ConnectionStats {
        /// Operations that got no reply in time.
        timeouts,
        /// Operations that failed at once because there was no connection.
        unavailable,
        /// Reads that did not wait because too many did already; see
        /// [`Config::max_queued_reads`](crate::Config::max_queued_reads).
        overloaded,
        /// Operations that the server refused, or whose connection broke.
        failures,
        /// Connections that broke and were replaced.
        reconnects,
    }
}
