//! Enters the namespaces that libcontainer is not asked to make, and hides the
//! cgroup trees from it. Start at [`enter_new_namespaces`].
//!
//! Each function changes the calling process for good; call them in a process
//! made for it, never in the shim itself.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid, setgroups};

use crate::failure::{Failure, Reason};
use crate::user::User;
use crate::{sys, userns};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Enters new network and mount namespaces, for a plain user inside a new user
/// namespace in which that user bears the workload's ids.
pub(crate) fn enter_new_namespaces(rootless: bool, user: &User) -> Result<(), Failure> {
    let refused = |what: &'static str| Failure::because(Reason::IsolationUnavailable, what);
    if rootless {
        // Read before, since an unmapped process has no ids to speak of.
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER).map_err(refused("create a user namespace"))?;
        // The kernel lets a plain user map only itself, and only after giving up
        // the right to change groups.
        write_map("setgroups", "deny")
            .and_then(|()| write_map("uid_map", &format!("{} {uid} 1", user.uid)))
            .and_then(|()| write_map("gid_map", &format!("{} {gid} 1", user.gid)))
            .map_err(Failure::because(Reason::IsolationUnavailable, "map the user"))?;
    } else {
        setgroups(&[]).map_err(refused("drop supplementary groups"))?;
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(refused("create a network namespace"))?;
    enter_private_mounts()
}

/// The same with namespaces made before, short of the user namespace itself: that
/// is left to libcontainer, so that the root can be assembled with full rights.
pub(crate) fn enter_made_namespaces(made: &userns::Namespaces) -> Result<(), Failure> {
    let refused = |what: &'static str| Failure::because(Reason::IsolationUnavailable, what);
    setgroups(&[]).map_err(refused("drop supplementary groups"))?;
    setns(&made.network, CloneFlags::CLONE_NEWNET).map_err(refused("enter the network"))?;
    enter_private_mounts()
}

/// Enters a copy of the mount namespace from which nothing propagates back.
pub(crate) fn enter_private_mounts() -> Result<(), Failure> {
    let refused = |what: &'static str| Failure::because(Reason::IsolationUnavailable, what);
    unshare(CloneFlags::CLONE_NEWNS).map_err(refused("create a mount namespace"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(refused("make mounts private"))
}

/// Which namespaces of a workload to enter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    Network,
    UserAndNetwork,
}

/// Enters namespaces of a running workload.
pub(crate) fn enter_namespaces_of(pid: i32, what: Entered) -> io::Result<()> {
    let namespaces = Path::new("/proc").join(pid.to_string()).join("ns");
    if what == Entered::UserAndNetwork {
        sys::enter_namespace(&namespaces.join("user"), CloneFlags::CLONE_NEWUSER)?;
    }
    sys::enter_namespace(&namespaces.join("net"), CloneFlags::CLONE_NEWNET)
}

fn write_map(file: &str, text: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/self").join(file), text)
}

/// Covers the cgroup trees in this private mount namespace, so that libcontainer
/// finds a machine without controllers and starts anyway. Its managers refuse
/// what we tolerate: a missing controller, a read-only tree, a plain user.
pub(crate) fn hide_cgroups(name: &str) -> Result<(), Failure> {
    if !Path::new(CGROUP_ROOT).exists() {
        return Ok(());
    }
    // Refused in a user namespace, where the mounts belong to somebody else.
    let _ = umount2(CGROUP_ROOT, MntFlags::MNT_DETACH);
    mount(Some("tmpfs"), CGROUP_ROOT, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=1m"))
        .map_err(Failure::because(Reason::CgroupSetupFailed, "cover the cgroup tree"))?;
    make_decoys(name)
        .map_err(Failure::because(Reason::CgroupSetupFailed, "stand in for the cgroup tree"))
}

/// Where the v1 trees could not be detached, libcontainer still finds them in
/// the mount table and wants to join: plain files in the cover take its writes.
fn make_decoys(name: &str) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for line in table.lines().filter(|line| line.contains(" - cgroup ")) {
        let Some(at) = line.split(' ').nth(4) else {
            continue;
        };
        if !at.starts_with(CGROUP_ROOT) {
            continue;
        }
        let mut level = Path::new(at).to_owned();
        for part in ["", "helix", name] {
            level.push(part);
            fs::create_dir_all(&level)?;
            for (file, text) in [("cgroup.procs", ""), ("cpuset.cpus", "0"), ("cpuset.mems", "0")] {
                fs::write(level.join(file), text)?;
            }
        }
    }
    Ok(())
}
