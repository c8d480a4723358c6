//! The near cache (L1): rows in this process, and what ends them.
//!
//! `store` keeps rows by their keys, `generations` says which of them may still be served, and
//! `notify` tells the generations of every change that this process makes. Changes by other
//! processes come from the tier's subscription.

mod generations;
mod notify;
mod store;

pub use self::store::{NearCapacity, NearKey, NearOptions};
pub(crate) use self::{
    generations::{GenerationStamp, Generations},
    notify::NotifyingTier,
    store::{Life, NearStore},
};
