//! The writable root of one instance: an overlay on the image's shared tree, a
//! plain copy where the kernel refuses overlays (plain users on old kernels,
//! instance directories that are themselves on an overlay). Start at
//! [`prepare`] and [`mount`].
//!
//! The overlay is mounted in the launcher's private mount namespace, so it
//! disappears with the instance and leaves nothing to unmount. It must not know
//! how the image came to be unpacked.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::spec::{InstanceSpec, NetworkSpec};
use crate::sys::{self, MappedMount};
use crate::userns::IdRange;

/// Where the root of an instance with a user namespace is assembled: its own root
/// is a stranger outside and cannot enter the folders that lead to the instance
/// directory. The cover over the cgroup tree is the one directory of the
/// launcher's mount namespace that is ours and open to everybody.
pub(crate) const STAGE: &str = "/sys/fs/cgroup/stage";

/// The directories of one instance's root.
pub(crate) struct Layout {
    /// Writable layer.
    upper: PathBuf,
    /// Scratch of the overlay driver.
    work: PathBuf,
    /// Where the root is assembled.
    pub(crate) merged: PathBuf,
    /// Generated files mounted over the image's.
    pub(crate) etc: PathBuf,
    /// Where secrets are placed, in memory.
    pub(crate) secrets: PathBuf,
}

impl Layout {
    pub(crate) fn of(dir: &Path) -> Self {
        Self {
            upper: dir.join("upper"),
            work: dir.join("work"),
            merged: dir.join("merged"),
            etc: dir.join("etc"),
            secrets: dir.join("secrets"),
        }
    }

    /// The same with what is mounted where root inside a user namespace reaches
    /// it, see [`STAGE`].
    pub(crate) fn on_stage(self) -> Self {
        let stage = Path::new(STAGE);
        Self {
            merged: stage.join("merged"),
            etc: stage.join("etc"),
            secrets: stage.join("secrets"),
            ..self
        }
    }

    fn all(&self) -> [&Path; 5] {
        [&self.upper, &self.work, &self.merged, &self.etc, &self.secrets]
    }
}

/// Makes the directories anew, so every start begins from the image, and writes
/// the generated files.
pub(crate) fn prepare(layout: &Layout, spec: &InstanceSpec) -> Result<(), Failure> {
    remove(layout).map_err(Failure::because(Reason::RootfsBuildFailed, "remove the old root"))?;
    for path in layout.all() {
        fs::create_dir_all(path)
            .map_err(|error| Failure::io(Reason::RootfsBuildFailed, "create", path, &error))?;
    }
    // The workload may run as any user and has to enter its own root directory.
    let mode = fs::metadata(&spec.rootfs).map(|meta| meta.permissions()).map_err(|error| {
        Failure::io(Reason::RootfsBuildFailed, "read the image at", &spec.rootfs, &error)
    })?;
    for path in [&layout.upper, &layout.merged] {
        fs::set_permissions(path, mode.clone())
            .map_err(|error| Failure::io(Reason::RootfsBuildFailed, "chmod", path, &error))?;
    }
    for (name, text) in generated_files(spec) {
        let path = layout.etc.join(name);
        fs::write(&path, text)
            .map_err(|error| Failure::io(Reason::RootfsBuildFailed, "write", &path, &error))?;
    }
    Ok(())
}

/// The files of `/etc` that depend on the instance, by name.
fn generated_files(spec: &InstanceSpec) -> Vec<(&'static str, String)> {
    let mut files =
        vec![(hosts::FILE, hosts::text(spec)), ("hostname", format!("{}\n", spec.hostname))];
    if let NetworkSpec::Veth(veth) = &spec.network
        && !veth.dns.is_empty()
    {
        let lines = veth.dns.iter().map(|server| format!("nameserver {server}\n"));
        files.push(("resolv.conf", lines.collect()));
    }
    files
}

/// Assembles the root at `layout.merged`. Runs in a private mount namespace.
/// Returns a note when the weaker copy was used.
pub(crate) fn mount(
    layout: &Layout,
    rootfs: &Path,
    rootless: bool,
) -> Result<Option<String>, Failure> {
    let Err(errno) = mount_overlay(layout, rootfs, rootless) else {
        return Ok(None);
    };
    copy_tree(rootfs, &layout.merged, !rootless).map_err(|error| {
        let detail = format!("copy {} (overlay refused: {errno}): {error}", rootfs.display());
        Failure::new(Reason::RootfsBuildFailed, detail)
    })?;
    Ok(Some(format!("the root is a full copy of the image: overlay refused ({errno})")))
}

/// Makes the directories of [`Layout::on_stage`], in a cover of the cgroup tree.
pub(crate) fn prepare_stage(staged: &Layout) -> Result<(), Failure> {
    [&staged.merged, &staged.etc].into_iter().try_for_each(|path| {
        fs::create_dir_all(path)
            .map_err(|error| Failure::io(Reason::IsolationUnavailable, "create", path, &error))
    })
}

/// Assembles the root as seen from a user namespace: what id 0 owns in the image
/// belongs to its root, and so on. The writable layer holds ids of the range, so
/// the image itself stays shared by instances of different ranges. Returns the
/// layout with the root in place.
pub(crate) fn mount_mapped(
    plain: Layout,
    rootfs: &Path,
    ids: IdRange,
    user_namespace: BorrowedFd<'_>,
) -> Result<Layout, Failure> {
    let failed = |verb: &'static str, path: &Path, error: &dyn std::fmt::Display| {
        Failure::io(Reason::IsolationUnavailable, verb, path, error)
    };
    let owner = ids.outside(0);
    let generated = plain.etc.clone();
    let staged = plain.on_stage();
    prepare_stage(&staged)?;
    // The files themselves and no copies, because `hosts` changes while it runs.
    sys::mount_with_mapped_owners(&generated, &staged.etc, user_namespace, MappedMount::IMAGE)
        .map_err(|errno| failed("map the owners of", &generated, &errno))?;
    lchown(&staged.upper, owner, owner).map_err(|error| failed("chown", &staged.upper, &error))?;
    let lower = Path::new(STAGE).join("lower");
    fs::create_dir_all(&lower).map_err(|error| failed("create", &lower, &error))?;
    sys::mount_with_mapped_owners(rootfs, &lower, user_namespace, MappedMount::IMAGE)
        .map_err(|errno| failed("map the owners of", rootfs, &errno))?;
    mount_overlay(&staged, &lower, false)
        .map_err(|errno| failed("overlay with mapped owners", rootfs, &errno))?;
    // The overlay holds the view; nobody else needs to see it.
    umount2(&lower, MntFlags::MNT_DETACH).map_err(|errno| failed("detach", &lower, &errno))?;
    Ok(staged)
}

fn mount_overlay(layout: &Layout, rootfs: &Path, rootless: bool) -> nix::Result<()> {
    let base = format!(
        "lowerdir={},upperdir={},workdir={}",
        escaped(rootfs),
        escaped(&layout.upper),
        escaped(&layout.work)
    );
    let user = if rootless { ",userxattr" } else { "" };
    let mount = |options: &str| {
        let (kind, flags) = (Some("overlay"), MsFlags::empty());
        nix::mount::mount(kind, &layout.merged, kind, flags, Some(options))
    };
    // `volatile` skips syncing a layer that does not outlive the instance; older
    // kernels do not know it.
    match mount(&format!("{base}{user},volatile")) {
        Err(Errno::EINVAL) => mount(&format!("{base}{user}")),
        result => result,
    }
}

/// Overlay options separate by comma and lower layers by colon.
fn escaped(path: &Path) -> String {
    let mut out = String::new();
    for character in path.to_string_lossy().chars() {
        if matches!(character, '\\' | ',' | ':') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Copies a tree with modes and links, and with owners where the caller may give
/// files away. Device nodes and sockets are left out: a plain user cannot make
/// them, and `/dev` is the instance's own anyway.
fn copy_tree(from: &Path, to: &Path, owners: bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = entry.metadata()?;
        if meta.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if meta.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target, owners)?;
        } else if meta.is_file() {
            fs::copy(&source, &target)?;
        } else {
            continue;
        }
        if owners {
            lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        }
        if !meta.is_symlink() {
            // Last, since changing the owner clears the set-id bits.
            fs::set_permissions(&target, meta.permissions())?;
        }
    }
    Ok(())
}

/// Removes an instance's root and generated files. Absent ones are fine.
pub(crate) fn remove(layout: &Layout) -> io::Result<()> {
    // Mounted only if a mount escaped its namespace; then it must not be walked.
    let _ = umount2(&layout.merged, MntFlags::MNT_DETACH);
    // The overlay driver leaves a directory without any permission in `work`.
    let scratch = layout.work.join("work");
    if scratch.is_dir() {
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o700))?;
    }
    layout.all().into_iter().try_for_each(remove_tree)
}

/// `remove_dir_all` that also removes directories their owner made unreadable.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_directories(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_separators_are_escaped() {
        assert_eq!(escaped(Path::new("/a,b:c\\d")), "/a\\,b\\:c\\\\d");
    }

    #[test]
    fn a_copy_keeps_links_and_modes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("bin/app"), "x").unwrap();
        fs::set_permissions(from.join("bin/app"), fs::Permissions::from_mode(0o751)).unwrap();
        symlink("bin/app", from.join("link")).unwrap();
        copy_tree(&from, &to, false).unwrap();
        assert_eq!(fs::metadata(to.join("bin/app")).unwrap().mode() & 0o777, 0o751);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("bin/app"));
    }
}
