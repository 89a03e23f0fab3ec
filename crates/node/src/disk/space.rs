//! What a file system has, and how much of it is not to be given away. Start at
//! [`Space::of`].
//!
//! One rule for images and for volumes: two of them, each with its own idea of what is
//! to stay free, left nodes that could take a release and not its volume.

use std::path::Path;

use helix_model::manifest::format_bytes;
use nix::sys::statvfs::statvfs;

/// What is kept free unless told otherwise: a twentieth of the disk …
const RESERVE_DIVISOR: u64 = 20;

/// … but never more than this. Logs, databases and state files need no more the
/// larger the disk is.
const RESERVE_BYTES_MAX: u64 = 2 << 30;

/// Volumes and snapshots leave so many reserves free. With one, the last volume to be
/// filled would keep the node from starting anything ([`RELIEF_DIVISOR`] more is wanted
/// before it does again), and images cannot make room by taking volumes away.
const VOLUME_RESERVES: u64 = 2;

/// Of files that can still be made, one in so many is kept free.
const INODES_DIVISOR: u64 = 50;

/// What images may take unless told otherwise, as a part of the disk.
const CACHE_DIVISOR: u64 = 5;

/// Relief comes with a quarter more than the reserve, so that what is on the edge
/// does not go to and fro.
const RELIEF_DIVISOR: u64 = 4;

/// Limits an operator may set; what is not set follows from the disk's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// What images may take.
    pub image_cache_bytes: Option<u64>,
    /// What is kept free.
    pub reserve_bytes: Option<u64>,
}

impl DiskLimits {
    /// What is kept free on a file system.
    pub(super) fn reserve_bytes(self, space: Space) -> u64 {
        let usual = (space.total_bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX);
        self.reserve_bytes.unwrap_or(usual)
    }

    /// How much has to be free before a full disk no longer counts as one.
    pub(super) fn relief_bytes(self, space: Space) -> u64 {
        let reserve_bytes = self.reserve_bytes(space);
        reserve_bytes.saturating_add(reserve_bytes / RELIEF_DIVISOR)
    }

    /// What images may take.
    pub(super) fn cache_bytes_max(self, space: Space) -> u64 {
        self.image_cache_bytes.unwrap_or(space.total_bytes / CACHE_DIVISOR)
    }

    /// What volumes and snapshots may still take.
    pub(crate) fn volume_bytes(self, space: Space) -> u64 {
        space.free_bytes.saturating_sub(self.reserve_bytes(space).saturating_mul(VOLUME_RESERVES))
    }
}

/// What a file system has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub(super) total_bytes: u64,
    /// What a program without privileges could still write.
    pub(super) free_bytes: u64,
    files: u64,
    free_files: u64,
}

impl Space {
    /// That of the file system a path is on; `None` where it does not tell.
    pub(crate) fn of(path: &Path) -> Option<Space> {
        let stat = statvfs(path).ok()?;
        let block = stat.fragment_size();
        Some(Space {
            total_bytes: stat.blocks().saturating_mul(block),
            free_bytes: stat.blocks_available().saturating_mul(block),
            files: stat.files(),
            free_files: stat.files_available(),
        })
    }

    /// That of a pool, which is no file system.
    pub(crate) fn in_pool(total_bytes: u64, free_bytes: u64) -> Space {
        Space { total_bytes, free_bytes, ..Space::default() }
    }

    pub(super) fn shortage(self, reserve_bytes: u64) -> Option<Shortage> {
        if self.free_bytes < reserve_bytes {
            return Some(Shortage::Bytes);
        }
        // Some file systems make room for files as they need it, and say zero.
        (self.files > 0 && self.free_files < self.files / INODES_DIVISOR).then_some(Shortage::Files)
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    Bytes,
    Files,
}

impl Shortage {
    pub(super) fn text(self, space: Space, reserve_bytes: u64) -> String {
        match self {
            Shortage::Bytes => format!(
                "its disk has {} free, and {} are kept for what runs",
                format_bytes(space.free_bytes),
                format_bytes(reserve_bytes)
            ),
            Shortage::Files => format!(
                "its file system has room for {} more files of {}",
                space.free_files, space.files
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn bytes_and_files_can_both_run_out() {
        let space = Space { total_bytes: 1000, free_bytes: 50, files: 1000, free_files: 500 };
        assert_eq!(space.shortage(50), None);
        assert_eq!(space.shortage(51), Some(Shortage::Bytes));
        assert_eq!(Space { free_files: 19, ..space }.shortage(50), Some(Shortage::Files));
        let without = Space { files: 0, free_files: 0, ..space };
        assert_eq!(without.shortage(50), None, "this file system does not count files");
    }

    #[test]
    fn volumes_leave_more_free_than_images_and_a_large_disk_is_not_held_back() {
        let usual = DiskLimits::default();
        let small = Space { total_bytes: 20 * GIB, free_bytes: 5 * GIB, ..Space::default() };
        assert_eq!(usual.reserve_bytes(small), GIB);
        assert_eq!(usual.volume_bytes(small), 3 * GIB);
        let large = Space { total_bytes: 4096 * GIB, free_bytes: 24 * GIB, ..Space::default() };
        assert_eq!(usual.volume_bytes(large), 20 * GIB);
        let told = DiskLimits { reserve_bytes: Some(GIB / 2), ..usual };
        assert_eq!(told.volume_bytes(small), 4 * GIB);
        let full = Space { free_bytes: GIB, ..small };
        assert_eq!(usual.volume_bytes(full), 0);
    }
}
