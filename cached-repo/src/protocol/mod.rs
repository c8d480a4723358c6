//! The coherence protocol: what an entry is, what each operation may do to it, how its key is
//! spelt and how a row becomes bytes.
//!
//! Invariants:
//! - Nothing here imports another module of this crate.
//! - Nothing here does I/O, reads a clock or draws a random number, tokens aside: every function
//!   takes the time it acts at.
//! - [`state`] is the only place that decides what an operation does to an entry. The Lua
//!   scripts of the Redis tier say the same again, because Redis cannot run Rust; a differential
//!   test holds the two together.
//!
//! Does not know which tier it runs in, nor what a database is.

mod classify;
mod entry;
pub mod epoch;
pub(crate) mod key;
#[cfg_attr(not(feature = "lz4"), path = "no_lz4.rs")]
mod lz4;
mod row;
mod seal;
mod some_nil;
mod spelling;
pub mod state;
mod token;
mod version;

pub use classify::{Classification, MissReason, Policy, classify};
pub use entry::{Claims, Entry, Kind, Malformed, Slot, Timestamp};
pub use key::{Key, KeySpace, LookupSpace};
pub use row::{CachedField, Codec, Column, RowDecoder, RowEncoder, RowError};
pub use seal::{Content, Format, SealError, holds, open, seal_absent, seal_anything, seal_row};
pub(crate) use spelling::text;
pub use spelling::{Dialect, is_kept_as_given, places_behind_the_point, spelling_is_exact};
pub use token::Token;
pub use version::Version;
