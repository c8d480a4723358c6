//! How requests become script arguments, and script replies become answers.
//!
//! Says nothing about connections; the differential test speaks through it too.

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, FromRedisValue, ParsingError, Value as Reply};

use crate::{
    protocol::{
        Entry, Timestamp, Version,
        state::{
            Block, Done, Fill, Filled, Lease, Leased, Loaded, Outcome, Published, Value, Want,
        },
    },
    tier::TierError,
};

/// A request as the arguments of its script, after the key.
pub trait Arguments {
    /// Appends them.
    fn push(&self, cmd: &mut Cmd);
}

impl Arguments for Lease {
    fn push(&self, cmd: &mut Cmd) {
        let want = match self.want {
            Want::Value => "value",
            Want::Refresh => "refresh",
        };
        cmd.arg(self.token.as_bytes())
            .arg(self.lease_ms)
            .arg(&version(self.floor))
            .arg(want);
    }
}

impl Arguments for Fill {
    fn push(&self, cmd: &mut Cmd) {
        let nothing = Value::default();
        let (kind, floor, value) = match &self.loaded {
            Loaded::Row { version, value } => ("V", *version, value),
            Loaded::Absent(value) => ("A", Version::ZERO, value),
            Loaded::Nothing => ("N", Version::ZERO, &nothing),
        };
        cmd.arg(self.token.as_bytes())
            .arg(kind)
            .arg(&version(floor));
        push_value(cmd, value);
    }
}

/// A request whose script tells `channel` that the row may have changed; nobody if that is empty.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a, R> {
    /// What is asked for.
    pub request: &'a R,
    /// Where near caches listen.
    pub channel: &'a str,
}

impl Arguments for Announced<'_, Block> {
    fn push(&self, cmd: &mut Cmd) {
        let request = self.request;
        cmd.arg(request.token.as_bytes())
            .arg(request.block_ms)
            .arg(request.tombstone_ms)
            .arg(self.channel);
    }
}

impl Arguments for Announced<'_, Done> {
    fn push(&self, cmd: &mut Cmd) {
        let request = self.request;
        let (outcome, number, value) = match &request.outcome {
            Outcome::RolledBack => ("R", Version::ZERO, None),
            Outcome::Put {
                version,
                inserted: false,
                value,
            } => ("U", *version, Some(value)),
            Outcome::Put {
                version,
                inserted: true,
                value,
            } => ("C", *version, Some(value)),
            Outcome::Invalidate { floor } => ("I", *floor, None),
        };
        cmd.arg(request.token.as_bytes())
            .arg(request.tombstone_ms)
            .arg(outcome)
            .arg(&version(number))
            .arg(self.channel);
        if let Some(value) = value {
            push_value(cmd, value);
        }
    }
}

fn version(version: Version) -> [u8; 19] {
    digits(version.get())
}

/// The last digits of a number, with zeros before it.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

fn push_value(cmd: &mut Cmd, value: &Value) {
    let cost = value.load_cost_ms.min(Entry::MAX_COST_MS);
    cmd.arg(value.fresh_ms.min(Entry::MAX_SPAN_MS))
        .arg(&digits::<4>(cost.into()))
        .arg(format!("{:08x}", value.schema))
        .arg(value.ttl_ms)
        .arg(&value.payload[..]);
}

/// What a script replies: a word, the server's time, sometimes an entry.
#[derive(Debug)]
pub struct Answer {
    word: String,
    now: Timestamp,
    entry: Option<Bytes>,
}

impl Answer {
    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The reply to a [`Lease`].
    ///
    /// # Errors
    /// When it is none.
    pub fn leased(self) -> Result<Leased, TierError> {
        match (self.word.as_str(), &self.entry) {
            ("granted", _) => Ok(Leased::Granted),
            ("wait", _) => Ok(Leased::Wait),
            ("blocked", _) => Ok(Leased::Blocked),
            ("hit", Some(bytes)) => match Entry::from_bytes(bytes) {
                Ok(entry) => Ok(Leased::Hit(entry)),
                Err(error) => Err(TierError::Failed(error.to_string())),
            },
            _ => Err(self.unexpected()),
        }
    }

    /// The reply to a [`Fill`].
    ///
    /// # Errors
    /// When it is none.
    pub fn filled(self) -> Result<Filled, TierError> {
        match self.word.as_str() {
            "stored" => Ok(Filled::Stored),
            "released" => Ok(Filled::Released),
            "lease lost" => Ok(Filled::LeaseLost),
            "below floor" => Ok(Filled::BelowFloor),
            _ => Err(self.unexpected()),
        }
    }

    /// The reply to a [`Block`].
    ///
    /// # Errors
    /// When it is none.
    pub fn blocked(self) -> Result<(), TierError> {
        match self.word.as_str() {
            "placed" => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// The reply to a [`Done`].
    ///
    /// # Errors
    /// When it is none.
    pub fn published(self) -> Result<Published, TierError> {
        match self.word.as_str() {
            "rolled back" => Ok(Published::RolledBack),
            "put" => Ok(Published::Put),
            "superseded" => Ok(Published::Superseded),
            "invalidated" => Ok(Published::Invalidated),
            _ => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> TierError {
        TierError::Failed(format!("unexpected reply `{}`", self.word))
    }
}

impl FromRedisValue for Answer {
    fn from_redis_value(reply: Reply) -> Result<Self, ParsingError> {
        let Reply::Array(parts) = reply else {
            return Err("a script replies with an array".into());
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil);
        let word = String::from_redis_value(next())?;
        let now = Timestamp::from_millis(u64::from_redis_value(next())?);
        let Raw(entry) = Raw::from_redis_value(next())?;
        Ok(Self { word, now, entry })
    }
}

/// A bulk string, not copied; `None` for nil.
#[derive(Clone, Debug)]
pub struct Raw(pub Option<Bytes>);

impl Raw {
    /// Leaves nil behind.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}

impl FromRedisValue for Raw {
    fn from_redis_value(reply: Reply) -> Result<Self, ParsingError> {
        match reply {
            Reply::Nil => Ok(Self(None)),
            Reply::BulkString(bytes) => Ok(Self(Some(bytes.into()))),
            _ => Err("a bulk string was expected".into()),
        }
    }
}
