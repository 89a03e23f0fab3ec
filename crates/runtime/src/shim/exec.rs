//! One command inside a running instance: a helper process that joins the
//! instance, starts the command and carries its streams. Start at [`Session`].
//!
//! A process per session, forked from the shim: it may block, it may grow, and
//! its end is the session's end. When its client goes, the command is killed.

mod pump;

use std::collections::BTreeMap;
use std::fs;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{Pid, pipe2};
use oci_spec::runtime::ProcessBuilder;

use self::pump::{Channels, Pump};
use super::jail::{self, Entered};
use super::launch::{STATE, Stdio, failure_pipe, give_to};
use super::process;
use crate::cgroup::Cgroup;
use crate::executor::Workload;
use crate::failure::{Failure, Reason};
use crate::protocol::{Decoder, Frame};
use crate::rootfs::{self, Layout};
use crate::spec::{ExecSpec, InstanceSpec, Isolation};
use crate::userns::IdRange;
use crate::{oci, sys, user};

/// What a helper needs to know.
pub(super) struct Session<'a> {
    pub(super) dir: &'a Path,
    pub(super) instance: &'a InstanceSpec,
    pub(super) workload_pid: i32,
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) spec: &'a ExecSpec,
}

/// A command that has been executed, and our ends of its streams.
struct Started {
    pid: Pid,
    channels: Channels,
}

impl Session<'_> {
    /// Starts the helper for a connection whose request has been read; `decoder`
    /// holds what came behind it.
    pub(super) fn start(self, stream: &UnixStream, decoder: Decoder) -> Result<Pid, Failure> {
        let mut decoder = Some(decoder);
        sys::fork_child(|| self.serve(stream, decoder.take().unwrap_or_default()))
            .map_err(Failure::because(Reason::WorkloadStartFailed, "fork the exec helper"))
    }

    fn serve(&self, stream: &UnixStream, decoder: Decoder) -> i32 {
        // Ends with the shim; the command in turn ends with this helper.
        let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
        if !tied || sys::reset_signals().is_err() || sys::ignore_broken_pipes().is_err() {
            return 1;
        }
        match self.start_command() {
            Ok(started) => Pump::new(stream, decoder, started.channels, started.pid).run(),
            Err(failure) => {
                let sent = stream.set_nonblocking(false).and_then(|()| {
                    std::io::Write::write_all(&mut &*stream, &Frame::failed(&failure).encode())
                });
                i32::from(sent.is_err())
            }
        }
    }

    fn start_command(&self) -> Result<Started, Failure> {
        if self.spec.argv.first().is_none_or(String::is_empty) {
            return Err(Failure::new(Reason::SpecInvalid, "argv is empty"));
        }
        match (self.instance.isolation, self.spec.tty) {
            (Isolation::Process, true) => Err(Failure::new(
                Reason::SpecInvalid,
                "terminals are not supported under process isolation; run without --tty",
            )),
            (Isolation::Process, false) => self.start_plain(),
            (_, tty) => self.start_in_container(tty),
        }
    }

    /// The instance with this session's command, directory, user and variables.
    fn effective(&self) -> InstanceSpec {
        let mut spec = self.instance.clone();
        spec.argv.clone_from(&self.spec.argv);
        let mut env: BTreeMap<_, _> = std::mem::take(&mut spec.env);
        env.extend(self.spec.env.clone());
        spec.env = env;
        if !self.spec.workdir.is_empty() {
            spec.workdir.clone_from(&self.spec.workdir);
        }
        if !self.spec.user.is_empty() {
            spec.user.clone_from(&self.spec.user);
        }
        spec
    }

    fn start_plain(&self) -> Result<Started, Failure> {
        let spec = self.effective();
        let account = user::resolve(&spec.rootfs, "")?;
        let (channels, stdio) = pipes()?;
        let command = process::Command {
            rootfs: &spec.rootfs,
            argv: &spec.argv,
            env: oci::environment(&spec, &account),
            workdir: spec.workdir_or_root(),
            cgroup: self.cgroup,
            data_bytes: None,
        };
        Ok(Started { pid: process::spawn(&command, stdio)?, channels })
    }

    fn start_in_container(&self, tty: bool) -> Result<Started, Failure> {
        let spec = self.effective();
        spec.check()?;
        let rootless = spec.isolation == Isolation::ContainerRootless;
        let user = self.user(&spec, rootless)?;
        let ids = match rootless {
            true => None,
            false => IdRange::of_process(self.workload_pid)
                .map_err(Failure::because(Reason::NotRunning, "read the instance's ids"))?,
        };
        let (channels, stdio) = pipes()?;
        if !rootless {
            give_streams(&stdio, &user, ids)?;
        }
        // Opened while the cgroup tree is still in sight.
        let cgroup = self.cgroup.map_or_else(|| Ok(Vec::new()), Cgroup::open_membership);
        let cgroup =
            cgroup.map_err(Failure::because(Reason::CgroupSetupFailed, "open the cgroup"))?;
        self.enter_namespaces(rootless, ids.is_some())?;
        let (mut failed, failure) = failure_pipe()?;
        let (controller, terminal) = socket_pair()?;
        let workload = Workload {
            prestart: None,
            cgroup: Rc::new(cgroup),
            failure: Rc::new(failure),
            terminal: tty.then(|| Rc::new(terminal)),
        };
        let pid = self.join(&spec, &user, workload, stdio, &mut failed)?;
        if !tty {
            return Ok(Started { pid, channels });
        }
        let controller = receive_terminal(&controller)?;
        if self.spec.cols > 0 && self.spec.rows > 0 {
            // A terminal of unknown size still works.
            let _ = sys::set_window_size(&controller, self.spec.cols, self.spec.rows);
        }
        Ok(Started { pid, channels: Channels::terminal(controller)? })
    }

    /// Enters what libcontainer leaves to us. A user namespace comes last when it
    /// is root's, who needs all rights for the rest; without changing ids, so that
    /// this process still owns the state libcontainer reads and writes.
    fn enter_namespaces(&self, rootless: bool, mapped: bool) -> Result<(), Failure> {
        let id = &self.instance.instance_id;
        let enter = |kind: Entered| {
            jail::enter_namespaces_of(self.workload_pid, kind)
                .map_err(Failure::because(Reason::NotRunning, "enter the instance's namespaces"))
        };
        if rootless {
            enter(Entered::UserAndNetwork)?;
            jail::enter_private_mounts()?;
            return jail::hide_cgroups(id);
        }
        nix::unistd::setgroups(&[])
            .map_err(Failure::because(Reason::WorkloadStartFailed, "drop supplementary groups"))?;
        jail::enter_private_mounts()?;
        jail::hide_cgroups(id)?;
        if !mapped {
            return enter(Entered::Network);
        }
        // libcontainer looks the root up, though it does not use it.
        rootfs::prepare_stage(&Layout::of(self.dir).on_stage())?;
        enter(Entered::UserAndNetwork)
    }

    /// The user to run as. With one mapped id there is no choice: everybody is
    /// the instance's user.
    fn user(&self, spec: &InstanceSpec, rootless: bool) -> Result<user::User, Failure> {
        let own = user::resolve(&spec.rootfs, &self.instance.user)?;
        let wanted = user::resolve(&spec.rootfs, &spec.user)?;
        if rootless && (wanted.uid, wanted.gid) != (own.uid, own.gid) {
            let detail = format!("user {:?}: a rootless instance has one user only", spec.user);
            return Err(Failure::new(Reason::WorkloadStartFailed, detail));
        }
        let groups = if rootless { Vec::new() } else { wanted.groups };
        Ok(user::User { groups, ..wanted })
    }

    fn join(
        &self,
        spec: &InstanceSpec,
        user: &user::User,
        workload: Workload,
        stdio: Stdio,
        failed: &mut fs::File,
    ) -> Result<Pid, Failure> {
        let process = ProcessBuilder::default()
            .terminal(false)
            .user(oci::oci_user(user).map_err(invalid)?)
            .args(spec.argv.clone())
            .env(oci::environment(spec, user))
            .cwd(spec.workdir_or_root())
            .capabilities(oci::capabilities(user).map_err(invalid)?)
            .no_new_privileges(true)
            .rlimits(vec![])
            .build()
            .map_err(invalid)?;
        let path = self.dir.join(STATE).join(format!("exec-{}.json", std::process::id()));
        let json = serde_json::to_vec(&process).map_err(invalid)?;
        fs::write(&path, json)
            .map_err(|error| Failure::io(Reason::WorkloadStartFailed, "write", &path, &error))?;
        let build = || {
            ContainerBuilder::new(spec.instance_id.clone(), SyscallType::Linux)
                .with_root_path(self.dir.join(STATE))?
                .with_executor(workload)
                .with_stdin(stdio.stdin)
                .with_stdout(stdio.stdout)
                .with_stderr(stdio.stderr)
                .as_tenant()
                .with_process(Some(&path))
                .with_detach(false)
                .build()
        };
        let built = build();
        // A left-over file would be removed with the instance anyway.
        let _ = fs::remove_file(&path);
        let mut said = String::new();
        // Unreadable is as good as empty: libcontainer's own error then speaks.
        let _ = failed.read_to_string(&mut said);
        match built {
            _ if !said.is_empty() => Err(Failure::new(Reason::WorkloadStartFailed, said)),
            Ok(pid) => Ok(Pid::from_raw(pid.as_raw())),
            Err(error) => {
                Err(Failure::chain(Reason::WorkloadStartFailed, "join the instance", &error))
            }
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::SpecInvalid, format!("translate the command: {error}"))
}

fn pipes() -> Result<(Channels, Stdio), Failure> {
    let pipe = || {
        pipe2(OFlag::O_CLOEXEC)
            .map_err(Failure::because(Reason::WorkloadStartFailed, "make a pipe"))
    };
    let ((stdin, ours_in), (ours_out, stdout), (ours_err, stderr)) = (pipe()?, pipe()?, pipe()?);
    let channels = Channels::pipes(ours_in, ours_out, ours_err)?;
    Ok((channels, Stdio { stdin, stdout, stderr }))
}

/// Lets the command open its streams again by their names.
fn give_streams(stdio: &Stdio, user: &user::User, ids: Option<IdRange>) -> Result<(), Failure> {
    let outside = |id: u32| ids.map_or(Some(id), |ids| ids.outside(id));
    let (Some(uid), Some(gid)) = (outside(user.uid), outside(user.gid)) else {
        let detail = format!("user {}:{} does not exist in the instance", user.uid, user.gid);
        return Err(Failure::new(Reason::WorkloadStartFailed, detail));
    };
    give_to(&stdio.stdin, uid, gid)?;
    stdio.give_output_to(uid, gid)
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let pair = UnixStream::pair();
    let (ours, theirs) =
        pair.map_err(Failure::because(Reason::WorkloadStartFailed, "make a socket pair"))?;
    Ok((ours.into(), theirs.into()))
}

/// Receives the controlling end of the terminal the command opened for itself.
fn receive_terminal(socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    let failed = |detail: String| Failure::new(Reason::WorkloadStartFailed, detail);
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(|errno| failed(format!("receive the terminal: {errno}")))?;
    let rights = message.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = rights.ok_or_else(|| failed("the command sent no terminal".to_owned()))?;
    Ok(sys::own_received_fd(fd))
}
