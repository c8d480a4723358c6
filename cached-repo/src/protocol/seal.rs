//! The seal around a payload: one tag byte and a CRC-32 that ties the row to its key, its version
//! and the shape of its struct.
//!
//! A header and a payload that do not belong together, a value copied under another key, a
//! flipped bit and a truncated row all fail the seal and read as a miss.
//!
//! Guards against accidents and forged keys, not against someone who can write to Redis.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Codec, Entry, Key, Kind, RowDecoder, RowEncoder, RowError, Version, lz4};

const SEAL_LEN: usize = 5;

/// How the bytes behind the seal are to be read; in capitals if they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    /// No row.
    Absent = b'-',
    MessagePack = b'm',
    Json = b'j',
    CompressedMessagePack = b'M',
    CompressedJson = b'J',
}

/// How the rows of one entity become bytes.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Fingerprint of the struct's shape. Entries with another one are misses.
    pub schema: u32,
    /// The encoding of the columns.
    pub codec: Codec,
    /// Rows of more bytes are compressed if that makes them shorter.
    pub compress_above: Option<usize>,
}

/// What an entry holds, once its seal is verified.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<T> {
    /// A row.
    Row(T),
    /// The row is known not to exist.
    Absent,
}

/// A payload that is not what its entry claims.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Too short, an unknown tag, or a checksum that does not match.
    #[error("the entry's checksum does not match")]
    Broken,
    /// The checksum matches, but the row cannot be decompressed.
    #[error(
        "the row cannot be decompressed: it is too long, corrupt, or this build of cached-repo is \
         without the feature \"lz4\""
    )]
    Compressed,
    /// The checksum matches but the row does not decode.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Encodes and seals a row.
///
/// # Errors
/// When a column's `Serialize` fails.
pub fn seal_row(
    key: &Key,
    version: Version,
    format: Format,
    encode: impl FnOnce(&mut RowEncoder) -> Result<(), RowError>,
) -> Result<Bytes, RowError> {
    let mut row = RowEncoder::after(&[0; SEAL_LEN], format.codec);
    encode(&mut row)?;
    let mut row = row.finish();
    let mut tag = Tag::plain(format.codec);
    if let Some(threshold) = format.compress_above
        && row.len() - SEAL_LEN > threshold
        && let Some(compressed) = lz4::compress(&row[..SEAL_LEN], &row[SEAL_LEN..])
    {
        row = compressed;
        tag = Tag::compressed(format.codec);
    }
    Ok(sealed(row, tag, key, version, format.schema))
}

/// Seals the knowledge that there is no row.
pub fn seal_absent(key: &Key) -> Bytes {
    // A fill stores an absent under whatever floor it meets, so its seal leaves the version out.
    sealed(vec![0; SEAL_LEN], Tag::Absent, key, Version::ZERO, 0)
}

/// Seals any bytes, as who can write to Redis could: for tests of what is behind the seal. `None`
/// for an unknown tag.
pub fn seal_anything(
    key: &Key,
    version: Version,
    schema: u32,
    tag: u8,
    bytes: &[u8],
) -> Option<Bytes> {
    let row = [&[0; SEAL_LEN], bytes].concat();
    Some(sealed(row, Tag::of(tag)?, key, version, schema))
}

/// Verifies the seal of `entry`, which was found under `key`, and decodes its row.
///
/// # Errors
/// When the entry is not what it claims to be. Never panics, whatever the bytes are.
pub fn open<T>(
    key: &Key,
    entry: &Entry,
    decode: impl FnOnce(&mut RowDecoder<'_>) -> Result<T, RowError>,
) -> Result<Content<T>, SealError> {
    match unseal(key, entry)? {
        Content::Row(Encoded { codec, row }) => {
            Ok(Content::Row(RowDecoder::read(&row, codec, decode)?))
        }
        Content::Absent => Ok(Content::Absent),
    }
}

/// Whether `entry` holds the row that was sealed for it as `payload`, compressed or not: other
/// processes may compress above another size, or with another release of the compressor.
pub fn holds(key: &Key, entry: &Entry, payload: &Bytes) -> bool {
    if entry.payload == payload {
        return true;
    }
    let sealed = Entry {
        payload: payload.clone(),
        ..entry.clone()
    };
    match (unseal(key, entry), unseal(key, &sealed)) {
        (Ok(held), Ok(sealed)) => held == sealed,
        _ => false,
    }
}

/// A row, decompressed.
#[derive(PartialEq)]
struct Encoded<'entry> {
    codec: Codec,
    row: Cow<'entry, [u8]>,
}

/// Verifies the seal of `entry`.
#[inline]
fn unseal<'entry>(key: &Key, entry: &'entry Entry) -> Result<Content<Encoded<'entry>>, SealError> {
    let Some((seal, row)) = entry.payload.split_first_chunk::<SEAL_LEN>() else {
        return Err(SealError::Broken);
    };
    let Some(tag) = Tag::of(seal[0]) else {
        return Err(SealError::Broken);
    };
    let (version, schema) = match entry.kind {
        Kind::Value if tag != Tag::Absent => (entry.version, entry.schema),
        Kind::Absent if tag == Tag::Absent => (Version::ZERO, 0),
        _ => return Err(SealError::Broken),
    };
    if seal[1..] != checksum(tag, key, version, schema, row) {
        return Err(SealError::Broken);
    }
    let (codec, is_plain) = match tag {
        Tag::Absent if row.is_empty() => return Ok(Content::Absent),
        Tag::Absent => return Err(SealError::Broken),
        Tag::MessagePack => (Codec::MessagePack, true),
        Tag::CompressedMessagePack => (Codec::MessagePack, false),
        Tag::Json => (Codec::Json, true),
        Tag::CompressedJson => (Codec::Json, false),
    };
    let row = if is_plain {
        Cow::Borrowed(row)
    } else {
        Cow::Owned(lz4::decompress(row).ok_or(SealError::Compressed)?)
    };
    Ok(Content::Row(Encoded { codec, row }))
}

impl Tag {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'-' => Self::Absent,
            b'm' => Self::MessagePack,
            b'j' => Self::Json,
            b'M' => Self::CompressedMessagePack,
            b'J' => Self::CompressedJson,
            _ => return None,
        })
    }

    const fn plain(codec: Codec) -> Self {
        match codec {
            Codec::MessagePack => Self::MessagePack,
            Codec::Json => Self::Json,
        }
    }

    const fn compressed(codec: Codec) -> Self {
        match codec {
            Codec::MessagePack => Self::CompressedMessagePack,
            Codec::Json => Self::CompressedJson,
        }
    }
}

fn sealed(mut bytes: Vec<u8>, tag: Tag, key: &Key, version: Version, schema: u32) -> Bytes {
    let sum = checksum(tag, key, version, schema, &bytes[SEAL_LEN..]);
    bytes[0] = tag as u8;
    bytes[1..SEAL_LEN].copy_from_slice(&sum);
    bytes.into()
}

fn checksum(tag: Tag, key: &Key, version: Version, schema: u32, row: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new_with_initial(key.fingerprint());
    // In one piece: a call costs more than the bytes.
    let mut head = [tag as u8; 13];
    head[1..9].copy_from_slice(&version.get().to_le_bytes());
    head[9..].copy_from_slice(&schema.to_le_bytes());
    crc.update(&head);
    crc.update(row);
    crc.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Claims, KeySpace, Timestamp};

    /// Goal: a build without the feature reads a compressed row as an error, which a read counts as
    /// a miss; a build with it reads the row.
    #[test]
    fn a_compressed_row_is_read_where_the_feature_is_on() {
        // The row `{}`: its length, and a block of two literals.
        let bytes = [2, 0, 0, 0, 0x20, b'{', b'}'];
        let key = KeySpace::new("test", "row").row(1_i64);
        let payload = seal_anything(&key, Version::ZERO, 7, b'J', &bytes);
        let entry = Entry {
            kind: Kind::Value,
            version: Version::ZERO,
            at: Timestamp::default(),
            span_ms: 0,
            load_cost_ms: 0,
            schema: 7,
            claims: Claims::None,
            payload: payload.unwrap(),
        };
        match open(&key, &entry, |_| Ok(())) {
            Ok(content) => assert!(cfg!(feature = "lz4") && content == Content::Row(())),
            Err(error) => assert!(!cfg!(feature = "lz4") && matches!(error, SealError::Compressed)),
        }
    }
}
