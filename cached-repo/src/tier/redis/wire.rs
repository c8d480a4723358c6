//! How requests become script arguments, and script replies become answers.
//!
//! Says nothing about connections; the differential test speaks through it too.

use std::collections::HashMap;

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, FromRedisValue, ParsingError, Value as Reply};

use crate::{
    protocol::{
        Entry, Slot, Timestamp, Token, Version,
        epoch::{EntityEpoch, EpochChange, EpochReply, EpochRequest, Epochs},
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
            .arg(want)
            .arg(format!("{:08x}", self.schemas.value))
            .arg(format!("{:08x}", self.schemas.absence));
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

/// How long a table of epochs lasts after the last half of this time in which nobody asked for it.
const EPOCHS_LAST_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// The message that any row may have changed; no key has this text.
pub const ALL: &str = "*";

impl Arguments for Announced<'_, EpochRequest> {
    fn push(&self, cmd: &mut Cmd) {
        let request = self.request;
        let none = Token::SHARED;
        let (change, token, block_ms) = match &request.change {
            EpochChange::Read => ("read", &none, 0),
            EpochChange::Raise => ("raise", &none, 0),
            EpochChange::Block { token, block_ms } => ("block", token, *block_ms),
            EpochChange::End { token } => ("end", token, 0),
            EpochChange::Release { token } => ("release", token, 0),
        };
        cmd.arg(format!("{:08x}", request.base))
            .arg(change)
            .arg(token.as_bytes())
            .arg(block_ms)
            .arg(EPOCHS_LAST_MS)
            .arg(self.channel)
            .arg(ALL);
        for entity in &request.entities {
            cmd.arg(&**entity);
        }
    }
}

/// What the script of epochs replies.
#[derive(Debug)]
pub struct EpochAnswer(pub EpochReply);

impl FromRedisValue for EpochAnswer {
    fn from_redis_value(reply: Reply) -> Result<Self, ParsingError> {
        let (now, raised, fields): (u64, u8, HashMap<String, String>) =
            FromRedisValue::from_redis_value(reply)?;
        let mut epochs = Epochs::default();
        for (name, text) in fields {
            match name.as_str() {
                "#base" => epochs.base = hex(&text)?,
                // A later release's.
                other if other.starts_with('#') => {}
                _ => {
                    epochs.entities.insert(name.into(), entity_epoch(&text)?);
                }
            }
        }
        Ok(Self(EpochReply {
            now: Timestamp::from_millis(now),
            raised: raised > 0,
            epochs,
        }))
    }
}

const NO_EPOCH: &str = "a table of epochs was expected";

fn hex(digits: &str) -> Result<u32, ParsingError> {
    u32::from_str_radix(digits, 16).map_err(|_| NO_EPOCH.into())
}

fn entity_epoch(text: &str) -> Result<EntityEpoch, ParsingError> {
    let (raised, mut rest) = text.split_at_checked(8).ok_or(NO_EPOCH)?;
    let raised = hex(raised)?;
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (token, after) = rest
            .as_bytes()
            .split_first_chunk::<{ Token::LEN }>()
            .ok_or(NO_EPOCH)?;
        let after = std::str::from_utf8(after).map_err(|_| NO_EPOCH)?;
        let (until, after) = after.split_at_checked(13).ok_or(NO_EPOCH)?;
        blocks.push(Slot {
            token: Token::from_bytes(*token),
            until: Timestamp::from_millis(until.parse().map_err(|_| NO_EPOCH)?),
        });
        rest = after;
    }
    Ok(EntityEpoch { raised, blocks })
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
