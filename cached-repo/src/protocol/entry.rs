//! An entry: what one cache key holds, and its bytes in Redis.
//!
//! ```text
//! 1 V 0000000000000000042 1763715123456 0000600000 0012 9f3a11c2 00 payload…
//! │ │ version             │             │          │    │        └ claims: 00, 01–50 writers, L1
//! │ └ kind V A T          │             │          │    └ schema fingerprint + epoch
//! └ format                │             │          └ duration of the load, ms
//!                         │             └ fresh for (V, A) or floor kept for (T), ms
//!                         └ written at, ms since 1970 by the tier's clock
//! ```
//! The header has 58 bytes (without the spaces). 24 bytes per claim follow: token and deadline.
//! The payload is last.
//!
//! - The entry is text, so that `redis-cli get` is a debugger.
//! - Digits have a fixed width, so that Lua compares versions safely: its numbers lose precision
//!   beyond 2^53, and its `<` on strings follows the locale.
//! - An entry of another format is not an entry for this build: reads miss, and scripts overwrite
//!   it. So processes of two formats do not see each other's writes. A new format needs a new
//!   namespace, or a moment at which no process of the old format runs.
//!
//! Does not know which transitions are allowed; that is [`super::state`].

use std::{fmt, time::Duration};

use bytes::{Buf, Bytes};

use super::{Token, Version};

/// A moment by the tier's clock, in milliseconds since 1970. Redis's for the Redis tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    const MAX_MS: u64 = 9_999_999_999_999;

    /// At most 13 digits, which lasts until the year 2286.
    pub const fn from_millis(ms: u64) -> Self {
        Self(if ms < Self::MAX_MS { ms } else { Self::MAX_MS })
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `ms` later.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// How long `earlier` lies back, zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What an entry says about its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The payload is the row.
    Value,
    /// The row is known not to exist.
    Absent,
    /// A tombstone: nothing may be served, and nothing older than the version stored.
    Tombstone,
}

/// One claim on an entry: a lease, or a write in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Whose claim it is.
    pub token: Token,
    /// When it lapses.
    pub until: Timestamp,
}

/// Who has a claim on an entry. A write revokes a lease and a lease is not granted while a
/// write is in flight, so there are never both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Claims {
    /// Nobody.
    #[default]
    None,
    /// One reader loads the row.
    Lease(Slot),
    /// Writes are in flight, at least one, in at most [`Claims::MAX_WRITERS`] slots.
    Writers(Vec<Slot>),
}

impl Claims {
    /// The most slots on one key. Of more writes, the oldest share one.
    pub const MAX_WRITERS: usize = 50;

    /// The writes in flight.
    pub fn writers(&self) -> &[Slot] {
        match self {
            Self::Writers(writers) => writers,
            Self::None | Self::Lease(_) => &[],
        }
    }

    pub(crate) fn from_writers(writers: Vec<Slot>) -> Self {
        if writers.is_empty() {
            Self::None
        } else {
            Self::Writers(writers)
        }
    }
}

/// What one cache key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What the entry says about its row.
    pub kind: Kind,
    /// The row's version; for a tombstone, the floor below which nothing may be stored.
    pub version: Version,
    /// When this state was written.
    pub at: Timestamp,
    /// How long after `at` the value is fresh, or the floor holds.
    pub span_ms: u64,
    /// How long the load took, for early refresh.
    pub load_cost_ms: u32,
    /// Fingerprint of the shape of the struct that wrote the payload, plus the
    /// [epoch](super::epoch).
    pub schema: u32,
    /// Leases and writes in flight.
    pub claims: Claims,
    /// The sealed row; empty for a tombstone.
    pub payload: Bytes,
}

/// Bytes that are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry: {0}")]
pub struct Malformed(&'static str);

impl Entry {
    /// The layout that this build reads and writes: the first byte of an entry.
    pub const FORMAT: u8 = b'1';
    /// Bytes of the fixed part.
    pub const HEADER_LEN: usize = 58;
    const SLOT_LEN: usize = Token::LEN + 13;
    /// The longest time a value can be fresh: 10 digits of milliseconds, 115 days.
    pub const MAX_SPAN_MS: u64 = 9_999_999_999;
    /// The largest load cost an entry records: 4 digits of milliseconds.
    pub const MAX_COST_MS: u32 = 9_999;

    /// When the value stops being fresh, or the floor lapses.
    pub fn fresh_until(&self) -> Timestamp {
        self.at.plus_ms(self.span_ms)
    }

    /// The entry as Redis stores it.
    pub fn to_bytes(&self) -> Vec<u8> {
        use std::io::Write;
        let slots: &[Slot] = match &self.claims {
            Claims::Lease(slot) => std::slice::from_ref(slot),
            other => other.writers(),
        };
        let mut bytes = Vec::with_capacity(
            Self::HEADER_LEN + slots.len() * Self::SLOT_LEN + self.payload.len(),
        );
        bytes.push(Self::FORMAT);
        bytes.push(match self.kind {
            Kind::Value => b'V',
            Kind::Absent => b'A',
            Kind::Tombstone => b'T',
        });
        // Writing to a Vec cannot fail.
        let _ = write!(
            bytes,
            "{:019}{:013}{:010}{:04}{:08x}",
            self.version.get(),
            self.at.as_millis(),
            self.span_ms.min(Self::MAX_SPAN_MS),
            self.load_cost_ms.min(Self::MAX_COST_MS),
            self.schema,
        );
        let _ = match &self.claims {
            Claims::Lease(_) => write!(bytes, "L1"),
            _ => write!(bytes, "{:02}", slots.len()),
        };
        for slot in slots {
            bytes.extend_from_slice(slot.token.as_bytes());
            let _ = write!(bytes, "{:013}", slot.until.as_millis());
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads an entry back; the payload shares `bytes`.
    ///
    /// # Errors
    /// When the bytes are not an entry. Never panics, whatever the bytes are.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, Malformed> {
        bytes.clone().try_into()
    }
}

/// Reads an entry back; the payload is what is left of the bytes, which need not be shared for it.
impl TryFrom<Bytes> for Entry {
    type Error = Malformed;

    /// Never panics, whatever the bytes are.
    fn try_from(mut bytes: Bytes) -> Result<Self, Malformed> {
        let header: &[u8; Self::HEADER_LEN] = bytes
            .first_chunk()
            .ok_or(Malformed("shorter than a header"))?;
        if header[0] != Self::FORMAT {
            return Err(Malformed("another format"));
        }
        let kind = match header[1] {
            b'V' => Kind::Value,
            b'A' => Kind::Absent,
            b'T' => Kind::Tombstone,
            _ => return Err(Malformed("unknown kind")),
        };
        let version = Version::new(digits(&header[2..21])?).ok_or(Malformed("version"))?;
        let at = Timestamp::from_millis(digits(&header[21..34])?);
        let span_ms = digits(&header[34..44])?;
        let load_cost_ms =
            u32::try_from(digits(&header[44..48])?).map_err(|_| Malformed("cost"))?;
        let schema = header[48..56].iter().try_fold(0, |number, byte| {
            let digit = char::from(*byte).to_digit(16).ok_or(Malformed("schema"))?;
            Ok(number << 4 | digit)
        })?;

        let (leased, count) = match &header[56..58] {
            b"L1" => (true, 1),
            count => (false, digits(count)? as usize),
        };
        if count > Claims::MAX_WRITERS {
            return Err(Malformed("too many claims"));
        }
        let end = Self::HEADER_LEN + count * Self::SLOT_LEN;
        let slots = bytes
            .get(Self::HEADER_LEN..end)
            .ok_or(Malformed("claims cut short"))?;
        let mut slots = slots.chunks_exact(Self::SLOT_LEN).map(|slot| {
            let (token, until) = slot.split_first_chunk().ok_or(Malformed("claim"))?;
            Ok(Slot {
                token: Token::from_bytes(*token),
                until: Timestamp::from_millis(digits(until)?),
            })
        });
        let claims = if leased {
            slots
                .next()
                .transpose()?
                .map_or(Claims::None, Claims::Lease)
        } else {
            Claims::from_writers(slots.collect::<Result<_, _>>()?)
        };
        bytes.advance(end);
        Ok(Self {
            kind,
            version,
            at,
            span_ms,
            load_cost_ms,
            schema,
            claims,
            payload: bytes,
        })
    }
}

/// A number of fixed width, at most 19 digits and nothing else: `str::parse` would accept a sign.
/// Looks at the digits at once and not one by one: every hit reads five numbers.
#[inline]
fn digits(text: &[u8]) -> Result<u64, Malformed> {
    let (mut number, mut wrong) = (0u64, false);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        wrong |= digit > 9;
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    if wrong {
        Err(Malformed("a digit was expected"))
    } else {
        Ok(number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::Absent => "absent",
            Self::Tombstone => "tombstone",
        })
    }
}
