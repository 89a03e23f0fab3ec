//! Starts a container: a short-lived launcher process enters cgroup and
//! namespaces, assembles the root, and lets libcontainer do the rest. Start at
//! [`launch`].
//!
//! A process of its own, so that the shim keeps its namespaces, its memory small
//! and nothing of a failed start. It must not outlive the start.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
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
use crate::executor::{SET_UP, Workload};
use crate::failure::{Failure, Reason};
use crate::prestart::Prestart;
use crate::rootfs::{self, Layout};
use crate::spec::{InstanceSpec, Isolation, NetworkSpec};
use crate::user::{self, User};
use crate::userns::{self, IdRange};
use crate::{cleanup, network, oci, secrets, sys, volumes};

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

impl Stdio {
    /// Lets a user open the output again by its name, as many programs do with
    /// `/dev/stdout`. Not the input: it may be a device of the machine.
    pub(super) fn give_output_to(&self, uid: u32, gid: u32) -> Result<(), Failure> {
        [&self.stdout, &self.stderr].into_iter().try_for_each(|pipe| give_to(pipe, uid, gid))
    }

    fn try_clone(&self) -> std::io::Result<Self> {
        let (stdin, stdout) = (self.stdin.try_clone()?, self.stdout.try_clone()?);
        Ok(Self { stdin, stdout, stderr: self.stderr.try_clone()? })
    }
}

/// Makes a user the owner of a pipe.
pub(super) fn give_to(pipe: &OwnedFd, uid: u32, gid: u32) -> Result<(), Failure> {
    nix::unistd::fchown(pipe, Some(uid.into()), Some(gid.into()))
        .map_err(Failure::because(Reason::WorkloadStartFailed, "give a pipe to the workload"))
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
    Finished(Result<Launched, Refusal>),
}

/// A try that did not end with a running workload.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    failure: Failure,
    /// All was set up, and what was to be executed is at fault: setting it up in
    /// another way would not help.
    by_workload: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, by_workload: false }
    }
}

/// Everything the launcher needs, worked out before it exists.
struct Plan<'a> {
    dir: &'a Path,
    spec: &'a InstanceSpec,
    user: User,
    cgroup: Option<&'a Cgroup>,
    stdio: &'a Stdio,
    /// The launcher's end of the pipe on which the shim hears of what runs before.
    prestart: Option<&'a OwnedFd>,
}

/// Starts the workload as a child of the calling process. Started by root, in a
/// user namespace of its own where kernel and file system go along.
pub(super) fn launch(
    dir: &Path,
    spec: &InstanceSpec,
    cgroup: Option<&Cgroup>,
    stdio: &Stdio,
    prestart: Option<&OwnedFd>,
) -> Result<Launched, Failure> {
    let user = user::resolve(&spec.rootfs, &spec.user)?;
    let plan = Plan { dir, spec, user, cgroup, stdio, prestart };
    if spec.isolation != Isolation::Container {
        return attempt(&plan, None).map_err(|refusal| refusal.failure);
    }
    let why = if IdRange::holds(&plan.user) {
        match attempt(&plan, Some(IdRange::of_instance(&spec.instance_id))) {
            Ok(launched) => return Ok(launched),
            Err(refusal) if refusal.by_workload => return Err(refusal.failure),
            Err(refusal) => {
                // Of the first try nothing may run on beside the second.
                cleanup::kill_children_except(&[]);
                refusal.failure.detail
            }
        }
    } else {
        "the user has ids above 65535".to_owned()
    };
    let mut launched = attempt(&plan, None).map_err(|refusal| refusal.failure)?;
    launched.notes.push(format!("no user namespace, root inside is root of the machine: {why}"));
    Ok(launched)
}

/// Starts the workload, with `ids` in a user namespace that maps them.
fn attempt(plan: &Plan<'_>, ids: Option<IdRange>) -> Result<Launched, Refusal> {
    rootfs::prepare(&Layout::of(plan.dir), plan.spec)?;
    prepare_bundle(plan.dir)?;
    let start_failed = |error: std::io::Error| {
        Failure::new(Reason::WorkloadStartFailed, format!("start the launcher: {error}"))
    };
    let (mine, theirs) = UnixStream::pair().map_err(start_failed)?;
    mine.set_read_timeout(Some(LAUNCH_TIMEOUT)).map_err(start_failed)?;
    let launcher = sys::fork_child(|| launcher_main(plan, ids, &theirs))
        .map_err(|errno| start_failed(errno.into()))?;
    drop(theirs);
    let result = attend(plan.spec, launcher, &mine);
    if result.is_err() {
        // It may have ended itself already.
        let _ = kill(launcher, Signal::SIGKILL);
    }
    result
}

/// The shim's part while the launcher works.
fn attend(spec: &InstanceSpec, launcher: Pid, link: &UnixStream) -> Result<Launched, Refusal> {
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
        Message::Unshared => Err(lost_launcher("it spoke out of turn").into()),
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

fn launcher_main(plan: &Plan<'_>, ids: Option<IdRange>, link: &UnixStream) -> i32 {
    let result = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| lost_launcher(errno).into())
        .and_then(|()| launch_here(plan, ids, link));
    let code = i32::from(result.is_err());
    send(link, &Message::Finished(result)).map_or(1, |()| code)
}

fn send(mut link: &UnixStream, message: &Message) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    link.write_all(&line)
}

fn launch_here(
    plan: &Plan<'_>,
    ids: Option<IdRange>,
    mut link: &UnixStream,
) -> Result<Launched, Refusal> {
    let spec = plan.spec;
    let limits_problem = plan
        .cgroup
        .and_then(|cgroup| cgroup.enter().err())
        .map(|error| format!("enter the cgroup: {error}"));
    let note = match ids {
        Some(ids) => build_mapped(plan, ids).map(|()| None)?,
        None => build_plain(plan)?,
    };
    send(link, &Message::Unshared).map_err(lost_launcher)?;
    link.read_exact(&mut [0]).map_err(lost_launcher)?;
    match &spec.network {
        NetworkSpec::Veth(veth) => network::connect_instance_end(veth)?,
        NetworkSpec::Loopback { .. } => network::connect_loopback_only()?,
        NetworkSpec::Host {} => {}
    }
    network::relax_ports();
    let pid = run_container(plan)?;
    Ok(Launched { pid: pid.as_raw(), limits_problem, notes: note.into_iter().collect() })
}

/// Namespaces and root with the ids of this process. Returns a note on them.
fn build_plain(plan: &Plan<'_>) -> Result<Option<String>, Failure> {
    let spec = plan.spec;
    let rootless = spec.isolation == Isolation::ContainerRootless;
    if !rootless {
        plan.stdio.give_output_to(plan.user.uid, plan.user.gid)?;
    }
    volumes::give(spec, &plan.user)?;
    jail::enter_new_namespaces(rootless, &plan.user)?;
    jail::hide_cgroups(&spec.instance_id)?;
    let layout = Layout::of(plan.dir);
    let note = rootfs::mount(&layout, &spec.rootfs, rootless)?;
    if let Some(source) = &spec.secrets {
        secrets::place(source, &layout.secrets, plan.user.uid, plan.user.gid)?;
    }
    write_config(plan, &layout, &volumes::plain(spec), None)?;
    Ok(note)
}

/// Namespaces and root for the ids of a range.
fn build_mapped(plan: &Plan<'_>, ids: IdRange) -> Result<(), Failure> {
    let spec = plan.spec;
    let refused = |problem: String| Failure::new(Reason::IsolationUnavailable, problem);
    let (Some(uid), Some(gid)) = (ids.outside(plan.user.uid), ids.outside(plan.user.gid)) else {
        return Err(refused("the user has ids above 65535".to_owned()));
    };
    plan.stdio.give_output_to(uid, gid)?;
    volumes::give(spec, &plan.user)?;
    let made = userns::create(ids).map_err(refused)?;
    jail::enter_made_namespaces(&made)?;
    jail::hide_cgroups(&spec.instance_id)?;
    let layout = rootfs::mount_mapped(Layout::of(plan.dir), &spec.rootfs, ids, made.user.as_fd())?;
    if let Some(source) = &spec.secrets {
        secrets::place(source, &layout.secrets, uid, gid)?;
    }
    let volumes = volumes::stage(spec, made.user.as_fd())?;
    // libcontainer opens it by its path, in a process forked from this one.
    let path = format!("/proc/self/fd/{}", made.user.into_raw_fd());
    write_config(plan, &layout, &volumes, Some(Path::new(&path)))
}

fn run_container(plan: &Plan<'_>) -> Result<Pid, Refusal> {
    let (mut failed, failure) = failure_pipe()?;
    let shared = |error: std::io::Error| {
        Failure::new(Reason::WorkloadStartFailed, format!("share the pipes: {error}"))
    };
    let stdio = plan.stdio.try_clone().map_err(shared)?;
    let share = |pipe: &OwnedFd| {
        let shim = pipe.try_clone()?;
        let commands = plan.spec.prestart.iter().map(|it| it.argv.clone()).collect();
        Ok(Rc::new(Prestart::new(commands, shim)))
    };
    let prestart = plan.prestart.map(share).transpose();
    let workload = Workload {
        cgroup: Rc::new(Vec::new()),
        failure: Rc::new(failure),
        terminal: None,
        prestart: prestart.map_err(shared)?,
    };
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
    match (started, listen(&mut failed)) {
        (Ok(Some(pid)), Ok(said)) if said.is_empty() => Ok(Pid::from_raw(pid.as_raw())),
        (_, Ok(said)) if !said.is_empty() => {
            let failure = Failure::new(Reason::WorkloadStartFailed, said);
            Err(Refusal { failure, by_workload: true })
        }
        (Err(error), _) => {
            let attempt = "set the container up";
            Err(Failure::chain(Reason::WorkloadStartFailed, attempt, &error).into())
        }
        _ => {
            let detail = "the container ended during its start";
            Err(Failure::new(Reason::WorkloadStartFailed, detail).into())
        }
    }
}

/// Waits until the workload has been executed, its process is gone, or something runs
/// before it. Returns why it will not be executed, if that is known.
fn listen(failed: &mut fs::File) -> std::io::Result<String> {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match failed.read(&mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&said).into_owned()),
            _ if buffer[0] == SET_UP => return Ok(String::new()),
            count => said.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A pipe on which a process tells why it could not become the workload.
pub(super) fn failure_pipe() -> Result<(fs::File, OwnedFd), Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)
        .map_err(Failure::because(Reason::WorkloadStartFailed, "make a pipe"))?;
    Ok((fs::File::from(read), write))
}

fn prepare_bundle(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::io(Reason::WorkloadStartFailed, "prepare", path, &error)
    };
    let (state, bundle) = (dir.join(STATE), dir.join(BUNDLE));
    rootfs::remove_tree(&state).map_err(|error| failed(&state, error))?;
    fs::create_dir_all(&state).map_err(|error| failed(&state, error))?;
    fs::create_dir_all(&bundle).map_err(|error| failed(&bundle, error))
}

fn write_config(
    plan: &Plan<'_>,
    layout: &Layout,
    volumes: &[PathBuf],
    user_namespace: Option<&Path>,
) -> Result<(), Failure> {
    let config = oci::runtime_spec(plan.spec, &plan.user, layout, volumes, user_namespace)
        .map_err(Failure::because(Reason::SpecInvalid, "translate the spec"))?;
    let json = serde_json::to_vec(&config)
        .map_err(Failure::because(Reason::SpecInvalid, "translate the spec"))?;
    let path = plan.dir.join(BUNDLE).join("config.json");
    fs::write(&path, json)
        .map_err(|error| Failure::io(Reason::WorkloadStartFailed, "write", &path, &error))
}
