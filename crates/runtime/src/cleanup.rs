//! Ends and removes everything an instance may have left, with or without its
//! shim. Start at [`cleanup`].
//!
//! Works from the instance directory alone and may be repeated. It must not
//! touch processes it cannot prove to be the instance's.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::failure::{Failure, Reason};
use crate::network;
use crate::protocol::SOCKET;
use crate::rootfs::{self, Layout};
use crate::spec::{InstanceSpec, Isolation, NetworkSpec};
use crate::status::{ProcessRef, State, Status};
use crate::sys;

/// How long a killed process may take to disappear.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a shim gets to end by itself once its workload is dead.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Kills what runs of the instance in `dir` and removes its mounts, cgroup,
/// link, root and sockets. Keeps spec, log and status; a status that claimed a
/// live instance becomes failed with [`Reason::ShimLost`].
pub fn cleanup(dir: &Path) -> io::Result<()> {
    let Some(mut status) = Status::load(dir)? else {
        return Ok(());
    };
    kill_workload(&status);
    // Left alone, a shim whose workload is gone tidies up and reaps better than
    // we can from outside.
    let patience = Instant::now() + FAREWELL_TIMEOUT;
    while status.shim.is_alive() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    if status.shim.is_alive() {
        end(status.shim);
        kill_workload(&status);
    }
    status = Status::load(dir)?.unwrap_or(status);
    let spec = InstanceSpec::load(dir).map_err(io::Error::other)?;
    remove_traces(dir, &spec, &status)?;
    if !status.state.is_final() {
        status.state = State::Failed;
        status.finished_at_ms = Some(sys::now_ms());
        status.failure = Some(Failure::new(Reason::ShimLost, "the shim ended without a report"));
    }
    status.cgroup = None;
    status.store(dir)?;
    remove_socket(dir)
}

/// Kills every process of the workload: all in its cgroup; its first process,
/// whose end also ends its pid namespace; and, for a plain process, its session.
pub(crate) fn kill_workload(status: &Status) {
    if let Some(cgroup) = &status.cgroup {
        cgroup.kill_all();
    }
    let Some(workload) = status.workload else {
        return;
    };
    // A session keeps its number while any member lives, so the number cannot
    // mean somebody else as long as a member is found by it.
    let in_session = |pid: &i32| sys::process_session(*pid) == Some(workload.pid);
    let started_after = |pid: &i32| {
        sys::process_start_ticks(*pid).is_some_and(|ticks| ticks >= workload.start_ticks)
    };
    if workload.start_ticks == 0 || !workload.is_of_this_boot() {
        return;
    }
    let is_it = |now: ProcessRef| now.start_ticks == workload.start_ticks;
    let reused = ProcessRef::of(workload.pid).is_some_and(|now| !is_it(now));
    if reused {
        return;
    }
    end(workload);
    for pid in sys::all_pids().into_iter().filter(in_session).filter(started_after) {
        // Gone already is what we want.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Kills the children of this process, apart from `kept`, until none is left: a
/// killed child's own children become ours in turn.
pub(crate) fn kill_children_except(kept: &[Pid]) {
    let me = std::process::id().cast_signed();
    let deadline = Instant::now() + END_TIMEOUT;
    while Instant::now() < deadline {
        let ours = |pid: &i32| sys::process_parent(*pid) == Some(me);
        let spared = |pid: &i32| kept.contains(&Pid::from_raw(*pid));
        let alive = |pid: &i32| sys::process_start_ticks(*pid).is_some();
        let pids = sys::all_pids().into_iter();
        let children: Vec<i32> =
            pids.filter(ours).filter(alive).filter(|pid| !spared(pid)).collect();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // Gone already is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills one process and waits until it runs no more.
fn end(process: ProcessRef) {
    let deadline = Instant::now() + END_TIMEOUT;
    while process.is_alive() && Instant::now() < deadline {
        // Refused or gone: the loop's condition tells.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes what is not a process. Goes on past a failure, so that one stubborn
/// thing does not keep the rest, and reports the first.
pub(crate) fn remove_traces(dir: &Path, spec: &InstanceSpec, status: &Status) -> io::Result<()> {
    let link = match &spec.network {
        NetworkSpec::Veth(veth) => network::delete_host_end(&veth.host_ifname),
        NetworkSpec::Loopback { .. } | NetworkSpec::Host {} => Ok(()),
    };
    let cgroup = status.cgroup.as_ref().map_or(Ok(()), Cgroup::remove);
    let root = match spec.isolation {
        Isolation::Process => Ok(()),
        _ => rootfs::remove(&Layout::of(dir))
            .and_then(|()| rootfs::remove_tree(&dir.join("state")))
            .and_then(|()| rootfs::remove_tree(&dir.join("bundle"))),
    };
    link.and(cgroup).and(root)
}

/// Removes the control socket. In a living shim only once its last status is
/// written: a client that finds no socket must find a final status.
pub(crate) fn remove_socket(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
