//! Starts a container: a short-lived launcher process enters cgroup and
//! namespaces, assembles the root, and lets libcontainer do the rest. Start at
//! [`launch`].
//!
//! A process of its own, so that the shim keeps its namespaces, its memory small
//! and nothing of a failed start. It must not outlive the start.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::jail;
use crate::cgroup::Cgroup;
use crate::executor::Workload;
use crate::failure::{Failure, Reason};
use crate::rootfs::{self, Layout};
use crate::spec::{InstanceSpec, Isolation, NetworkSpec};
use crate::user::{self, User};
use crate::{network, oci, sys};

/// Folder of the OCI bundle inside an instance directory.
pub(super) const BUNDLE: &str = "bundle";

/// Folder of libcontainer's state inside an instance directory.
pub(super) const STATE: &str = "state";

/// A start takes tens of milliseconds; copying a large image for a user without
/// overlays takes longer. Beyond this something hangs.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Standard streams of a process to start.
pub(super) struct Stdio {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A workload that has been executed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launched {
    pub(super) pid: i32,
    /// Why the limits are not in force after all.
    pub(super) limits_problem: Option<String>,
    pub(super) notes: Vec<String>,
}

/// What the launcher tells the shim.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// In its namespaces; the shim may connect the network.
    Unshared,
    /// Done, the launcher ends now.
    Finished(Result<Launched, Failure>),
}

/// Everything the launcher needs, worked out before it exists.
struct Plan<'a> {
    dir: &'a Path,
    spec: &'a InstanceSpec,
    user: User,
    layout: Layout,
    cgroup: Option<&'a Cgroup>,
}

/// Starts the workload as a child of the calling process.
pub(super) fn launch(
    dir: &Path,
    spec: &InstanceSpec,
    cgroup: Option<&Cgroup>,
    stdio: Stdio,
) -> Result<Launched, Failure> {
    let user = user::resolve(&spec.rootfs, &spec.user)?;
    let plan = Plan { dir, spec, user, layout: Layout::of(dir), cgroup };
    rootfs::prepare(&plan.layout, spec)?;
    write_bundle(&plan)?;
    let start_failed = |error: std::io::Error| {
        Failure::new(Reason::WorkloadStartFailed, format!("start the launcher: {error}"))
    };
    let (mine, theirs) = UnixStream::pair().map_err(start_failed)?;
    mine.set_read_timeout(Some(LAUNCH_TIMEOUT)).map_err(start_failed)?;
    let mut stdio = Some(stdio);
    let launcher = sys::fork_child(|| {
        let Some(stdio) = stdio.take() else { return 1 };
        launcher_main(&plan, stdio, &theirs)
    })
    .map_err(|errno| start_failed(errno.into()))?;
    drop((theirs, stdio));
    let result = attend(spec, launcher, &mine);
    if result.is_err() {
        // It may have ended itself already.
        let _ = kill(launcher, Signal::SIGKILL);
    }
    result
}

/// The shim's part while the launcher works.
fn attend(spec: &InstanceSpec, launcher: Pid, link: &UnixStream) -> Result<Launched, Failure> {
    let mut lines = BufReader::new(link);
    match receive(&mut lines)? {
        Message::Unshared => {}
        Message::Finished(result) => return result,
    }
    if let NetworkSpec::Veth(veth) = &spec.network {
        network::connect_host_end(veth, launcher)?;
    }
    (&*link).write_all(b"g").map_err(lost_launcher)?;
    match receive(&mut lines)? {
        Message::Finished(result) => result,
        Message::Unshared => Err(lost_launcher("it spoke out of turn")),
    }
}

fn receive(lines: &mut impl BufRead) -> Result<Message, Failure> {
    let mut line = String::new();
    lines.read_line(&mut line).map_err(lost_launcher)?;
    serde_json::from_str(&line).map_err(|_| lost_launcher("it ended without a word"))
}

fn lost_launcher(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::WorkloadStartFailed, format!("wait for the launcher: {error}"))
}

fn launcher_main(plan: &Plan<'_>, stdio: Stdio, link: &UnixStream) -> i32 {
    let result = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(lost_launcher)
        .and_then(|()| launch_here(plan, stdio, link));
    let code = i32::from(result.is_err());
    send(link, &Message::Finished(result)).map_or(1, |()| code)
}

fn send(mut link: &UnixStream, message: &Message) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    link.write_all(&line)
}

fn launch_here(plan: &Plan<'_>, stdio: Stdio, mut link: &UnixStream) -> Result<Launched, Failure> {
    let spec = plan.spec;
    let rootless = spec.isolation == Isolation::ContainerRootless;
    let limits_problem = plan
        .cgroup
        .and_then(|cgroup| cgroup.enter().err())
        .map(|error| format!("enter the cgroup: {error}"));
    jail::enter_new_namespaces(rootless, &plan.user)?;
    send(link, &Message::Unshared).map_err(lost_launcher)?;
    link.read_exact(&mut [0]).map_err(lost_launcher)?;
    match &spec.network {
        NetworkSpec::Veth(veth) => network::connect_instance_end(veth)?,
        NetworkSpec::Loopback { .. } => network::connect_loopback_only()?,
        NetworkSpec::Host {} => {}
    }
    network::relax_ports();
    let note = rootfs::mount(&plan.layout, &spec.rootfs, rootless)?;
    jail::hide_cgroups(&spec.instance_id)?;
    let pid = run_container(plan, stdio)?;
    Ok(Launched { pid: pid.as_raw(), limits_problem, notes: note.into_iter().collect() })
}

fn run_container(plan: &Plan<'_>, stdio: Stdio) -> Result<Pid, Failure> {
    let (mut failed, failure) = failure_pipe()?;
    let workload =
        Workload { cgroup: Rc::new(Vec::new()), failure: Rc::new(failure), terminal: None };
    let build = || {
        ContainerBuilder::new(plan.spec.instance_id.clone(), SyscallType::Linux)
            .with_root_path(plan.dir.join(STATE))?
            .with_executor(workload)
            .with_stdin(stdio.stdin)
            .with_stdout(stdio.stdout)
            .with_stderr(stdio.stderr)
            .as_init(plan.dir.join(BUNDLE))
            .with_systemd(false)
            .as_sibling(true)
            .with_detach(true)
            .build()
    };
    let built = build();
    let started = built.and_then(|mut container| {
        let pid = container.pid();
        container.start().map(|()| pid)
    });
    // Ends when the workload has been executed or its process is gone.
    let mut said = String::new();
    let read = failed.read_to_string(&mut said);
    match (started, read) {
        (Ok(Some(pid)), Ok(_)) if said.is_empty() => Ok(Pid::from_raw(pid.as_raw())),
        (_, Ok(count)) if count > 0 => Err(Failure::new(Reason::WorkloadStartFailed, said)),
        (Err(error), _) => {
            Err(Failure::chain(Reason::WorkloadStartFailed, "set the container up", &error))
        }
        _ => Err(Failure::new(Reason::WorkloadStartFailed, "the container ended during its start")),
    }
}

/// A pipe on which a process tells why it could not become the workload.
pub(super) fn failure_pipe() -> Result<(fs::File, OwnedFd), Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)
        .map_err(Failure::because(Reason::WorkloadStartFailed, "make a pipe"))?;
    Ok((fs::File::from(read), write))
}

fn write_bundle(plan: &Plan<'_>) -> Result<(), Failure> {
    let config = oci::runtime_spec(plan.spec, &plan.user, &plan.layout)
        .map_err(Failure::because(Reason::SpecInvalid, "translate the spec"))?;
    let failed = |path: &Path, error: std::io::Error| {
        Failure::io(Reason::WorkloadStartFailed, "prepare", path, &error)
    };
    let (state, bundle) = (plan.dir.join(STATE), plan.dir.join(BUNDLE));
    rootfs::remove_tree(&state).map_err(|error| failed(&state, error))?;
    fs::create_dir_all(&state).map_err(|error| failed(&state, error))?;
    fs::create_dir_all(&bundle).map_err(|error| failed(&bundle, error))?;
    let json = serde_json::to_vec(&config)
        .map_err(Failure::because(Reason::SpecInvalid, "translate the spec"))?;
    let path = bundle.join("config.json");
    fs::write(&path, json).map_err(|error| failed(&path, error))
}
