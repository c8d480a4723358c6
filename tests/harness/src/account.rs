//! Which account a server runs as: PostgreSQL and MariaDB refuse to run as root, and CI containers
//! are root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Uid, User};

/// The account that a server and its files belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Account {
    /// Whoever runs the tests.
    Ours,
    /// We are root, the server must not be.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// Our own account, or `preferred` (else `nobody`) when we are root.
    pub(crate) fn unprivileged(preferred: &str) -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ours);
        }
        for name in [preferred, "nobody"] {
            if let Some(user) =
                User::from_name(name).with_context(|| format!("looking up user {name}"))?
            {
                return Ok(Self::Other {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                });
            }
        }
        anyhow::bail!(
            "cannot run a server as root, and neither user `{preferred}` nor `nobody` exists; add one"
        )
    }

    pub(crate) fn own(self, directory: &Path) -> Result<()> {
        if let Self::Other { uid, gid } = self {
            chown(directory, Some(uid), Some(gid))
                .with_context(|| format!("giving {} away", directory.display()))?;
        }
        Ok(())
    }

    pub(crate) fn run(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            // The standard library also drops root's supplementary groups here.
            command.uid(uid).gid(gid);
        }
    }
}
