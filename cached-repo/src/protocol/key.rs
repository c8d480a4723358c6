//! The text of a cache key.
//!
//! `namespace:entity:id`, or `namespace:entity:columns:values` for an index entry;
//! the columns of a composite key are joined by commas. Every part is percent-encoded down to
//! letters, digits and `-_.~@`, so that no user value can forge a separator, another key, or the
//! `{…}` that moves a key to another Cluster slot. A text of more than 200 bytes ends in a 128-bit
//! hash instead of its tail, behind a `#`, which no shorter key contains; so does a name of more than
//! 64, which keeps what all keys of an entity start with whole.
//!
//! Does not know what a row is.

use std::{borrow::Borrow, fmt, sync::Arc};

use arrayvec::ArrayString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sea_orm::sea_query::{IntoValueTuple, Value, ValueTuple};
use sha2::{Digest, Sha256};

use super::spelling::{self, Dialect};

#[cfg(feature = "redis")]
use super::Entry;

const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'@');
/// The longest key text, in bytes.
const MAX_LEN: usize = 200;
/// The longest namespace or entity name in a key, in bytes: two of them leave room for an id.
const MAX_NAME_LEN: usize = 64;
/// The longest text that a key holds itself, in bytes: what makes a key as large as a cache line.
const INLINE_LEN: usize = 48;
/// `#` and 32 hex digits.
const HASH_LEN: usize = 33;

/// The key of one entry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    text: Text,
    /// CRC-32 of the whole text, also of what the hash of a long key stands for.
    fingerprint: u32,
}

impl Key {
    /// The text, as Redis knows it.
    pub fn as_str(&self) -> &str {
        match &self.text {
            Text::Inline(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// Whether it is the key of an index entry rather than of a row. For a key that was cut to a hash
    /// the answer may be no.
    #[cfg(feature = "redis")]
    pub(crate) fn is_index(&self) -> bool {
        self.as_str().bytes().filter(|byte| *byte == b':').count() > 2
    }

    /// Seeds the checksum of what is stored under this key.
    pub(crate) fn fingerprint(&self) -> u32 {
        self.fingerprint
    }
}

/// Most keys are short: they take no allocation, and no count of who shares it. A text is always
/// held the same way, so that equal keys are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    Inline(ArrayString<INLINE_LEN>),
    Shared(Arc<str>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The keys of one entity.
#[derive(Clone, Debug)]
pub struct KeySpace {
    prefix: Arc<str>,
    dialect: Dialect,
}

impl KeySpace {
    /// The keys of `entity` in `namespace`, whose values are as they are written.
    pub fn new(namespace: &str, entity: &str) -> Self {
        Self {
            prefix: format!("{}:{}:", name(namespace), name(entity)).into(),
            dialect: Dialect::Written,
        }
    }

    /// The same with one key for all values that the database calls equal.
    #[must_use]
    pub fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// What every key of the entity starts with; nothing else does.
    pub fn prefix(&self) -> &Arc<str> {
        &self.prefix
    }

    /// The key of the row with this primary key.
    pub fn row(&self, id: impl IntoValueTuple) -> Key {
        self.row_of(&id.into_value_tuple())
    }

    /// The same, of a primary key that is kept.
    pub(crate) fn row_of(&self, id: &ValueTuple) -> Key {
        key(&self.prefix, self.dialect, id.iter())
    }

    /// The keys of the index entries of these columns, of rows that meet a condition. Another
    /// condition has other keys, and so has none.
    pub fn lookup<'a>(
        &self,
        columns: impl IntoIterator<Item = &'a str>,
        condition: Option<&str>,
    ) -> LookupSpace {
        let mut prefix = self.prefix.to_string();
        for (at, column) in columns.into_iter().enumerate() {
            if at > 0 {
                prefix.push(',');
            }
            prefix.extend(utf8_percent_encode(column, PLAIN));
        }
        if let Some(condition) = condition {
            // No encoded column contains it.
            prefix.push('?');
            prefix.push_str(&name(condition));
        }
        prefix.push(':');
        LookupSpace {
            prefix: prefix.into(),
            dialect: self.dialect,
        }
    }
}

/// The channel on which processes that share a namespace and a format tell each other which rows
/// may have changed. Redis keeps channels apart from keys, so no key can have this name.
#[cfg(feature = "redis")]
pub(crate) fn channel(namespace: &str) -> String {
    format!("{}:changed:{}", name(namespace), char::from(Entry::FORMAT))
}

/// The key that says which database a namespace is for. No entity has a name that starts with `#`.
#[cfg(feature = "redis")]
pub(crate) fn owner(namespace: &str) -> String {
    format!("{}:#database", name(namespace))
}

/// The key of the epochs of a namespace.
#[cfg(feature = "redis")]
pub(crate) fn epochs(namespace: &str) -> String {
    format!("{}:#epochs", name(namespace))
}

/// A namespace or the name of an entity, as part of a key.
fn name(text: &str) -> String {
    shortened(utf8_percent_encode(text, PLAIN).to_string(), MAX_NAME_LEN)
}

/// The keys of one lookup of an entity.
#[derive(Clone, Debug)]
pub struct LookupSpace {
    prefix: Arc<str>,
    dialect: Dialect,
}

impl LookupSpace {
    /// The key of what these values find.
    pub fn key(&self, values: impl IntoIterator<Item = Value>) -> Key {
        key(&self.prefix, self.dialect, values)
    }
}

/// What comes before the values, and the values.
fn key(
    prefix: &str,
    dialect: Dialect,
    values: impl IntoIterator<Item = impl Borrow<Value>>,
) -> Key {
    let mut draft = Draft::default();
    draft.push(prefix);
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            draft.push(",");
        }
        push_value(&mut draft, value.borrow(), dialect);
    }
    let Draft { short, long } = draft;
    if long.is_empty() {
        return Key {
            fingerprint: crc32fast::hash(short.as_bytes()),
            text: Text::Inline(short),
        };
    }
    Key {
        fingerprint: crc32fast::hash(long.as_bytes()),
        text: Text::Shared(shortened(long, MAX_LEN).into()),
    }
}

/// The whole text of a key, while it is put together.
#[derive(Default)]
struct Draft {
    short: ArrayString<INLINE_LEN>,
    /// All of it, if `short` cannot hold it.
    long: String,
}

impl Draft {
    fn push(&mut self, part: &str) {
        if self.long.is_empty() {
            if self.short.try_push_str(part).is_ok() {
                return;
            }
            self.long.push_str(&self.short);
        }
        self.long.push_str(part);
    }

    fn push_encoded(&mut self, value: &str) {
        utf8_percent_encode(value, PLAIN).for_each(|part| self.push(part));
    }
}

/// Appends one column's value. `!` stands for SQL NULL: no encoded value contains it.
fn push_value(text: &mut Draft, value: &Value, dialect: Dialect) {
    let mut digits = itoa::Buffer::new();
    let number = match *value {
        Value::TinyInt(Some(v)) => digits.format(v),
        Value::SmallInt(Some(v)) => digits.format(v),
        Value::Int(Some(v)) => digits.format(v),
        Value::BigInt(Some(v)) => digits.format(v),
        Value::TinyUnsigned(Some(v)) => digits.format(v),
        Value::SmallUnsigned(Some(v)) => digits.format(v),
        Value::Unsigned(Some(v)) => digits.format(v),
        Value::BigUnsigned(Some(v)) => digits.format(v),
        Value::String(Some(ref v)) => return text.push_encoded(v),
        ref other => {
            return match spelling::text(other, dialect) {
                Some(spelling) => text.push_encoded(&spelling),
                None => text.push("!"),
            };
        }
    };
    text.push(number);
}

/// Replaces the tail of a percent-encoded text that is too long by a hash of the whole.
fn shortened(text: String, max_len: usize) -> String {
    use fmt::Write;
    if text.len() <= max_len {
        return text;
    }
    let hash = Sha256::digest(text.as_bytes());
    // All of it is ASCII by now, so any cut is a character boundary.
    let mut short = text;
    short.truncate(max_len - HASH_LEN);
    short.push('#');
    for byte in &hash[..16] {
        // Writing to a String cannot fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn space() -> KeySpace {
        KeySpace::new("shop", "user")
    }

    #[test]
    fn keys_read_like_what_they_name() {
        assert_eq!(space().row(42i64).as_str(), "shop:user:42");
        assert_eq!(space().row(("de", 7)).as_str(), "shop:user:de,7");
        assert_eq!(
            space().row("ada@example.com").as_str(),
            "shop:user:ada@example.com"
        );
    }

    /// Goal: a row's key is never taken for one under which no row is kept, whatever its value.
    #[cfg(feature = "redis")]
    #[test]
    fn the_key_of_a_row_is_not_that_of_an_index_entry() {
        for id in ["a:b:c:d", "", &":".repeat(300)] {
            assert!(!space().row(id).is_index());
            assert!(!KeySpace::new("a:b:c", "d:e").row((id, id)).is_index());
        }
        let by_email = space().lookup(["email"], None).key(["ada".into()]);
        assert!(by_email.is_index());
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_channel_carries_the_format() {
        assert_eq!(channel("shop"), "shop:changed:1");
    }

    #[test]
    fn no_value_can_forge_another_key() {
        let hostile = [
            ("a,b", "c"),
            ("a", "b,c"),
            ("a%2Cb", "c"),
            ("", "a,b"),
            ("a:b", "c"),
            ("{a}", "c"),
            ("!", ""),
            ("", "!"),
            ("#", "a"),
            ("a\0", "b"),
            ("NULL", "x"),
            ("ä", "ö"),
            ("a b", "*"),
        ];
        let keys: HashSet<_> = hostile.iter().map(|&id| space().row(id)).collect();
        assert_eq!(keys.len(), hostile.len());
        for key in keys {
            let id = key.as_str().strip_prefix("shop:user:").unwrap();
            assert_eq!(id.matches(',').count(), 1, "{key}");
            assert!(!id.contains([':', '{', '}', '*', ' ', '#', '!']), "{key}");
        }
        assert_ne!(
            KeySpace::new("a:b", "c").prefix(),
            KeySpace::new("a", "b:c").prefix()
        );
    }

    #[test]
    fn no_lookup_is_taken_for_a_row_or_for_another_lookup() {
        let by = |columns: &[&'static str]| space().lookup(columns.iter().copied(), None);
        let text = |value: &str| [Value::from(value)];
        assert_eq!(
            by(&["mail"]).key(text("ada@example.com")).as_str(),
            "shop:user:mail:ada@example.com"
        );
        let pair = [Value::from("a"), Value::from(7)];
        let both = by(&["a", "b"]).key(pair);
        assert_eq!(both.as_str(), "shop:user:a,b:a,7");
        assert_ne!(both, by(&["a,b"]).key(text("a,7")));
        assert_ne!(by(&["mail"]).key(text("x")), space().row("mail:x"));
        assert_ne!(
            by(&["mail"]).key([Value::String(None)]),
            by(&["mail"]).key(text("!"))
        );
        let key = by(&["mail"]).key(text("x"));
        assert!(key.as_str().starts_with(&**space().prefix()), "{key}");
    }

    /// Goal: entries of a lookup with another condition, or without one, are not read.
    #[test]
    fn a_condition_has_keys_of_its_own() {
        fn by(condition: Option<&str>) -> Key {
            let space = space().lookup(["mail"], condition);
            space.key([Value::from("x")])
        }
        let alive = by(Some("deleted_at IS NULL"));
        assert_eq!(alive.as_str(), "shop:user:mail?deleted_at%20IS%20NULL:x");
        assert_ne!(alive, by(None));
        let long = |end: &str| by(Some(&format!("{}{end}", "a AND ".repeat(50))));
        assert_ne!(long("b"), long("c"));
        assert_ne!(
            alive,
            space()
                .lookup(["mail?deleted_at IS NULL"], None)
                .key([Value::from("x")])
        );
    }

    #[test]
    fn null_is_not_the_text_null() {
        let null = space().row(Value::String(None));
        assert_eq!(null.as_str(), "shop:user:!");
        assert_ne!(null, space().row("NULL"));
        assert_ne!(null, space().row("!"));
    }

    #[test]
    fn what_the_keys_of_an_entity_start_with_is_never_cut() {
        let (namespace, entity) = ("ü".repeat(64), "/".repeat(64));
        let space = KeySpace::new(&namespace, &entity);
        let key = space.row("ü".repeat(500));
        assert!(key.as_str().starts_with(&**space.prefix()), "{key}");
        let other = KeySpace::new(&namespace, &format!("{entity}2"));
        assert_ne!(space.prefix(), other.prefix());
    }

    #[test]
    fn long_keys_are_bounded_and_stay_apart() {
        let base = "ü".repeat(500);
        let one = space().row(format!("{base}1"));
        let two = space().row(format!("{base}2"));
        assert_eq!(one.as_str().len(), MAX_LEN);
        assert_ne!(one, two);
        assert_ne!(one.fingerprint(), two.fingerprint());
        // A value that spells out the shortened form does not become it: `#` is encoded.
        let spelt = space().row(one.as_str().strip_prefix("shop:user:").unwrap());
        assert_ne!(spelt, one);
    }
    /// Goal: a text that outgrows its place in the key, or a key altogether, at once or by a later
    /// column, is the text it would have been, and so is its checksum.
    #[test]
    fn a_key_stands_for_its_whole_text_however_long_it_is() {
        let prefix_len = space().prefix().len();
        let around = |limit: usize| limit - prefix_len - 10..=limit - prefix_len + 1;
        for len in around(INLINE_LEN).chain(around(MAX_LEN)).chain([1, 1000]) {
            let id = "x".repeat(len);
            for (key, values) in [
                (space().row(id.clone()), id.clone()),
                (space().row((id.clone(), "ä")), format!("{id},%C3%A4")),
                (space().row((7, id.clone(), -8)), format!("7,{id},-8")),
            ] {
                let text = format!("shop:user:{values}");
                assert_eq!(key.fingerprint(), crc32fast::hash(text.as_bytes()), "{len}");
                assert_eq!(key.as_str(), shortened(text, MAX_LEN), "{len}");
            }
        }
    }
}
