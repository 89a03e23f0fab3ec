//! Finds out what isolation this machine allows by trying it. Start at
//! [`probe`].
//!
//! Trying is the only honest way: kernels, containers around us and security
//! modules all refuse in their own manner. Each trial happens in a process of
//! its own and leaves nothing. It must not decide which level is used.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{geteuid, pipe2};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroup, CgroupVersion};
use crate::shim::{PROBE_ARGUMENT, jail};
use crate::spec::{Isolation, Resources};
use crate::status::Limits;
use crate::sys::{self, MappedMount};
use crate::user::User;
use crate::userns::{self, IdRange};

/// What this machine allows the calling user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Every level, strongest first.
    pub levels: Vec<Level>,
    /// The kind of cgroups mounted, if any.
    pub cgroup_version: Option<CgroupVersion>,
    /// Whether memory and process limits can be enforced.
    pub limits: Limits,
}

impl Capabilities {
    /// The strongest level that works.
    #[must_use]
    pub fn best(&self) -> Option<&Level> {
        self.levels.iter().find(|level| level.available)
    }
}

/// One isolation level on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Which one.
    pub isolation: Isolation,
    /// Whether it works here, now, for this user.
    pub available: bool,
    /// What was found, for people.
    pub reason: String,
    /// What would make it available or better.
    pub advice: Option<String>,
}

/// Tries every level. `helix_exe` is the binary whose `shim` argument runs
/// [`crate::shim_main`]: trials need a process without threads.
pub async fn probe(helix_exe: &Path) -> io::Result<Capabilities> {
    let output = tokio::process::Command::new(helix_exe)
        .args(["shim", PROBE_ARGUMENT])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the isolation probe ended with {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Prints the findings as JSON on standard output.
pub(crate) fn print_here() -> ExitCode {
    let written = serde_json::to_vec(&probe_here())
        .map_err(io::Error::other)
        .and_then(|json| io::stdout().write_all(&json));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn probe_here() -> Capabilities {
    let (cgroup, limits) = try_cgroup();
    if let Some(cgroup) = cgroup {
        // Empty, so removal cannot be refused for long; a leftover is harmless.
        let _ = cgroup.remove();
    }
    Capabilities {
        levels: vec![container(&limits), rootless(&limits), process()],
        cgroup_version: cgroup::detect(),
        limits,
    }
}

fn try_cgroup() -> (Option<Cgroup>, Limits) {
    let resources = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
    Cgroup::create(&format!("probe-{}", std::process::id()), &resources)
}

fn limits_note(limits: &Limits) -> String {
    match &limits.reason {
        None => "memory and process limits are enforced".to_owned(),
        Some(reason) => format!("no limits: {reason}"),
    }
}

fn container(limits: &Limits) -> Level {
    let level = |available, reason: String, advice: Option<&str>| Level {
        isolation: Isolation::Container,
        available,
        reason,
        advice: advice.map(str::to_owned),
    };
    if !geteuid().is_root() {
        let advice = "run as root for memory limits and a network address per instance";
        return level(false, "running as a plain user".into(), Some(advice));
    }
    match try_in_child(|| try_jail(false).and_then(|()| try_link())) {
        Ok(()) => {
            let owners = match try_in_child(try_mapped_owners) {
                Ok(()) => "root inside is nobody outside".to_owned(),
                Err(problem) => format!("no user namespace, root inside is root: {problem}"),
            };
            let found = "namespaces, overlay root, own address";
            level(true, format!("{found}; {owners}; {}", limits_note(limits)), None)
        }
        Err(problem) => {
            let advice =
                "this looks like a container without privileges; allow SYS_ADMIN and NET_ADMIN";
            level(false, problem, Some(advice))
        }
    }
}

fn rootless(limits: &Limits) -> Level {
    let (available, reason, advice) = match try_in_child(|| try_jail(true)) {
        Ok(()) => {
            let reason = format!("user namespace, loopback ports; {}", limits_note(limits));
            let way = if geteuid().is_root() { "allow NET_ADMIN" } else { "run as root" };
            let advice = format!("instances have no outbound network at this level; {way} for it");
            (true, reason, Some(advice))
        }
        Err(problem) => (false, problem, user_namespace_advice()),
    };
    Level { isolation: Isolation::ContainerRootless, available, reason, advice }
}

fn process() -> Level {
    Level {
        isolation: Isolation::Process,
        available: true,
        reason: "no isolation: static executables run as plain processes".to_owned(),
        advice: Some("use only for what you trust".to_owned()),
    }
}

/// The switches known to turn user namespaces off.
fn user_namespace_advice() -> Option<String> {
    let switches = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let off = switches
        .iter()
        .find(|(path, off, _)| fs::read_to_string(path).is_ok_and(|value| value.trim() == *off));
    off.map(|(_, _, setting)| format!("user namespaces are disabled: sysctl -w {setting}"))
}

/// Enters what a container start enters, mounts what it mounts.
fn try_jail(rootless: bool) -> Result<(), String> {
    let user = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
    jail::enter_new_namespaces(rootless, &user).map_err(|failure| failure.detail)?;
    let rest = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(rest).map_err(|errno| format!("create the remaining namespaces: {errno}"))?;
    // A new proc needs a process in the new pid namespace.
    try_in_child(|| {
        mount_at("proc", "/proc", "")?;
        mount_at("tmpfs", "/tmp", "mode=755")?;
        if rootless {
            return Ok(());
        }
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(PathBuf::from("/tmp").join(name)).map_err(|e| e.to_string())?;
        }
        let options = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work";
        mount_at("overlay", "/tmp/merged", options)
    })
}

/// Makes a user namespace, shows the machine's root with owners as seen from it,
/// and mounts inside what an instance needs. A machine that allows all this may
/// still have images on a file system that does not; then a status says so.
fn try_mapped_owners() -> Result<(), String> {
    let made = userns::create(IdRange::of_instance("probe"))?;
    jail::enter_made_namespaces(&made).map_err(|failure| failure.detail)?;
    mount_at("tmpfs", "/tmp", "mode=755")?;
    sys::mount_with_mapped_owners(
        Path::new("/"),
        Path::new("/tmp"),
        made.user.as_fd(),
        MappedMount::IMAGE,
    )
    .map_err(|errno| format!("map the owners of files on /: {errno}"))?;
    setns(&made.user, CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| format!("enter the user namespace: {errno}"))?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| format!("create namespaces inside it: {errno}"))?;
    try_in_child(|| mount_at("proc", "/proc", "").and_then(|()| mount_at("sysfs", "/sys", "")))
}

fn mount_at(kind: &str, at: &str, options: &str) -> Result<(), String> {
    nix::mount::mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|errno| format!("mount {kind}: {errno}"))
}

/// Makes a link inside the trial's own network namespace.
fn try_link() -> Result<(), String> {
    let me = std::process::id();
    crate::netlink::Netlink::open()
        .and_then(|mut netlink| netlink.add_veth("probe0", "probe1", me, 1500))
        .map_err(|error| format!("create a veth pair: {error}"))
}

/// Runs a trial in a child and brings back what it found.
fn try_in_child(trial: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| errno.to_string())?;
    let mut trial = Some(trial);
    let child = sys::fork_child(|| match trial.take().map(|trial| trial()) {
        Some(Err(problem)) => {
            // A trial that cannot even say why has failed all the same.
            let _ = nix::unistd::write(&write, problem.as_bytes());
            1
        }
        _ => 0,
    })
    .map_err(|errno| format!("fork: {errno}"))?;
    drop(write);
    let mut problem = String::new();
    let read = fs::File::from(read).read_to_string(&mut problem);
    let ended = waitpid(child, None);
    match (read, ended) {
        (Ok(0), Ok(nix::sys::wait::WaitStatus::Exited(_, 0))) => Ok(()),
        _ if problem.is_empty() => Err("the trial ended without a word".to_owned()),
        _ => Err(problem),
    }
}
