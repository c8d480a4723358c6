//! Tokens: who holds a lease or has a write in flight.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Names one attempt to load or to write. A new one for every attempt: a token that outlives its
/// attempt would let a late reply claim a lease that is no longer its own.
///
/// Eleven characters of `A–Z a–z 0–9 - _`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Token::LEN]);

impl Token {
    /// Bytes of a token in an entry.
    pub const LEN: usize = 11;

    /// What the token of a write ends with that may no longer put its row; no digit of
    /// [`from_bits`](Self::from_bits).
    const VOID: u8 = b'*';

    /// The token of the slot that several writes share. No attempt has it, so none takes the slot off.
    pub const SHARED: Self = Self([Self::VOID; Self::LEN]);

    /// A token that no other attempt has: 64 bits of a counter under a SipHash key that the
    /// operating system drew for this process.
    pub fn fresh() -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static ATTEMPT: AtomicU64 = AtomicU64::new(0);
        Self::from_bits(KEY.hash_one(ATTEMPT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The token that spells `bits`.
    pub fn from_bits(bits: u64) -> Self {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = [0; Self::LEN];
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (6 * at)) as usize & 63];
        }
        Self(text)
    }

    /// The token of the same attempt, once it may no longer put its row.
    #[must_use]
    pub fn voided(mut self) -> Self {
        self.0[Self::LEN - 1] = Self::VOID;
        self
    }

    /// Whether its attempt may no longer put its row.
    pub(crate) fn is_void(&self) -> bool {
        self.0[Self::LEN - 1] == Self::VOID
    }

    /// Whether it is this attempt's, void or not.
    pub(crate) fn is_of(&self, attempt: &Self) -> bool {
        self == attempt || *self == attempt.voided()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The token as an entry holds it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0.escape_ascii())
    }
}
