//! A volume that is a thin volume of LVM with an ext4 file system, in the pool that an
//! operator has named: no more fits in than its size.
//!
//! ```text
//! VG/helix_<id>        the volume
//! VG/helix_<id>.next   one that is being made; renamed when it is whole
//! VG/helix_<id>.snap   what is in the volume at a moment, while it is copied
//! ```
//! What is left of the latter two after the agent was killed is removed by whoever makes
//! the next.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use helix_model::{Reason, Timestamp};

use super::place::Place;
use super::pool::{PREFIX, Pool, hundredths, part_of};
use super::{VolumeFailure, ext4, tool};
use crate::shared::now;

/// What the snapshot needs of the pool at least, while it is copied.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// Blocks of deleted files go back to the pool.
const OPTIONS: &str = "discard";

/// One volume, by the directory that it has here.
struct Names<'p> {
    pool: &'p Pool,
    own: String,
}

impl<'p> Names<'p> {
    fn of(pool: &'p Pool, dir: &Path) -> Names<'p> {
        let id = dir.file_name().unwrap_or_default().to_string_lossy();
        Names { pool, own: format!("{PREFIX}{id}") }
    }

    fn next(&self) -> String {
        format!("{}.next", self.own)
    }

    fn snap(&self) -> String {
        format!("{}.snap", self.own)
    }

    /// As LVM writes it.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.pool.group())
    }

    fn device(&self, name: &str) -> PathBuf {
        Path::new("/dev").join(self.path(name))
    }

    /// What LVM says of one in a column; `None` when it is not there. One that cannot be
    /// read is an error, and never passes for one that is not there.
    fn column(&self, name: &str, column: &str) -> Result<Option<String>, VolumeFailure> {
        let condition = format!("lv_name={name}");
        let columns = format!("lv_name,{column}");
        let text = self.pool.read(&["-o", &columns, "-S", &condition, self.pool.group()])?;
        let row = text.lines().find_map(|line| line.trim().split_once('|'));
        Ok(row.map(|(_, value)| value.trim().to_owned()))
    }

    fn remove(&self, place: &Place, name: &str) -> Result<(), VolumeFailure> {
        if self.column(name, "lv_size")?.is_none() {
            return Ok(());
        }
        let arguments = ["--yes", &self.path(name)];
        tool::must(place, "lvremove", &arguments, Reason::VolumeAttachFailed)
    }

    fn activate(&self, place: &Place, name: &str) -> Result<PathBuf, VolumeFailure> {
        let arguments = ["--activate", "y", "--ignoreactivationskip", &self.path(name)];
        tool::must(place, "lvchange", &arguments, Reason::VolumeAttachFailed)?;
        Ok(self.device(name))
    }
}

pub(super) fn exists(pool: &Pool, dir: &Path) -> Result<bool, VolumeFailure> {
    let names = Names::of(pool, dir);
    Ok(names.column(&names.own, "lv_size")?.is_some())
}

/// Makes it under another name first: one that is there under its own is whole.
pub(super) fn create(
    place: &Place,
    pool: &Pool,
    size_bytes: u64,
    write: Option<impl FnOnce(&File) -> Result<(), VolumeFailure>>,
) -> Result<(), VolumeFailure> {
    let reason = Reason::VolumeCreateFailed;
    let names = Names::of(pool, place.dir());
    let next = names.next();
    names.remove(place, &next)?;
    pool.refuse_full(size_bytes, reason)?;
    let (size, thin_pool) = (format!("{size_bytes}b"), pool.path());
    let arguments =
        ["--yes", "--virtualsize", &size, "--thinpool", &thin_pool, "--name", next.as_str()];
    tool::must(place, "lvcreate", &arguments, reason)?;
    let made = match write {
        None => ext4::make(place, &names.device(&next)),
        Some(write) => write_next(place, &names.device(&next), write),
    };
    if let Err(failure) = made {
        // Half of it is of no use to anybody; the next attempt removes it otherwise.
        let _ = names.remove(place, &next);
        return Err(failure);
    }
    tool::must(place, "lvrename", &[pool.group(), &next, &names.own], reason)
}

fn write_next(
    place: &Place,
    device: &Path,
    write: impl FnOnce(&File) -> Result<(), VolumeFailure>,
) -> Result<(), VolumeFailure> {
    let failed = VolumeFailure::at(Reason::VolumeCreateFailed, "write", device);
    let file = File::options().read(true).write(true).open(device);
    let file = file.map_err(|error| failed(&error))?;
    write(&file)?;
    file.sync_all().map_err(|error| failed(&error))?;
    drop(file);
    ext4::settle_written(place, device)
}

/// Makes it longer, then what is in it; while it is mounted, too.
pub(super) fn grow(place: &Place, pool: &Pool, size_bytes: u64) -> Result<(), VolumeFailure> {
    let names = Names::of(pool, place.dir());
    let reason = Reason::VolumeCreateFailed;
    let size = names.column(&names.own, "lv_size")?;
    let has: u64 = size.and_then(|size| size.parse().ok()).unwrap_or_default();
    if has < size_bytes {
        pool.refuse_full(size_bytes - has, reason)?;
        let arguments = ["--yes", "--size", &format!("{size_bytes}b"), &names.path(&names.own)];
        tool::must(place, "lvextend", &arguments, reason)?;
    }
    let device = names.activate(place, &names.own)?;
    if is_open(&names)? {
        ext4::must_grow_mounted()?;
    } else {
        // It only resizes what was checked from end to end just before.
        ext4::check(place, &device, &["-f", "-p"])?;
    }
    ext4::resize(place, &device)
}

/// Whether a program has it, in whichever mount namespace.
fn is_open(names: &Names<'_>) -> Result<bool, VolumeFailure> {
    let column = names.column(&names.own, "lv_device_open")?;
    Ok(column.is_some_and(|value| value == "open"))
}

/// Mounts a volume unless it is; where its data is.
pub(super) fn mount(place: &Place, pool: &Pool) -> Result<PathBuf, VolumeFailure> {
    if !ext4::is_mounted(place.dir()) {
        let names = Names::of(pool, place.dir());
        let device = names.activate(place, &names.own)?;
        // What a program still has is mounted already, and no check may touch it.
        if !is_open(&names)? {
            ext4::check(place, &device, &["-p"])?;
        }
        ext4::mount(place, &device, OPTIONS)?;
    }
    ext4::data(place)
}

/// Removes all of a volume that is in the pool.
pub(super) fn remove(place: &Place, pool: &Pool) -> Result<(), VolumeFailure> {
    let names = Names::of(pool, place.dir());
    for name in [names.snap(), names.next(), names.own.clone()] {
        names.remove(place, &name)?;
    }
    Ok(())
}

/// What was in a volume at a moment, for as long as it is copied.
pub(super) struct Moment {
    pub(super) device: PathBuf,
    /// What was ever written to it.
    pub(super) data_bytes: u64,
    pub(super) taken_at: Timestamp,
    pub(super) paused: Duration,
}

/// Has LVM keep what is in a volume now. The kernel makes writers wait for that moment
/// and brings the file system into order first, as `fsfreeze` would.
pub(super) fn moment(place: &Place, pool: &Pool) -> Result<Moment, VolumeFailure> {
    let names = Names::of(pool, place.dir());
    let (own, snap) = (names.own.clone(), names.snap());
    if !exists(pool, place.dir())? {
        let message = "volume_not_found_on_node: its data is not on this node";
        return Err(VolumeFailure::new(Reason::SnapshotFailed, message));
    }
    let failed = |failure: VolumeFailure| VolumeFailure {
        reason: Reason::SnapshotFailed,
        message: format!("snapshot_create_failed: lvm_error: {}", failure.message),
    };
    forget_moment(place, pool).map_err(failed)?;
    pool.refuse_full(SNAPSHOT_BYTES, Reason::SnapshotFailed)?;
    let (taken_at, begun) = (now(), Instant::now());
    let source = names.path(&own);
    let arguments =
        ["--yes", "--snapshot", "--setactivationskip", "n", "--name", snap.as_str(), &source];
    tool::must(place, "lvcreate", &arguments, Reason::SnapshotFailed).map_err(failed)?;
    let paused = begun.elapsed();
    let device = names.activate(place, &snap).map_err(failed)?;
    let size: Option<u64> = names.column(&snap, "lv_size")?.and_then(|it| it.parse().ok());
    let filled = names.column(&snap, "data_percent")?.and_then(|it| hundredths(&it));
    let data_bytes = part_of(size.unwrap_or_default(), filled.unwrap_or(100 * 100));
    Ok(Moment { device, data_bytes, taken_at, paused })
}

/// Lets go of what was kept.
pub(super) fn forget_moment(place: &Place, pool: &Pool) -> Result<(), VolumeFailure> {
    let names = Names::of(pool, place.dir());
    names.remove(place, &names.snap())
}
