//! The seal around a payload: one tag byte and a CRC-32 that ties the row to its key, its version
//! and the shape of its struct.
//!
//! A header and a payload that do not belong together, a value copied under another key, a
//! flipped bit and a truncated row all fail the seal and read as a miss.
//!
//! Guards against accidents and forged keys, not against someone who can write to Redis.

use bytes::Bytes;

use super::{Entry, Key, Kind, RowDecoder, RowEncoder, RowError, Version};

const SEAL_LEN: usize = 5;

/// How the bytes behind the seal are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    /// No row.
    Absent = b'-',
    /// MessagePack columns.
    MessagePack = b'm',
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
    schema: u32,
    encode: impl FnOnce(&mut RowEncoder) -> Result<(), RowError>,
) -> Result<Bytes, RowError> {
    let mut row = RowEncoder::after(&[0; SEAL_LEN]);
    encode(&mut row)?;
    Ok(sealed(row.finish(), Tag::MessagePack, key, version, schema))
}

/// Seals the knowledge that there is no row.
pub fn seal_absent(key: &Key) -> Bytes {
    // A fill stores an absent under whatever floor it meets, so its seal leaves the version out.
    sealed(vec![0; SEAL_LEN], Tag::Absent, key, Version::ZERO, 0)
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
    let (tag, version, schema) = match entry.kind {
        Kind::Value => (Tag::MessagePack, entry.version, entry.schema),
        Kind::Absent => (Tag::Absent, Version::ZERO, 0),
        Kind::Tombstone => return Err(SealError::Broken),
    };
    let (seal, row) = entry
        .payload
        .split_first_chunk::<SEAL_LEN>()
        .ok_or(SealError::Broken)?;
    if seal[0] != tag as u8 || seal[1..] != checksum(tag, key, version, schema, row) {
        return Err(SealError::Broken);
    }
    if tag == Tag::Absent {
        return if row.is_empty() {
            Ok(Content::Absent)
        } else {
            Err(SealError::Broken)
        };
    }
    let mut decoder = RowDecoder::new(row);
    let value = decode(&mut decoder)?;
    decoder.finish()?;
    Ok(Content::Row(value))
}

fn sealed(mut bytes: Vec<u8>, tag: Tag, key: &Key, version: Version, schema: u32) -> Bytes {
    let sum = checksum(tag, key, version, schema, &bytes[SEAL_LEN..]);
    bytes[0] = tag as u8;
    bytes[1..SEAL_LEN].copy_from_slice(&sum);
    bytes.into()
}

fn checksum(tag: Tag, key: &Key, version: Version, schema: u32, row: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new_with_initial(key.fingerprint());
    crc.update(&[tag as u8]);
    crc.update(&version.get().to_le_bytes());
    crc.update(&schema.to_le_bytes());
    crc.update(row);
    crc.finalize().to_le_bytes()
}
