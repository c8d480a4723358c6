//! Without the feature `tamper` the protocol is whole.

use std::sync::Arc;

use super::Tier;

/// The parts of the protocol that are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tamper {
    /// None.
    Nothing,
}

impl Tamper {
    pub(crate) fn with(self, tier: Arc<dyn Tier>) -> Arc<dyn Tier> {
        match self {
            Self::Nothing => tier,
        }
    }
}
