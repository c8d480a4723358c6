//! Compressed rows: the length of the row in four bytes, then one LZ4 block.
//!
//! Invariants:
//! - However long a row claims to be, no more is allocated for it than [`MAX_ROW_BYTES`], and no
//!   more than a block of that size can hold.
//!
//! Without the feature `lz4`, `no_lz4.rs` stands here.

/// The longest row that is compressed: 64 MiB, as the derive says too.
const MAX_ROW_BYTES: usize = 64 * 1024 * 1024;
/// A block holds at most so many times its own length.
const MAX_RATIO: usize = 255;

/// The row behind `prefix`, compressed, if that is any shorter.
pub(super) fn compress(prefix: &[u8], row: &[u8]) -> Option<Vec<u8>> {
    if row.len() > MAX_ROW_BYTES {
        return None;
    }
    let len = (row.len() as u32).to_le_bytes();
    let block = lz4_flex::block::compress(row);
    (len.len() + block.len() < row.len()).then(|| [prefix, &len, &block].concat())
}

/// Reads a row back.
pub(super) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, block) = split(bytes)?;
    let mut row = vec![0; len];
    let written = lz4_flex::block::decompress_into(block, &mut row).ok()?;
    (written == len).then_some(row)
}

/// The length that the row claims to have, if it can have it, and the block.
fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (len, block) = bytes.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    let is_possible = len <= MAX_ROW_BYTES.min(block.len().saturating_mul(MAX_RATIO));
    is_possible.then_some((len, block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claiming(len: usize, block: &[u8]) -> Vec<u8> {
        [&(len as u32).to_le_bytes(), block].concat()
    }

    /// Goal: nothing is allocated for a length beyond the bound, nor for one that the block cannot
    /// hold.
    #[test]
    fn an_impossible_length_is_refused_before_anything_is_allocated() {
        let long = vec![0; MAX_ROW_BYTES / MAX_RATIO + 1];
        assert!(split(&claiming(MAX_ROW_BYTES, &long)).is_some());
        assert_eq!(split(&claiming(MAX_ROW_BYTES + 1, &long)), None);
        assert_eq!(split(&claiming(u32::MAX as usize, &long)), None);
        assert!(split(&claiming(255, &[0])).is_some());
        assert_eq!(split(&claiming(256, &[0])), None);
        assert_eq!(split(&[0; 3]), None);
    }

    /// Goal: a length that is not the row's is no row, shorter or longer.
    #[test]
    fn a_wrong_length_is_refused() {
        let row = "cached ".repeat(100);
        let good = compress(b"", row.as_bytes()).unwrap();
        assert_eq!(decompress(&good).unwrap(), row.as_bytes());
        for len in [0, 1, row.len() - 1, row.len() + 1, 2 * row.len()] {
            assert_eq!(decompress(&claiming(len, &good[4..])), None, "{len}");
        }
        for end in 0..good.len() {
            assert_eq!(decompress(&good[..end]), None, "{end}");
        }
    }

    /// Goal: the most that a block can hold is still read back, and a row beyond the bound is left
    /// as it is.
    #[test]
    fn rows_are_compressed_up_to_the_bound() {
        let zeros = vec![0; 1 << 20];
        let compressed = compress(b"seal", &zeros).unwrap();
        assert!(compressed.len() < zeros.len() / 250);
        assert_eq!(decompress(&compressed[4..]).unwrap(), zeros);
        assert_eq!(compress(b"", &vec![0; MAX_ROW_BYTES + 1]), None);
        assert_eq!(compress(b"", b"short"), None);
    }
}
