//! The machines that check the coherence protocol.

mod differential;
mod entries;
