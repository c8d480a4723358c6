//! Names that no other test has.

use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// PostgreSQL cuts identifiers at 63 bytes; this much of the prefix leaves room for the suffix.
const PREFIX_BYTES: usize = 24;

/// A lower-case identifier that is unique to this process and call: a database name, a cache
/// namespace.
///
/// ```
/// use cached_repo_harness::unique;
/// let (one, other) = (unique("Shop-1"), unique("Shop-1"));
/// assert!(one.starts_with("shop_1_"));
/// assert_ne!(one, other);
/// ```
#[must_use]
pub fn unique(prefix: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let prefix: String = prefix
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(PREFIX_BYTES)
        .collect();
    format!(
        "{prefix}_{:x}_{:x}_{call:x}",
        process::id(),
        process_start_micros()
    )
}

/// A process id alone may come again within one test run, where every test is a process.
fn process_start_micros() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    *START.get_or_init(|| {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since_epoch.as_micros()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever the prefix, the name fits PostgreSQL's 63 bytes and needs no quoting.
    #[test]
    fn a_long_or_odd_prefix_still_gives_an_identifier() {
        let name = unique("A prefix, with Ünicode, that is longer than any identifier may ever be");
        assert!(name.len() <= 63, "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
            "{name}"
        );
    }
}
