//! The process that owns one instance: a re-exec of the `helix` binary that
//! starts the workload, keeps its output, answers its control socket and reports
//! its end. Start at [`shim_main`].
//!
//! Single-threaded for its whole life, since libcontainer clones processes. It
//! leaves the caller's session and outlives it: an agent that restarts finds it
//! again by its directory. It must not know plans, other instances or HTTP.

mod control;
mod events;
mod exec;
mod forward;
pub(crate) mod jail;
mod launch;
mod prestart;
mod process;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cgroup::Cgroup;
use crate::failure::{Failure, Reason};
use crate::logs::LogWriter;
use crate::protocol::SOCKET;
use crate::spec::InstanceSpec;
use crate::status::{Limits, ProcessRef, State, Status};
use crate::{probe, sys};

/// Argument that makes [`shim_main`] print what this machine allows.
pub(crate) const PROBE_ARGUMENT: &str = "--probe";

/// Said when a disk size was asked for, which only drivers with own disks limit.
const DISK_NOTE: &str = "the disk size is not limited at this isolation level";

/// How long to wait for the directory's previous shim to go.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(3);

/// Entry point for `helix shim DIR`. Call it first thing in `main`, before any
/// thread exists, with the arguments behind `shim`.
///
/// Returns to the caller's parent once a background copy runs; that copy writes
/// one [`Status`] as a line of JSON to standard output when the instance runs or
/// has failed, closes it, and stays until the instance is over.
#[must_use]
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(argument), None) if argument == PROBE_ARGUMENT => probe::print_here(),
        (Some(dir), None) => start(Path::new(&dir)),
        _ => ExitCode::from(2),
    }
}

/// Leaves the caller's session and process tree, then runs.
fn start(dir: &Path) -> ExitCode {
    let begun = Instant::now();
    let Ok(dir) = dir.canonicalize() else {
        return ExitCode::FAILURE;
    };
    let background = || match nix::unistd::setsid() {
        Ok(_) => run(&dir, begun),
        Err(_) => 1,
    };
    match sys::fork_child(background) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(dir: &Path, begun: Instant) -> i32 {
    // A dump would be on a disk, with whatever the program held in memory. Refused
    // by no kernel: it lowers a limit.
    let _ = sys::forbid_core_dumps();
    let Some(lock) = claim(dir) else { return 1 };
    let outcome = prepare(dir).and_then(|mut shim| match shim.start_workload() {
        Ok(()) => Ok(shim),
        Err(failure) => {
            shim.status.failure = Some(failure.clone());
            shim.abandon();
            Err(failure)
        }
    });
    let code = match outcome {
        Ok(mut shim) => {
            shim.status.start_took_ms = u64::try_from(begun.elapsed().as_millis()).ok();
            shim.enter_state(State::Running);
            report(&shim.status);
            shim.run();
            0
        }
        Err(failure) => {
            report_failure(dir, failure);
            1
        }
    };
    drop(lock);
    code
}

/// Holds the directory for this shim alone; two would fight over one cgroup.
/// Waits a little: the shim of the run before may be saying its last words.
fn claim(dir: &Path) -> Option<Flock<File>> {
    let deadline = Instant::now() + CLAIM_TIMEOUT;
    let mut file = File::create(dir.join("shim.lock")).ok()?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if Instant::now() > deadline => return None,
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One instance and what the shim holds of it.
struct Shim {
    dir: PathBuf,
    spec: InstanceSpec,
    status: Status,
    signals: SignalFd,
    listener: UnixListener,
    log: LogWriter,
    io: events::Io,
}

fn prepare(dir: &Path) -> Result<Shim, Failure> {
    let spec = InstanceSpec::load(dir)?;
    let failed = |attempt| {
        move |error: std::io::Error| {
            Failure::new(Reason::WorkloadStartFailed, format!("{attempt}: {error}"))
        }
    };
    let signals = take_signals().map_err(|errno| failed("take over signals")(errno.into()))?;
    let listener = listen(dir).map_err(failed("listen on the control socket"))?;
    let log = LogWriter::open(dir, spec.logs).map_err(failed("open the log"))?;
    let me = std::process::id().cast_signed();
    let shim = ProcessRef::of(me).unwrap_or_else(|| ProcessRef::unknown(me));
    let (cgroup, limits) = Cgroup::create(&spec.instance_id, &spec.resources);
    let status = Status {
        instance_id: spec.instance_id.clone(),
        boot_id: spec.boot_id.clone(),
        state: State::Starting,
        workload: None,
        shim,
        started_at_ms: None,
        finished_at_ms: None,
        start_took_ms: None,
        preparing: false,
        exit: None,
        failure: None,
        limits,
        cgroup,
        notes: spec.resources.disk_bytes.map(|_| DISK_NOTE.to_owned()).into_iter().collect(),
    };
    // Stored before anything can be left behind, so cleanup knows of it.
    status.store(dir).map_err(failed("write the status"))?;
    Ok(Shim {
        dir: dir.to_owned(),
        spec,
        status,
        signals,
        listener,
        log,
        io: events::Io::default(),
    })
}

/// Turns the signals we act on into readable events, and adopts orphans of the
/// workload so that none escapes being reaped.
fn take_signals() -> nix::Result<SignalFd> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mask: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn listen(dir: &Path) -> std::io::Result<UnixListener> {
    let folder = File::open(dir)?;
    let path = sys::short_path(&folder, SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Hands the outcome of the start to whoever spawned us and lets go of them.
fn report(status: &Status) {
    let line = serde_json::to_vec(status).unwrap_or_default();
    let mut stdout = std::io::stdout();
    // A spawner that has gone meanwhile finds the status file instead.
    let _ = stdout
        .write_all(&line)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    fall_silent();
}

/// Lets go of the spawner's standard streams, which would keep it waiting.
fn fall_silent() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        // Both descriptors exist, so these cannot fail.
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

fn report_failure(dir: &Path, failure: Failure) {
    let me = std::process::id().cast_signed();
    let stored = Status::load(dir).ok().flatten().filter(|status| status.shim.pid == me);
    let status = stored.unwrap_or_else(|| Status {
        instance_id: String::new(),
        boot_id: String::new(),
        state: State::Failed,
        workload: None,
        shim: ProcessRef::unknown(me),
        started_at_ms: None,
        finished_at_ms: Some(sys::now_ms()),
        start_took_ms: None,
        preparing: false,
        exit: None,
        failure: Some(failure.clone()),
        limits: Limits::default(),
        cgroup: None,
        notes: Vec::new(),
    });
    let status = Status { state: State::Failed, failure: Some(failure), ..status };
    // Reported on standard output even if the disk takes no more.
    let _ = status.store(dir);
    let _ = crate::cleanup::remove_socket(dir);
    report(&status);
}
