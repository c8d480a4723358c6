//! The version of a row, as entries store it.

use std::fmt;

/// The version of a row: what orders two states of it.
///
/// At most 19 decimal digits, the width of an entry's version field; that is every `i64`, and
/// every `u64` a counter will ever reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// No known version; nothing is older.
    pub const ZERO: Self = Self(0);
    const MAX: u64 = 9_999_999_999_999_999_999;

    /// `None` if the number has more than 19 digits.
    #[must_use]
    pub const fn new(version: u64) -> Option<Self> {
        if version <= Self::MAX {
            Some(Self(version))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after this one: the floor that a delete leaves behind.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        if self.0 < Self::MAX {
            Self(self.0 + 1)
        } else {
            self
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
