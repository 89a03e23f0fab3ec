//! What the kernel says of mounts and loop devices: read, never remembered, so that
//! an agent that was killed finds things as they are.

use std::path::{Path, PathBuf};

/// The device that is mounted at a path.
pub(super) fn device_at(path: &Path) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    device_in(&table, &path.canonicalize().ok()?)
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS … - TYPE DEVICE …`; of several
/// mounts at one place the last counts.
fn device_in(table: &str, path: &Path) -> Option<PathBuf> {
    let wanted = escaped(path);
    let device = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        let is_there = place.split(' ').nth(4) == Some(wanted.as_str());
        is_there.then(|| source.split(' ').nth(1).map(PathBuf::from)).flatten()
    };
    table.lines().filter_map(device).next_back()
}

/// The table writes white space and backslashes in octal.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        match character {
            ' ' => text.push_str("\\040"),
            '\t' => text.push_str("\\011"),
            '\n' => text.push_str("\\012"),
            '\\' => text.push_str("\\134"),
            other => text.push(other),
        }
    }
    text
}

/// The loop device that a file is behind.
pub(super) fn loop_device_of(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().ok()?;
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.map(|device| device.path()).find_map(|device| {
        let backing = std::fs::read_to_string(device.join("loop/backing_file")).ok()?;
        let name = device.file_name()?;
        (Path::new(backing.trim_end_matches('\n')) == file).then(|| Path::new("/dev").join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_place() {
        let table = "36 35 98:0 / /data/a\\040b rw,noatime shared:1 - ext4 /dev/loop3 rw\n\
                     37 35 98:0 / /data/c rw - ext4 /dev/loop4 rw\n\
                     38 35 98:0 / /data/c rw - ext4 /dev/loop5 rw\n";
        let at = |path: &str| device_in(table, Path::new(path));
        assert_eq!(at("/data/a b"), Some("/dev/loop3".into()));
        assert_eq!(at("/data/c"), Some("/dev/loop5".into()));
        assert_eq!(at("/data"), None);
    }
}
