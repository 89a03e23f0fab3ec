//! Snapshots of volumes: what is in one at a moment, in a file of its own.
//!
//! ```text
//! <data>/snapshots/<id>/disk.img       what was in the volume; parts of zeros are holes
//! <data>/snapshots/<id>/snapshot.json  the hash of each part; written last
//! ```
//! Start at [`begin`], which copies while programs write, and [`Begun::finish`],
//! which makes them wait; [`copy_moment`] where LVM kept the moment. Must not know plans.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use helix_model::{Reason, Timestamp};
use serde::{Deserialize, Serialize};

use super::copy::{self, Copy, PART_BYTES};
use super::lvm_thin::Moment;
use super::place::Place;
use super::{VolumeFailure, ext4, loop_file, tool};
use crate::disk::{DiskLimits, Space};
use crate::files;
use crate::machine::chain;
use crate::shared::now;

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) taken_at: Timestamp,
    /// How long writers waited.
    pub(super) paused_ms: u64,
    pub(super) size_bytes: u64,
    /// Lower-case hex sha256 of each part, `-` for one of zeros.
    pub(super) parts: Vec<String>,
}

impl Taken {
    /// What tells it from any other, in a few characters.
    pub(super) fn sha256(&self) -> String {
        copy::hash_of_all(self.size_bytes, &self.parts)
    }
}

pub(super) fn disk(dir: &Path) -> PathBuf {
    dir.join("disk.img")
}

fn list(dir: &Path) -> PathBuf {
    dir.join("snapshot.json")
}

/// The snapshot that is in a directory, if it is whole.
pub(super) fn load(dir: &Path) -> Option<Taken> {
    files::load(&list(dir)).ok().flatten()
}

/// A snapshot of which the first pass is done.
pub(super) struct Begun {
    dir: PathBuf,
    copy: Copy,
}

/// Copies what is in a volume, while programs go on writing where it is mounted.
pub(super) fn begin(
    volume: &Path,
    dir: PathBuf,
    limits: DiskLimits,
) -> Result<Begun, VolumeFailure> {
    let place = dir.clone();
    let failed = VolumeFailure::at(Reason::SnapshotFailed, "take a snapshot into", &place);
    let source = match File::open(loop_file::disk(volume)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = "volume_not_found_on_node: its data is not on this node";
            return Err(VolumeFailure::new(Reason::SnapshotFailed, message));
        }
        opened => opened.map_err(|error| failed(&error))?,
    };
    files::make_dir(&dir).map_err(|error| failed(&chain(&error)))?;
    refuse_full(&dir, copy::data_bytes(&source).map_err(|error| failed(&error))?, limits)?;
    let target = File::create(disk(&dir)).map_err(|error| failed(&error))?;
    let mut copy = Copy::new(source, target).map_err(|error| failed(&error))?;
    if ext4::is_mounted(volume) {
        copy.pass(None).map_err(|error| failed(&error))?;
    }
    Ok(Begun { dir, copy })
}

/// Refuses what would take the space that is kept for everything else.
fn refuse_full(dir: &Path, needed: u64, limits: DiskLimits) -> Result<(), VolumeFailure> {
    let Some(space) = Space::of(dir) else { return Ok(()) };
    let free = limits.volume_bytes(space);
    if needed <= free {
        return Ok(());
    }
    let size = helix_model::manifest::format_bytes;
    let message = format!(
        "pool_low_space: it may take {} of the node's disk, where {} can still be given away",
        size(needed),
        size(free)
    );
    Err(VolumeFailure::new(Reason::SnapshotFailed, message))
}

impl Begun {
    /// Makes writers wait, for no longer than `pause_max`, copies what has changed, and
    /// writes the list of parts: without it there is no snapshot.
    pub(super) fn finish(
        mut self,
        place: &Place,
        pause_max: Duration,
    ) -> Result<Taken, VolumeFailure> {
        let dir = self.dir.clone();
        let failed = VolumeFailure::at(Reason::SnapshotFailed, "take a snapshot into", &dir);
        let point = ext4::mount_point(place.dir());
        let (taken_at, paused_ms);
        if ext4::is_mounted(place.dir()) {
            let begun = Instant::now();
            let frozen = Frozen::new(place, point)?;
            taken_at = now();
            let copied = self.copy.pass(Some(pause_max.saturating_sub(begun.elapsed())));
            drop(frozen);
            paused_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            copied.map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => too_long(pause_max),
                _ => failed(&error),
            })?;
        } else {
            // Nobody writes, and nobody begins to: the place is locked.
            (taken_at, paused_ms) = (now(), 0);
            self.copy.pass(None).map_err(|error| failed(&error))?;
        }
        keep(self.copy, &self.dir, taken_at, paused_ms)
    }
}

/// Copies what LVM has kept of a volume, for which nobody waits any more.
pub(super) fn copy_moment(
    moment: &Moment,
    dir: &Path,
    limits: DiskLimits,
) -> Result<Taken, VolumeFailure> {
    let failed = VolumeFailure::at(Reason::SnapshotFailed, "take a snapshot into", dir);
    files::make_dir(dir).map_err(|error| failed(&chain(&error)))?;
    refuse_full(dir, moment.data_bytes, limits)?;
    let source = File::open(&moment.device).map_err(|error| failed(&error))?;
    let target = File::create(disk(dir)).map_err(|error| failed(&error))?;
    let mut copy = Copy::new(source, target).map_err(|error| failed(&error))?;
    copy.pass(None).map_err(|error| failed(&error))?;
    let paused_ms = u64::try_from(moment.paused.as_millis()).unwrap_or(u64::MAX);
    keep(copy, dir, moment.taken_at, paused_ms)
}

/// Writes the list of parts: without it there is no snapshot.
fn keep(
    copy: Copy,
    dir: &Path,
    taken_at: Timestamp,
    paused_ms: u64,
) -> Result<Taken, VolumeFailure> {
    let failed = VolumeFailure::at(Reason::SnapshotFailed, "keep the snapshot in", dir);
    let (size_bytes, parts) = copy.finish().map_err(|error| failed(&error))?;
    let taken = Taken { taken_at, paused_ms, size_bytes, parts };
    files::store(&list(dir), &taken).map_err(|error| failed(&chain(&error)))?;
    Ok(taken)
}

fn too_long(pause_max: Duration) -> VolumeFailure {
    let message = format!(
        "quiesce_failed: writers would have had to wait for more than {} ms while what is in the \
         volume was read; allow them a longer pause (`--max-pause 30s`), or take it while \
         nothing has the volume",
        pause_max.as_millis()
    );
    VolumeFailure::new(Reason::SnapshotFailed, message)
}

/// Copies what is in a snapshot to the beginning of a new file, and holds each part
/// against its hash on the way.
pub(super) fn restore(dir: &Path, sha256: &str, target: &File) -> Result<(), VolumeFailure> {
    let taken = load(dir).ok_or_else(|| damaged(dir, "has no list of its parts"))?;
    if taken.sha256() != sha256 {
        return Err(damaged(dir, "is not the one that was taken"));
    }
    let failed = VolumeFailure::at(Reason::VolumeCreateFailed, "copy the snapshot at", dir);
    let source = File::open(disk(dir)).map_err(|error| failed(&error))?;
    let mut buffer = vec![0; PART_BYTES];
    for (index, expected) in taken.parts.iter().enumerate() {
        let offset = copy::offset_of(index);
        let part = copy::read_part(&source, offset, taken.size_bytes, &mut buffer);
        let part = part.map_err(|error| failed(&error))?;
        if copy::hash(part) != *expected {
            return Err(damaged(dir, &format!("is damaged in part {index}")));
        }
        if *expected != copy::ZEROS {
            target.write_all_at(part, offset).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

fn damaged(dir: &Path, what: &str) -> VolumeFailure {
    let message = format!("the snapshot at {} {what}", dir.display());
    VolumeFailure::new(Reason::IntegrityCheckFailed, message)
}

/// Lets go of a file system that an agent had frozen when it was killed: nobody else
/// would, and writers would wait for ever.
pub(super) fn thaw(place: &Place) {
    let point = ext4::mount_point(place.dir());
    if ext4::is_mounted(place.dir()) {
        // Refused when it is not frozen.
        let _ = tool::run(place, "fsfreeze", &[Path::new("-u"), &point], Reason::SnapshotFailed);
    }
}

/// A file system whose writers wait, until this is dropped.
struct Frozen<'p> {
    place: &'p Place,
    point: PathBuf,
}

impl<'p> Frozen<'p> {
    fn new(place: &'p Place, point: PathBuf) -> Result<Frozen<'p>, VolumeFailure> {
        // What is still to be written goes out first, and not while they wait.
        if let Ok(root) = File::open(&point) {
            let _ = nix::unistd::syncfs(&root);
        }
        tool::must(place, "fsfreeze", &[Path::new("-f"), &point], Reason::SnapshotFailed).map_err(
            |failure| VolumeFailure {
                message: format!("quiesce_failed: {}", failure.message),
                ..failure
            },
        )?;
        Ok(Frozen { place, point })
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let arguments = [Path::new("-u"), &self.point];
        let thawed = tool::must(self.place, "fsfreeze", &arguments, Reason::SnapshotFailed);
        if let Err(error) = thawed {
            tracing::error!(place = %self.point.display(), %error, "cannot thaw a volume");
        }
    }
}
