//! The scripts: the state machine once more, in the language Redis runs.
//!
//! Each is put together from the clock, what all share, and its own part. A test replaces the
//! clock to control the time.

use std::sync::LazyLock;

use deadpool_redis::redis;

const CLOCK: &str = include_str!("scripts/clock.lua");
const ENTRY: &str = include_str!("scripts/entry.lua");

/// What a script may do when Redis is at its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It runs: it protects a write.
    Allow,
    /// It is refused: it would only store something that can be loaded again.
    Refuse,
}

/// One of the protocol's operations.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    own: &'static str,
    when_full: WhenFull,
}

/// The operations' sources.
pub const LEASE: Source = Source {
    own: include_str!("scripts/lease.lua"),
    when_full: WhenFull::Allow,
};
/// See [`LEASE`].
pub const FILL: Source = Source {
    own: include_str!("scripts/fill.lua"),
    when_full: WhenFull::Refuse,
};
/// [`FILL`] with nothing to store, which only gives the lease back.
pub const RELEASE: Source = Source {
    own: FILL.own,
    when_full: WhenFull::Allow,
};
/// See [`LEASE`].
pub const BLOCK: Source = Source {
    own: include_str!("scripts/block.lua"),
    when_full: WhenFull::Allow,
};
/// See [`LEASE`].
pub const DONE: Source = Source {
    own: include_str!("scripts/done.lua"),
    when_full: WhenFull::Allow,
};
/// [`DONE`] with a row to store.
pub const PUT: Source = Source {
    own: DONE.own,
    when_full: WhenFull::Refuse,
};

/// Reads or changes epochs.
pub const EPOCH: Source = Source {
    own: include_str!("scripts/epoch.lua"),
    when_full: WhenFull::Allow,
};

impl Source {
    /// The whole script.
    #[must_use]
    pub fn text(&self) -> String {
        self.with_clock(CLOCK)
    }

    /// The whole script, with another way to set `now`.
    #[must_use]
    pub fn with_clock(&self, clock: &str) -> String {
        let shebang = match self.when_full {
            WhenFull::Allow => "#!lua flags=allow-oom",
            WhenFull::Refuse => "#!lua",
        };
        format!("{shebang}\n{clock}{ENTRY}{}", self.own)
    }
}

/// A script and the name Redis knows it by.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) sha: String,
}

impl Script {
    fn new(source: Source) -> Self {
        let text = source.text();
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Self { text, sha }
    }
}

pub(super) struct Scripts {
    pub(super) lease: Script,
    pub(super) fill: Script,
    pub(super) release: Script,
    pub(super) block: Script,
    pub(super) done: Script,
    pub(super) put: Script,
    pub(super) epoch: Script,
}

impl Scripts {
    pub(super) fn all(&self) -> [&Script; 7] {
        [
            &self.lease,
            &self.fill,
            &self.release,
            &self.block,
            &self.done,
            &self.put,
            &self.epoch,
        ]
    }
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    lease: Script::new(LEASE),
    fill: Script::new(FILL),
    release: Script::new(RELEASE),
    block: Script::new(BLOCK),
    done: Script::new(DONE),
    put: Script::new(PUT),
    epoch: Script::new(EPOCH),
});
