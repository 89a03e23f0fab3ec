//! A volume that is an ext4 file system in a file, mounted by a loop device: no
//! more fits in than its size, and what is full is the volume alone.
//!
//! Its space is set aside when it is made (`fallocate`), so that it cannot run out
//! of it later because something else took it; a sparse file would turn a full disk
//! of the machine into errors inside.
//!
//! Mounting sets the loop device up in the same breath and has the kernel take it
//! down with the last user (`autoclear`): an agent that is killed in between leaves
//! nothing that has to be found again.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use helix_model::Reason;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::place::Place;
use super::{VolumeFailure, ext4, mounts, tool};

/// How long what nobody has mounted any more is waited for: on a busy machine the kernel
/// takes its time with the mounts of a container that has ended.
const LET_GO_WAIT: Duration = Duration::from_secs(3);
const LET_GO_INTERVAL: Duration = Duration::from_millis(20);

/// Why it cannot be done here; `None` when it can.
pub(super) fn unavailable() -> Option<String> {
    if !Path::new("/dev/loop-control").exists() {
        return Some("this machine has no loop devices".to_owned());
    }
    let programs = ["losetup"].into_iter().chain(ext4::PROGRAMS);
    let missing = programs.into_iter().find(|program| !tool::is_there(program));
    missing.map(|program| format!("`{program}` is not installed"))
}

pub(super) fn disk(dir: &Path) -> PathBuf {
    dir.join("disk.img")
}

pub(super) fn exists(dir: &Path) -> bool {
    disk(dir).is_file()
}

/// What a volume takes of the machine's disk.
pub(super) fn allocated_bytes(dir: &Path) -> u64 {
    std::fs::metadata(disk(dir)).map_or(0, |meta| meta.blocks().saturating_mul(512))
}

/// Makes the file system under another name first: one that is there under its own
/// is whole.
pub(super) fn create(place: &Place, size_bytes: u64) -> Result<(), VolumeFailure> {
    let dir = place.dir();
    let next = dir.join("disk.img.next");
    let failed = VolumeFailure::at(Reason::VolumeCreateFailed, "make", &next);
    let file = File::create(&next).map_err(|error| failed(&error))?;
    set_aside(&file, size_bytes).map_err(|errno| failed(&errno))?;
    ext4::make(place, &next)?;
    put_in_place(&file, &next, dir)
}

/// Makes the file system from what is written into the file: repaired as after the
/// power cut that it shows, made as large as it is to be, and checked from end to end.
pub(super) fn create_from(
    place: &Place,
    size_bytes: u64,
    write: impl FnOnce(&File) -> Result<(), VolumeFailure>,
) -> Result<(), VolumeFailure> {
    let next = place.dir().join("disk.img.next");
    let made = write_next(place, &next, size_bytes, write);
    if made.is_err() {
        // Half of it is of no use to anybody, and takes the space of the whole.
        let _ = std::fs::remove_file(&next);
    }
    made
}

fn write_next(
    place: &Place,
    next: &Path,
    size_bytes: u64,
    write: impl FnOnce(&File) -> Result<(), VolumeFailure>,
) -> Result<(), VolumeFailure> {
    let reason = Reason::VolumeCreateFailed;
    let failed = VolumeFailure::at(reason, "make", next);
    let file = File::create(next).map_err(|error| failed(&error))?;
    set_aside(&file, size_bytes).map_err(|errno| failed(&errno))?;
    write(&file)?;
    ext4::settle_written(place, next)?;
    put_in_place(&file, next, place.dir())
}

fn put_in_place(file: &File, next: &Path, dir: &Path) -> Result<(), VolumeFailure> {
    let failed = VolumeFailure::at(Reason::VolumeCreateFailed, "keep", next);
    file.sync_all().map_err(|error| failed(&error))?;
    std::fs::rename(next, disk(dir)).map_err(|error| failed(&error))?;
    let folder = File::open(dir).map_err(|error| failed(&error))?;
    folder.sync_all().map_err(|error| failed(&error))
}

/// Sets the space of a file aside; where the file system below cannot, the file is
/// only as long.
fn set_aside(file: &File, size_bytes: u64) -> nix::Result<()> {
    let length = i64::try_from(size_bytes).map_err(|_| Errno::EFBIG)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP) => nix::unistd::ftruncate(file, length),
        result => result,
    }
}

/// Makes the file longer, then what is in it; while it is mounted, too.
pub(super) fn grow(place: &Place, size_bytes: u64) -> Result<(), VolumeFailure> {
    let disk = disk(place.dir());
    let reason = Reason::VolumeCreateFailed;
    let failed = VolumeFailure::at(reason, "make longer", &disk);
    let file = File::options().write(true).open(&disk).map_err(|error| failed(&error))?;
    let has = file.metadata().map_err(|error| failed(&error))?.len();
    if has < size_bytes {
        set_aside(&file, size_bytes).map_err(|errno| failed(&errno))?;
        file.sync_all().map_err(|error| failed(&error))?;
    }
    match device_in_use(place, &disk) {
        Some(device) => {
            ext4::must_grow_mounted()?;
            tool::must(place, "losetup", &[Path::new("-c"), &device], reason)?;
            ext4::resize(place, &device)
        }
        None => {
            // It only resizes what was checked from end to end just before.
            ext4::check(place, &disk, &["-f", "-p"])?;
            ext4::resize(place, &disk)
        }
    }
}

/// The device through which a volume is mounted. What is mounted nowhere here any more is
/// waited for: the kernel takes the mounts of an instance that has ended apart only after
/// its last process is gone.
fn device_in_use(place: &Place, disk: &Path) -> Option<PathBuf> {
    let is_ours = ext4::is_mounted(place.dir());
    let deadline = Instant::now() + LET_GO_WAIT;
    loop {
        let device = mounts::loop_device_of(disk)?;
        if is_ours || ext4::may_grow_mounted() || Instant::now() > deadline {
            return Some(device);
        }
        std::thread::sleep(LET_GO_INTERVAL);
    }
}

/// Mounts a volume unless it is; where its data is.
pub(super) fn mount(place: &Place) -> Result<PathBuf, VolumeFailure> {
    if !ext4::is_mounted(place.dir()) {
        let disk = disk(place.dir());
        // A program that has not ended may still have it: then it is the same device
        // again, for two of one file would destroy what is in it.
        match mounts::loop_device_of(&disk) {
            Some(device) => ext4::mount(place, &device, "")?,
            None => {
                ext4::check(place, &disk, &["-p"])?;
                ext4::mount(place, &disk, "loop")?;
            }
        }
    }
    ext4::data(place)
}
