//! What the integration tests share: entities, databases of their own, and statement counts.
//!
//! Every [`World`] has a database and a key namespace of its own, so that tests run side by side
//! on the servers that `cargo xtask test` started.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world has failed"
)]

mod databases;
pub mod entities;
pub mod gated;
mod poll;
mod world;

pub use databases::{Backend, Statements};
pub use poll::{eventually, lapse};
pub use world::{Tier, World, redis_pool};

/// The README's examples compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
