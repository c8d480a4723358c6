//! What the codecs know of a column, and how they fail.

/// What serde, or a column's own codec, said.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A column, whatever its codec.
pub(super) struct Field<T> {
    /// The field's name in the model.
    pub(super) name: &'static str,
    /// Whether a value that was written as nil is `Some`.
    pub(super) is_some: fn(&T) -> bool,
    /// Reads a `Some` that was written as nil back.
    pub(super) some_nil: fn() -> Result<T, serde::de::value::Error>,
}

/// A row that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// A column's `Serialize` failed, or the codec cannot hold its value.
    #[error("column `{column}` could not be encoded")]
    Encode {
        /// The field's name in the model.
        column: &'static str,
        /// What serde said.
        source: BoxError,
    },
    /// A column's `Deserialize` failed, or the bytes are not this column's.
    #[error("column `{column}` could not be decoded")]
    Decode {
        /// The field's name in the model.
        column: &'static str,
        /// What serde said.
        source: BoxError,
    },
    /// Something else than columns follows the last column.
    #[error("the row has more columns than the model")]
    Trailing,
}
