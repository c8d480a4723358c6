//! What is counted, and under which names.
//!
//! Invariants:
//! - Every counter and its name is declared here, once.
//! - Counters only grow; a snapshot is not atomic across counters.

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

macro_rules! counters {
    (
        $(#[$doc:meta])* $live:ident, $snapshot:ident {
            $($(#[$field_doc:meta])* $field:ident,)*
        }
    ) => {
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $field: Counter,)*
        }

        impl $live {
            pub(crate) fn snapshot(&self) -> $snapshot {
                $snapshot { $($field: self.$field.get(),)* }
            }
        }

        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $snapshot {
            /// Every counter with its name, for exporting.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }

        impl std::ops::Add for $snapshot {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field,)* }
            }
        }
    };
}

counters! {
    /// What the repositories of an entity have done since the [`CachedDb`](crate::CachedDb) was
    /// built.
    EntityStats, Stats {
        /// Reads served from the shared tier within the TTL, known absences included.
        shared_hits,
        /// Of these, reads that found the row known to be absent.
        absent_hits,
        /// Reads served from the shared tier past the TTL, while the row was reloaded.
        stale_hits,
        /// Reads that found nothing they could use in the cache.
        misses,
        /// Of these, misses because a write was in flight.
        misses_writing,
        /// Of these, misses because another shape of the struct wrote the entry.
        misses_other_schema,
        /// Of these, misses because the entry was corrupt or not ours.
        misses_corrupt,
        /// Reads that went past the cache: it failed, or it could not be trusted.
        bypasses,
        /// Reads that shared a load another caller had started.
        joined,
        /// Searches, by a unique column or an index, whose keys were found in the cache.
        hint_hits,
        /// Searches whose keys were not.
        hint_misses,
        /// Searches whose keys led to a row that is no longer found so, and were made again.
        hints_outdated,
        /// Searches by an index that found more rows than are kept.
        lists_too_long,
        /// SELECT statements that loaded rows.
        loads,
        /// Loads that failed.
        load_errors,
        /// Times a load waited for another process's lease.
        lease_waits,
        /// Rows and absences stored by a load.
        fills,
        /// Loads whose result was not stored because a write or a newer row came between.
        fills_refused,
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
        /// Entries that a write or a caller invalidated.
        invalidations,
        /// Times the cache could not be told of a change, which is owed to it since; see
        /// [`CachedDb::pending_invalidations`](crate::CachedDb::pending_invalidations).
        unpublished,
    }
}

impl Stats {
    /// The share of reads served from the cache, between 0 and 1; 0 without any reads.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let hits = self.shared_hits + self.stale_hits;
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
        /// Operations that the server refused, or whose connection broke.
        failures,
        /// Connections that broke and were replaced.
        reconnects,
    }
}
