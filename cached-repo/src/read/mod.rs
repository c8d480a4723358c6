//! The read pipeline: the only place that knows the order of the tiers. A row or a lookup, one or
//! many: all of them are questions with a cache key, and go the same way.
//!
//! ```text
//! find ─ near cache ─ hit ─────────────────────────────────────────▶ row
//!             │ miss
//!        shared tier ─ a row, fresh ───────────────────────────────▶ row, kept near
//!             │        └ early or stale ── served, and reloaded behind
//!             ├─────── an index entry ─ its rows, through the cache ─ all match ─▶ rows
//!             │ miss, or no answer                                  └ else: as a miss
//!             ▼
//!        single flight ─ lease ─ granted ─ SELECT ─ rows ─ stored
//!                          │ hit ────────────────── rows
//!                          │ wait ── ask again, until `lease_wait` is over
//!                          └ blocked, no answer ─── SELECT, nothing stored
//! ```
//! Many questions ask the tier once, and load with one statement what this reader gets
//! a lease for; for what others load, they wait like a single one.
//!
//! Invariants:
//! - Only a SELECT that began after its lease was granted is stored.
//! - A cache that fails, or is not trusted for a key, costs a SELECT, never an error, unless
//!   more are needed at a time than the load limit admits within `load_queue_timeout`.
//! - The rows of an index entry are compared with the question. If one is gone or no longer
//!   matches, the database is asked: the other rows would be a right answer too, but every later
//!   lookup would read the missing row again until the TTL.
//! - An audit never delays a hit.
//!
//! Does not write rows. Inside a transaction it only asks the database.

mod aside;
mod audit;
mod batch;
mod budget;
mod lease;
mod load;
mod load_limit;
mod loader;
mod near;
mod pipeline;
mod question;
mod repair;
mod seen;
mod select;
mod settle;
mod single_flight;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    aside::{Aside, AsideLoad},
    audit::Auditor,
    budget::Budget,
    load::Reader,
    load_limit::LoadLimit,
    pipeline::Read,
    question::{Question, Rows},
};
