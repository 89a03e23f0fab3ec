//! A volume that is an ext4 file system in a file, mounted by a loop device: no
//! more fits in than its size, and what is full is the volume alone.
//!
//! Its space is set aside when it is made (`fallocate`), so that it cannot run out
//! of it later because something else took it; a sparse file would turn a full disk
//! of the machine into errors inside. Instances see a directory of the file system
//! and not its root, so that a fresh volume is empty (no `lost+found`).
//!
//! Mounting sets the loop device up in the same breath and has the kernel take it
//! down with the last user (`autoclear`): an agent that is killed in between leaves
//! nothing that has to be found again.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use helix_model::Reason;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, umount2};

use super::place::Place;
use super::{VolumeFailure, mounts, tool};

/// What has to be installed.
const PROGRAMS: [&str; 6] = ["mkfs.ext4", "e2fsck", "resize2fs", "mount", "losetup", "fsfreeze"];

/// `e2fsck -p` found nothing, or repaired what it found.
const CHECKED: [i32; 2] = [0, 1];

/// How long what nobody has mounted any more is waited for: on a busy machine the kernel
/// takes its time with the mounts of a container that has ended.
const LET_GO_WAIT: Duration = Duration::from_secs(3);
const LET_GO_INTERVAL: Duration = Duration::from_millis(20);

/// Why it cannot be done here; `None` when it can.
pub(super) fn unavailable() -> Option<String> {
    if !Path::new("/dev/loop-control").exists() {
        return Some("this machine has no loop devices".to_owned());
    }
    let missing = PROGRAMS.iter().find(|program| !tool::is_there(program));
    missing.map(|program| format!("`{program}` is not installed"))
}

pub(super) fn disk(dir: &Path) -> PathBuf {
    dir.join("disk.img")
}

pub(super) fn mount_point(dir: &Path) -> PathBuf {
    dir.join("mount")
}

pub(super) fn is_mounted(dir: &Path) -> bool {
    mounts::device_at(&mount_point(dir)).is_some()
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
    let arguments = ["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1"].map(OsStr::new);
    let arguments = [&arguments[..], &[next.as_os_str()]].concat();
    tool::must(place, "mkfs.ext4", &arguments, Reason::VolumeCreateFailed)?;
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
    let not_whole = |failure: VolumeFailure| VolumeFailure {
        reason: Reason::IntegrityCheckFailed,
        message: format!("fsck_failed: {}", failure.message),
    };
    check(place, next, &["-f", "-p"]).map_err(not_whole)?;
    tool::must(place, "resize2fs", &[next], reason)?;
    check(place, next, &["-f", "-n"]).map_err(not_whole)?;
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
            if !may_grow_mounted() {
                let message = "it grows when its instance next starts, for example with `helix \
                               deploy`: this machine does not let the agent grow what is mounted \
                               (no CAP_SYS_RESOURCE)";
                return Err(VolumeFailure::new(reason, message.to_owned()));
            }
            tool::must(place, "losetup", &[OsStr::new("-c"), device.as_os_str()], reason)?;
            tool::must(place, "resize2fs", &[device], reason)
        }
        None => {
            // It only resizes what was checked from end to end just before.
            check(place, &disk, &["-f", "-p"])?;
            tool::must(place, "resize2fs", &[&disk], reason)
        }
    }
}

/// The device through which a volume is mounted. What is mounted nowhere here any more is
/// waited for: the kernel takes the mounts of an instance that has ended apart only after
/// its last process is gone.
fn device_in_use(place: &Place, disk: &Path) -> Option<PathBuf> {
    let is_ours = is_mounted(place.dir());
    let deadline = Instant::now() + LET_GO_WAIT;
    loop {
        let device = mounts::loop_device_of(disk)?;
        if is_ours || may_grow_mounted() || Instant::now() > deadline {
            return Some(device);
        }
        std::thread::sleep(LET_GO_INTERVAL);
    }
}

/// Whether the kernel lets us resize a mounted ext4: it asks for this capability
/// and no other, and containers often do not have it. Without it the answer would be
/// a bare "permission denied". Where it cannot be told, the kernel is asked.
fn may_grow_mounted() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    held.is_none_or(|held| held & (1 << CAP_SYS_RESOURCE) != 0)
}

/// Mounts a volume unless it is; where its data is.
pub(super) fn mount(place: &Place) -> Result<PathBuf, VolumeFailure> {
    let (disk, point) = (disk(place.dir()), mount_point(place.dir()));
    let failed = VolumeFailure::at(Reason::VolumeAttachFailed, "prepare", &point);
    if mounts::device_at(&point).is_none() {
        std::fs::create_dir_all(&point).map_err(|error| failed(&error))?;
        // A program that has not ended may still have it: then it is the same device
        // again, for two of one file would destroy what is in it.
        let (options, source) = match mounts::loop_device_of(&disk) {
            Some(device) => ("noatime,nosuid,nodev", device),
            None => {
                check(place, &disk, &["-p"])?;
                ("loop,noatime,nosuid,nodev", disk)
            }
        };
        let arguments = ["-t", "ext4", "-o", options, "--"].map(OsStr::new);
        let arguments = [&arguments[..], &[source.as_os_str(), point.as_os_str()]].concat();
        tool::must(place, "mount", &arguments, Reason::VolumeAttachFailed)?;
    }
    let data = point.join("data");
    match std::fs::create_dir(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(&error)),
        _ => Ok(data),
    }
}

/// Repairs what a crash leaves; what is worse is left to a person.
fn check(place: &Place, disk: &Path, options: &[&str]) -> Result<(), VolumeFailure> {
    let options = options.iter().map(OsStr::new);
    let arguments: Vec<&OsStr> = options.chain([disk.as_os_str()]).collect();
    let outcome = tool::run(place, "e2fsck", &arguments, Reason::VolumeAttachFailed)?;
    if outcome.code.is_some_and(|code| CHECKED.contains(&code)) {
        return Ok(());
    }
    let message = format!("e2fsck does not repair it unasked: {}", outcome.said);
    Err(VolumeFailure::new(Reason::VolumeDamaged, message))
}

/// Unmounts a volume if it is mounted.
pub(super) fn unmount(dir: &Path) -> Result<(), VolumeFailure> {
    let place = mount_point(dir);
    while mounts::device_at(&place).is_some() {
        umount2(&place, MntFlags::empty()).map_err(|errno| {
            VolumeFailure::at(Reason::VolumeAttachFailed, "unmount", &place)(&errno)
        })?;
    }
    Ok(())
}
