//! Installing what the tests and benchmarks need, with the system's package manager.
//!
//! The packages come with system services; we neither use nor start them.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cached_repo_harness::ServerKind;

/// Runs as root. Debian's packages start their services unless `policy-rc.d` forbids it, as it does
/// in container images already. `--no-remove`, because a MariaDB would push out a MySQL with data.
const APT_SCRIPT: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update || echo "apt-get update failed; going on with the package lists at hand" >&2
apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-remove --no-install-recommends "$@"
"#;

/// Makes sure that every server's programs are here.
pub(crate) fn missing_servers() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(", ");
    if !runs("apt-get", &["--version"]) {
        bail!(
            "not installed: {names} (Debian's names), and this system has no apt-get; \
             install them with its own package manager, then run this again"
        );
    }
    println!("xtask: installing {names}");
    install(&missing).with_context(|| format!("installing {names}; install them by hand"))?;
    let still_missing = self::missing();
    if !still_missing.is_empty() {
        bail!(
            "{} installed, but their programs are not found",
            still_missing.join(", ")
        );
    }
    Ok(())
}

/// Installs what counts instructions. The benchmarks do without it, so a failure is only told.
pub(crate) fn missing_valgrind() {
    if runs("valgrind", &["--version"]) {
        return;
    }
    println!("xtask: installing valgrind");
    if let Err(error) = install(&["valgrind"]) {
        eprintln!("xtask: no valgrind, so no instructions are counted: {error:#}");
    }
}

/// The Debian packages of the servers that are not installed.
fn missing() -> Vec<&'static str> {
    ServerKind::ALL
        .into_iter()
        .filter(|kind| !kind.is_installed())
        .map(debian_package)
        .collect()
}

fn debian_package(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Redis => "redis-server",
        ServerKind::Postgres => "postgresql",
        ServerKind::MariaDb => "mariadb-server",
    }
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = if is_root()? {
        Command::new("sh")
    } else if runs("sudo", &["--version"]) {
        let mut sudo = Command::new("sudo");
        sudo.arg("sh");
        sudo
    } else {
        bail!("that needs root, and there is no sudo");
    };
    // dpkg is loud; what it says on failure goes to standard error.
    command
        .args(["-c", APT_SCRIPT, "xtask-install"])
        .args(packages)
        .stdout(io::stderr());
    let status = command
        .stdin(Stdio::null())
        .status()
        .context("running apt-get")?;
    if !status.success() {
        bail!("apt-get failed ({status})");
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("running id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
