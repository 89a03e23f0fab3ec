//! The file system in a volume, on whatever device: made, checked, mounted, made larger.
//! Must not know where the device comes from.
//!
//! Instances see a directory of the file system and not its root, so that a fresh
//! volume is empty (no `lost+found`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use helix_model::Reason;
use nix::mount::{MntFlags, umount2};

use super::place::Place;
use super::{VolumeFailure, mounts, tool};

/// What has to be installed.
pub(super) const PROGRAMS: [&str; 5] = ["mkfs.ext4", "e2fsck", "resize2fs", "mount", "fsfreeze"];

/// `e2fsck -p` found nothing, or repaired what it found.
const CHECKED: [i32; 2] = [0, 1];

pub(super) fn mount_point(dir: &Path) -> PathBuf {
    dir.join("mount")
}

pub(super) fn is_mounted(dir: &Path) -> bool {
    mounts::device_at(&mount_point(dir)).is_some()
}

/// Makes an empty file system.
pub(super) fn make(place: &Place, device: &Path) -> Result<(), VolumeFailure> {
    let arguments = ["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1"].map(OsStr::new);
    let arguments = [&arguments[..], &[device.as_os_str()]].concat();
    tool::must(place, "mkfs.ext4", &arguments, Reason::VolumeCreateFailed)
}

/// What was written onto the device is repaired as after the power cut that it shows,
/// made as large as it is to be, and checked from end to end.
pub(super) fn settle_written(place: &Place, device: &Path) -> Result<(), VolumeFailure> {
    let not_whole = |failure: VolumeFailure| VolumeFailure {
        reason: Reason::IntegrityCheckFailed,
        message: format!("fsck_failed: {}", failure.message),
    };
    check(place, device, &["-f", "-p"]).map_err(not_whole)?;
    resize(place, device)?;
    check(place, device, &["-f", "-n"]).map_err(not_whole)
}

/// Makes it as large as its device.
pub(super) fn resize(place: &Place, device: &Path) -> Result<(), VolumeFailure> {
    tool::must(place, "resize2fs", &[device], Reason::VolumeCreateFailed)
}

/// Refuses to resize what is mounted where the kernel would.
pub(super) fn must_grow_mounted() -> Result<(), VolumeFailure> {
    if may_grow_mounted() {
        return Ok(());
    }
    let message = "it grows when its instance next starts, for example with `helix deploy`: this \
                   machine does not let the agent grow what is mounted (no CAP_SYS_RESOURCE)";
    Err(VolumeFailure::new(Reason::VolumeCreateFailed, message.to_owned()))
}

/// Whether the kernel lets us resize a mounted ext4: it asks for this capability
/// and no other, and containers often do not have it. Without it the answer would be
/// a bare "permission denied". Where it cannot be told, the kernel is asked.
pub(super) fn may_grow_mounted() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    held.is_none_or(|held| held & (1 << CAP_SYS_RESOURCE) != 0)
}

/// Mounts a device with these options besides the usual ones.
pub(super) fn mount(place: &Place, device: &Path, more: &str) -> Result<(), VolumeFailure> {
    let point = mount_point(place.dir());
    let failed = VolumeFailure::at(Reason::VolumeAttachFailed, "prepare", &point);
    std::fs::create_dir_all(&point).map_err(|error| failed(&error))?;
    let options = ["noatime,nosuid,nodev", more].map(str::trim).join(",");
    let options = options.trim_end_matches(',');
    let arguments = ["-t", "ext4", "-o", options, "--"].map(OsStr::new);
    let arguments = [&arguments[..], &[device.as_os_str(), point.as_os_str()]].concat();
    tool::must(place, "mount", &arguments, Reason::VolumeAttachFailed)
}

/// Where the data is, of what is mounted.
pub(super) fn data(place: &Place) -> Result<PathBuf, VolumeFailure> {
    let data = mount_point(place.dir()).join("data");
    match std::fs::create_dir(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(VolumeFailure::at(Reason::VolumeAttachFailed, "prepare", &data)(&error))
        }
        _ => Ok(data),
    }
}

/// Repairs what a crash leaves; what is worse is left to a person.
pub(super) fn check(place: &Place, disk: &Path, options: &[&str]) -> Result<(), VolumeFailure> {
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
