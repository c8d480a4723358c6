//! The protocol and its scripts, for this project's own tests and checkers. No semver promise.

pub use crate::protocol::*;
#[cfg(feature = "redis")]
pub use crate::tier::redis::{scripts, wire};
#[cfg(feature = "tamper")]
pub use crate::tier::tamper::Tamper;
