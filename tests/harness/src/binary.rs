//! Where the servers' programs are.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Servers live in `sbin`, which is not on every user's `PATH`.
const EXTRA_DIRECTORIES: [&str; 5] = [
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/libexec",
    "/usr/local/bin",
];

/// Debian keeps PostgreSQL's server programs off the `PATH`, one directory per major version.
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";

/// The first of `names` that is installed; the order of the names wins over the order of the
/// directories.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    names.iter().find_map(|name| find_in(&path, name))
}

/// The directory that holds PostgreSQL's `initdb` and `postgres`, of one version.
pub(crate) fn postgres_directory() -> Option<PathBuf> {
    let on_path = find(&["initdb"])
        // A link on the PATH leads to the directory that has the matching `postgres` too.
        .and_then(|initdb| initdb.canonicalize().ok())
        .and_then(|initdb| initdb.parent().map(Path::to_owned));
    on_path
        .into_iter()
        .chain(newest_postgres(Path::new(POSTGRES_ROOT)))
        .find(|directory| {
            is_executable(&directory.join("initdb")) && is_executable(&directory.join("postgres"))
        })
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(EXTRA_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

/// `root/<major version>/bin`, highest version first.
fn newest_postgres(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<u32> = root
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
        .into_iter()
        .map(|version| root.join(version.to_string()).join("bin"))
        .collect()
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Goal: version 15 beats 9, which text order would put last.
    #[test]
    fn the_newest_postgres_comes_first_by_number() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "13", "not-a-version"] {
            fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = newest_postgres(root.path());
        assert_eq!(
            found,
            ["15", "13", "9"].map(|version| root.path().join(version).join("bin"))
        );
    }

    /// Goal: a plain file of the right name is not taken for the program; a later directory is
    /// still searched.
    #[test]
    fn only_executable_files_are_found() {
        let (plain, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [plain.path(), real.path()] {
            fs::write(directory.join("some-server"), "").unwrap();
        }
        let program = real.path().join("some-server");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = env::join_paths([plain.path(), real.path()]).unwrap();
        assert_eq!(find_in(&path, "some-server"), Some(program));
        assert_eq!(find_in(&path, "another-server"), None);
    }
}
