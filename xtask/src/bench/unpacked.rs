//! Programs of Debian packages that run from a tree of their own: nothing is installed,
//! and no service of the machine begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::image::debian;

/// Packages with all they need, unpacked; gone when dropped.
pub struct Unpacked {
    directory: TempDir,
}

impl Unpacked {
    /// Fetches and unpacks them.
    ///
    /// # Errors
    /// When apt does not know one, or cannot fetch it.
    pub fn of(packages: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for packages")?;
        debian::unpack_programs(packages, &directory.path().join("root"))?;
        Ok(Self { directory })
    }

    /// A directory for whatever the programs write.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Where the files of the packages are.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A program by its path in there, with its own loader and its own libraries: the
    /// machine's may be older.
    ///
    /// # Errors
    /// When the packages have no loader or no libraries.
    pub fn program(&self, path: &str) -> Result<Command> {
        let root = self.root();
        let mut command = Command::new(loader(&root)?);
        command.arg("--library-path").arg(library_path(&root)?).arg(root.join(path));
        Ok(command)
    }
}

fn loader(root: &Path) -> Result<PathBuf> {
    ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"]
        .iter()
        .filter_map(|path| resolve_inside(root, &root.join(path)))
        .find(|path| path.is_file())
        .context("find the loader among the packages")
}

/// Follows a link the way a process with this root would.
fn resolve_inside(root: &Path, path: &Path) -> Option<PathBuf> {
    match fs::read_link(path) {
        Ok(target) if target.is_absolute() => Some(root.join(target.strip_prefix("/").ok()?)),
        _ => path.canonicalize().ok(),
    }
}

fn library_path(root: &Path) -> Result<PathBuf> {
    ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .iter()
        .map(|triple| root.join("usr/lib").join(triple))
        .find(|path| path.is_dir())
        .context("find the libraries among the packages")
}
