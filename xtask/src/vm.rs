//! `cargo xtask vm`: the parts of a virtual machine with a kernel of Debian's, for
//! tests of what a container's kernel does not let anybody do: device mapper, a clock
//! that is set.
//!
//! ```text
//! vmlinuz      the kernel
//! initrd       what it needs to mount the disk, and mounts it
//! root.ext4    its first disk: Debian's programs, busybox for the rest; starts /host/init
//! ```
//! It knows nothing of tests: they bring `/host`, the second disk, and start the machine
//! (`crates/helix/tests/vm/machine.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::debian;
use crate::output::{result, say};
use crate::{image, packages, process, workspace};

/// In the name of the cached parts: raise it when what goes into them changes.
const REVISION: u32 = 1;

/// Debian's smaller kernel: all of device mapper, none of the drivers for hardware.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What a node has installed. udev is not: LVM then makes device nodes by itself.
const PROGRAMS: [&str; 10] = [
    "busybox-static",
    "dmsetup",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "lvm2",
    "mount",
    "nftables",
    "thin-provisioning-tools",
    "util-linux",
];

/// Without these there is no disk; ext4 is part of the kernel.
const FOR_THE_DISK: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// Room for the data directories of tests; sparse.
const ROOT_SIZE: &str = "4G";

const DIRECTORIES: [&str; 8] = ["dev", "host", "proc", "root", "run", "sys", "tmp", "var/lib"];

const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    // As in a container: there is no udev to make nodes.
    ("etc/lvm/lvm.conf", "activation { udev_sync = 0 udev_rules = 0 }\n"),
];

const INITRD_INIT: &str = "\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in MODULES; do /bin/busybox modprobe $module; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /init
";

const ROOT_INIT: &str = "\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -o ro /dev/vdb /host
ip link set lo up
exec /host/init
";

/// Makes the parts, unless they are there, and prints their folder.
///
/// # Errors
/// When packages cannot be fetched or a file system cannot be made of them.
pub fn run() -> Result<()> {
    let cache = workspace::cache_dir()?;
    let made = cache.join(format!("vm-{REVISION}"));
    if !made.exists() {
        say("making a virtual machine from Debian packages");
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        // Made aside and renamed, so that half of it never passes for all.
        let fresh = tempfile::tempdir_in(&cache).context("make a directory for the machine")?;
        make(fresh.path()).context("make the parts of a virtual machine")?;
        let fresh = fresh.keep();
        if let Err(error) = fs::rename(&fresh, &made) {
            fs::remove_dir_all(&fresh).context("remove what is not needed")?;
            // Another caller was quicker, which is as good.
            if !made.exists() {
                return Err(error).context("keep the parts of the machine");
            }
        }
    }
    result(&made.display().to_string());
    Ok(())
}

fn make(into: &Path) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the machine is of the architecture x86_64, and this one is not");
    }
    let root = into.join("root");
    let kernel = debian::stands_for(KERNEL)?;
    let programs: Vec<&str> = PROGRAMS.into_iter().chain([kernel.as_str()]).collect();
    debian::unpack_programs(&programs, &root)?;
    image::link_all_applets(&root)?;
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    for (path, text) in FILES {
        write(&root.join(path), text)?;
    }
    write(&root.join("init"), ROOT_INIT)?;
    let release = kernel.strip_prefix("linux-image-").unwrap_or(&kernel);
    fs::rename(root.join(format!("boot/vmlinuz-{release}")), into.join("vmlinuz"))
        .context("take the kernel out of its package")?;
    debian::remove(&root, "boot")?;
    let busybox = image::busybox(&root)?;
    process::run(Command::new(&busybox).arg("depmod").arg("-b").arg(&root).arg(release))?;
    fs::write(into.join("initrd"), initrd(&root, release, &busybox)?).context("write initrd")?;
    let mkfs = packages::find("mkfs.ext4")?.context("find mkfs.ext4")?;
    let mut command = Command::new(mkfs);
    command.args(["-q", "-F", "-d"]).arg(&root).arg(into.join("root.ext4")).arg(ROOT_SIZE);
    // It tells which file it makes even with `-q`, and our own stdout names the machine.
    process::output(&mut command)?;
    fs::remove_dir_all(&root).context("remove the unpacked packages")
}

fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

/// The archive that the kernel unpacks into memory.
fn initrd(root: &Path, release: &str, busybox: &Path) -> Result<Vec<u8>> {
    let modules = PathBuf::from("lib/modules").join(release);
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let list = read(&root.join(&modules).join("modules.dep"))?;
    let list = String::from_utf8(list).context("read modules.dep")?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "root", "lib", "lib/modules"] {
        archive.directory(directory);
    }
    archive.directory(&modules.to_string_lossy());
    archive.file("init", INITRD_INIT.replace("MODULES", &FOR_THE_DISK.join(" ")).as_bytes());
    archive.file("bin/busybox", &read(busybox)?);
    archive.file(&modules.join("modules.dep").to_string_lossy(), list.as_bytes());
    let needed = with_dependencies(&list, &FOR_THE_DISK)?;
    let folders: BTreeSet<&Path> =
        needed.iter().flat_map(|path| Path::new(path).ancestors().skip(1)).collect();
    for folder in folders.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
        archive.directory(&modules.join(folder).to_string_lossy());
    }
    for path in needed {
        let path = modules.join(path);
        archive.file(&path.to_string_lossy(), &read(&root.join(&path))?);
    }
    Ok(archive.end())
}

/// The files of modules and of those that they need, from lines `FILE: FILE …`.
fn with_dependencies<'l>(list: &'l str, names: &[&str]) -> Result<BTreeSet<&'l str>> {
    let mut needed = BTreeSet::new();
    for name in names {
        let line = list.lines().find_map(|line| {
            let (path, rest) = line.split_once(':')?;
            let stem = Path::new(path).file_name()?.to_str()?.split('.').next()?;
            (stem.replace('-', "_") == *name).then_some((path, rest))
        });
        let (path, rest) = line.with_context(|| format!("find the kernel's module {name}"))?;
        needed.extend(rest.split_whitespace().chain([path]));
    }
    Ok(needed)
}

/// An archive in the form `newc`, the one that the kernel reads.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, path: &str) {
        self.entry(path, 0o040_755, &[]);
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, 0o100_755, content);
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let mut fields = [0; 13];
        (fields[0], fields[1], fields[4]) = (self.entries as usize, mode as usize, 1);
        (fields[6], fields[11]) = (content.len(), path.len() + 1);
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_what_they_need() {
        let list = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko\n\
                    kernel/drivers/md/dm-mod.ko:\n";
        let needed = with_dependencies(list, &["ext4", "dm_mod"]).unwrap();
        assert_eq!(needed.len(), 4, "{needed:?}");
        assert!(needed.contains("kernel/lib/crc16.ko"));
        assert!(with_dependencies(list, &["xfs"]).is_err());
    }

    #[test]
    fn entries_of_the_archive_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.directory("a");
        archive.file("ab", b"12345");
        let bytes = archive.end();
        let starts = bytes.windows(6).enumerate().filter(|(_, window)| *window == b"070701");
        let starts: Vec<_> = starts.map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 3, "two and the end");
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }
}
