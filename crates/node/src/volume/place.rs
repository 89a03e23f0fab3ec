//! Where a volume is, held by whoever does something with it.
//!
//! The lock is on an open file and goes with it to the programs that are started: an
//! agent that was killed may have left one behind that makes, checks or resizes the
//! very file system, and two at once would destroy it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{Flock, FlockArg};

/// The directory of a volume, locked.
pub(super) struct Place {
    dir: PathBuf,
    lock: Flock<File>,
}

impl Place {
    /// Waits until nobody works on it.
    pub(super) fn hold(dir: PathBuf) -> io::Result<Place> {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file =
            File::options().write(true).create(true).truncate(false).open(Self::lock_file(&dir))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        Ok(Place { dir, lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock, for a program to hold too.
    pub(super) fn lock(&self) -> io::Result<Stdio> {
        self.lock.try_clone().map(Stdio::from)
    }

    /// Lets go of it for good: there is nothing left to lock.
    pub(super) fn forget(&self) {
        // Left over it does no harm.
        let _ = std::fs::remove_file(Self::lock_file(&self.dir));
    }

    fn lock_file(dir: &Path) -> PathBuf {
        dir.with_extension("lock")
    }
}
