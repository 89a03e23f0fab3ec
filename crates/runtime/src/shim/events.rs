//! The life of a started instance: one `poll(2)` loop over signals, output and
//! control connections, until the workload has ended and all is told. Start at
//! [`Shim::run`].
//!
//! No runtime and no threads: between events the shim costs nothing but its
//! memory. It must not block on anything but the poll itself.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use super::control::Client;
use super::launch::{Launched, Stdio, launch};
use super::prestart::Preparing;
use super::{Shim, forward, process};
use crate::failure::{Failure, Reason};
use crate::logs::LogStream;
use crate::spec::{Isolation, NetworkSpec};
use crate::status::{Exit, ProcessRef, State};
use crate::{cleanup, oci, sys, user};

/// How long output may keep coming after the workload ended, from processes that
/// inherited its pipes.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// How long watchers and exec sessions get to take their last frames.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes read from a pipe at a time: its whole default capacity.
const READ_BYTES: usize = 64 << 10;

/// What the loop watches besides signals and the listener.
#[derive(Default)]
pub(super) struct Io {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) clients: Vec<Client>,
    /// When to KILL, once asked to stop.
    pub(super) kill_at: Option<Instant>,
    /// What runs before the workload, while it does.
    pub(super) prestart: Option<Preparing>,
    /// Processes of exec sessions still alive.
    pub(super) helpers: Vec<Pid>,
    /// The process that forwards host ports, if any.
    forwarder: Option<Pid>,
    /// Where output is read to; kept, since it is needed at each event.
    buffer: Vec<u8>,
    exit: Option<Exit>,
}

impl Shim {
    /// Starts the workload; on failure everything begun is still to be removed.
    pub(super) fn start_workload(&mut self) -> Result<(), Failure> {
        // Bound first: a taken port must fail the start, not be found out later.
        let listeners = match &self.spec.network {
            NetworkSpec::Loopback { forwards } => forward::bind(forwards)?,
            NetworkSpec::Veth(_) | NetworkSpec::Host {} => Vec::new(),
        };
        let stdio = self.make_pipes()?;
        let prestart = self.expect_prestart()?;
        let launched = match self.spec.isolation {
            Isolation::Container | Isolation::ContainerRootless => launch(
                &self.dir,
                &self.spec,
                self.status.cgroup.as_ref(),
                &stdio,
                prestart.as_ref(),
            )?,
            Isolation::Process => self.start_process(stdio)?,
        };
        if let Some(problem) = launched.limits_problem {
            self.status.limits.limits_enforced = false;
            self.status.limits.reason.get_or_insert(problem);
        }
        self.status.notes.extend(launched.notes);
        // Its end must be seen, which takes that nobody here has the pipe.
        drop(prestart);
        // A workload that has ended already is not findable any more, but its
        // pid is still ours until reaped.
        let pid = launched.pid;
        let workload = ProcessRef::of(pid).unwrap_or_else(|| ProcessRef::unknown(pid));
        self.status.workload = Some(workload);
        self.status.started_at_ms = Some(sys::now_ms());
        if !listeners.is_empty() {
            let rootless = self.spec.isolation == Isolation::ContainerRootless;
            self.io.forwarder = Some(forward::start(pid, rootless, listeners)?);
        }
        Ok(())
    }

    fn start_process(&mut self, stdio: Stdio) -> Result<Launched, Failure> {
        if !matches!(self.spec.network, NetworkSpec::Host {}) {
            let detail = "process isolation has no network of its own; its spec must say host";
            return Err(Failure::new(Reason::SpecInvalid, detail));
        }
        let account = user::resolve(&self.spec.rootfs, "")?;
        let limited = self.status.cgroup.is_some() && self.status.limits.limits_enforced;
        let pid = process::spawn(
            &process::Command {
                rootfs: &self.spec.rootfs,
                argv: &self.spec.argv,
                env: oci::environment(&self.spec, &account),
                workdir: self.spec.workdir_or_root(),
                cgroup: self.status.cgroup.as_ref(),
                data_bytes: self.spec.resources.memory_bytes.filter(|_| !limited),
            },
            stdio,
        )?;
        let notes = vec!["process isolation: the workload sees the whole machine".to_owned()];
        Ok(Launched { pid: pid.as_raw(), limits_problem: None, notes })
    }

    fn make_pipes(&mut self) -> Result<Stdio, Failure> {
        let failed = |errno: Errno| {
            Failure::new(Reason::WorkloadStartFailed, format!("make the output pipes: {errno}"))
        };
        let pipe = || -> nix::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok((read, write))
        };
        let (stdout_read, stdout) = pipe().map_err(failed)?;
        let (stderr_read, stderr) = pipe().map_err(failed)?;
        let null = std::fs::File::open("/dev/null");
        let stdin =
            null.map_err(Failure::because(Reason::WorkloadStartFailed, "open /dev/null"))?;
        self.io.stdout = Some(stdout_read);
        self.io.stderr = Some(stderr_read);
        Ok(Stdio { stdin: stdin.into(), stdout, stderr })
    }

    /// Undoes a start that failed.
    pub(super) fn abandon(&mut self) {
        self.end_processes();
        self.reap();
        self.drain(true);
        self.status.finished_at_ms = Some(sys::now_ms());
        self.status.state = State::Failed;
        self.remove_traces();
    }

    /// Records a transition on disk and tells the watchers.
    pub(super) fn enter_state(&mut self, state: State) {
        self.status.state = state;
        // Watchers are told even when the disk takes no more.
        let _ = self.status.store(&self.dir);
        for client in &mut self.io.clients {
            client.notify(&self.status);
        }
    }

    /// Serves the instance until it is over.
    pub(super) fn run(&mut self) {
        while self.io.exit.is_none() {
            let prestart_until = self.io.prestart.as_ref().and_then(Preparing::until);
            self.turn([self.io.kill_at, prestart_until].into_iter().flatten().min());
        }
        // What it said last.
        self.hear_prestart();
        self.end_processes();
        let drained = Instant::now() + DRAIN_TIMEOUT;
        while (self.io.stdout.is_some() || self.io.stderr.is_some()) && Instant::now() < drained {
            self.turn(Some(drained));
        }
        self.drain(true);
        self.status.exit = self.io.exit.take();
        self.status.finished_at_ms = Some(sys::now_ms());
        self.remove_traces();
        self.enter_state(State::Exited);
        // A socket that cannot be removed refuses connections from now on.
        let _ = cleanup::remove_socket(&self.dir);
        self.say_farewell();
    }

    /// Ends what must not outlive the workload: the rest of its process tree and
    /// the forwarder. Exec sessions end by themselves, to say how.
    fn end_processes(&mut self) {
        if let Some(forwarder) = self.io.forwarder.take() {
            // Gone already is as good.
            let _ = kill(forwarder, Signal::SIGKILL);
        }
        cleanup::kill_workload(&self.status);
        if self.spec.isolation == Isolation::Process {
            // Those that left its session have become our children.
            cleanup::kill_children_except(&self.io.helpers);
        }
    }

    fn say_farewell(&mut self) {
        let until = Instant::now() + FAREWELL_TIMEOUT;
        let busy = |io: &Io| io.clients.iter().any(Client::has_output) || !io.helpers.is_empty();
        while busy(&self.io) && Instant::now() < until {
            self.turn(Some(until));
        }
    }

    /// Waits for the next event, at most until `deadline`, and acts on it.
    fn turn(&mut self, deadline: Option<Instant>) {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the loop would spin through the last millisecond.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.as_millis().saturating_add(1).min(60_000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let client_events = {
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            for pipe in [&self.io.stdout, &self.io.stderr].into_iter().flatten() {
                fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
            if let Some(prestart) = &self.io.prestart {
                fds.push(prestart.poll_fd());
            }
            let first_client = fds.len();
            fds.extend(self.io.clients.iter().map(Client::poll_fd));
            // Interrupted or not, every source is non-blocking and looked at.
            let _ = poll(&mut fds, timeout);
            let any = |fd: &PollFd<'_>| fd.revents().is_none_or(|events| !events.is_empty());
            fds[first_client..].iter().map(any).collect::<Vec<_>>()
        };
        self.read_signals();
        self.drain(false);
        self.hear_prestart();
        self.serve_clients(&client_events);
        self.accept_clients();
        if self.io.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.io.kill_at = None;
            cleanup::kill_workload(&self.status);
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == (Signal::SIGCHLD as i32).cast_unsigned() {
                self.reap();
            } else {
                // Somebody wants this shim gone; it goes by ending its instance.
                self.stop(self.spec.stop_grace_ms);
            }
        }
    }

    /// The stop signal now, KILL when the grace is over. A second call can only shorten it.
    pub(super) fn stop(&mut self, grace_ms: u64) {
        let at = Instant::now() + Duration::from_millis(grace_ms);
        self.io.kill_at = Some(self.io.kill_at.map_or(at, |earlier| earlier.min(at)));
        if self.io.prestart.is_some() {
            self.stop_prestart();
        }
        self.signal(self.spec.stop_signal);
    }

    /// Sends a signal to the workload's first process.
    pub(super) fn signal(&self, number: i32) -> bool {
        let Some(workload) = self.status.workload else {
            return false;
        };
        let Ok(signal) = Signal::try_from(number) else {
            return false;
        };
        self.io.exit.is_none() && kill(Pid::from_raw(workload.pid), signal).is_ok()
    }

    /// Collects every ended child: the workload, helpers, and orphans we adopted.
    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, Some(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.io.helpers.retain(|helper| *helper != pid);
            if self.status.workload.is_some_and(|workload| workload.pid == pid.as_raw()) {
                self.io.exit = Some(self.describe_exit(code, signal));
            }
        }
    }

    fn describe_exit(&self, code: i32, signal: Option<i32>) -> Exit {
        let cgroup = self.status.cgroup.as_ref();
        // A worker may have been killed and replaced long ago; only an end that
        // was not clean is put down to it.
        let oom_killed = code != 0 && cgroup.is_some_and(|cgroup| cgroup.oom_kills() > 0);
        Exit {
            code,
            signal,
            oom_killed,
            memory_peak_bytes: cgroup.and_then(crate::cgroup::Cgroup::memory_peak_bytes),
            memory_limit_bytes: self.spec.resources.memory_bytes,
        }
    }

    /// Moves what the workload wrote into the log; with `end`, also the last
    /// lines without newline.
    fn drain(&mut self, end: bool) {
        let now_ms = sys::now_ms();
        let mut buffer = std::mem::take(&mut self.io.buffer);
        buffer.resize(READ_BYTES, 0);
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let slot = match stream {
                LogStream::Stdout => &mut self.io.stdout,
                LogStream::Stderr => &mut self.io.stderr,
            };
            let mut over = end;
            while let Some(pipe) = slot {
                match nix::unistd::read(pipe, &mut buffer) {
                    Ok(0) => {
                        over = true;
                        *slot = None;
                    }
                    Ok(count) => {
                        self.log.push(stream, &buffer[..count], now_ms);
                        // One read a turn: a flood on one stream must starve
                        // neither the other nor the control socket.
                        if !end {
                            break;
                        }
                    }
                    Err(Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
            if over {
                self.log.finish(stream, now_ms);
            }
        }
        self.io.buffer = buffer;
    }

    /// Removes what this run left, keeping its log and status.
    fn remove_traces(&mut self) {
        match cleanup::remove_traces(&self.dir, &self.spec, &self.status) {
            Ok(()) => self.status.cgroup = None,
            // Kept in the status, so that a later cleanup can try again.
            Err(problem) => self.status.notes.push(format!("left behind: {problem}")),
        }
    }
}
