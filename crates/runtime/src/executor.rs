//! The last steps inside a prepared container: join the cgroup, take a terminal,
//! tie the process's life to its keeper, restrict system calls, execute. Start
//! at [`Workload`].
//!
//! It runs in the workload's own process, after libcontainer changed root, user
//! and capabilities. It must not open anything outside the container.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::Spec;

use crate::prestart::Prestart;
use crate::{seccomp, sys};

/// How to turn a prepared process into the workload.
#[derive(Clone)]
pub(crate) struct Workload {
    /// Membership files of the cgroup to join, opened outside.
    pub(crate) cgroup: Rc<Vec<File>>,
    /// Where to report that execution failed. Closed by a successful one, so the
    /// reader tells the two apart.
    pub(crate) failure: Rc<OwnedFd>,
    /// Socket on which to hand over the controlling end of a new terminal.
    pub(crate) terminal: Option<Rc<OwnedFd>>,
    /// What is to run before it.
    pub(crate) prestart: Option<Rc<Prestart>>,
}

/// Said on the failure pipe when all is set up and something runs before the workload:
/// the reader need not wait for the execution.
pub(crate) const SET_UP: u8 = 0;

impl Executor for Workload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let message = match self.become_workload(spec) {
            Ok(never) => match never {},
            Err(message) => message,
        };
        match &self.prestart {
            // The other reader is gone by then.
            Some(prestart) if prestart.has_begun() => prestart.fail(&message),
            _ => self.tell(&message),
        }
        Err(ExecutorError::Other(message))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find(spec).map(drop).map_err(|message| {
            self.tell(&message);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    /// The environment is handed to `execve` instead of changing this process.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Workload {
    /// Tells the keeper why this process will not become the workload. Said here
    /// because libcontainer's own channel wraps the message in its own words, or
    /// is closed already.
    fn tell(&self, message: &str) {
        // A keeper that has gone needs no answer.
        let _ = nix::unistd::write(self.failure.as_fd(), message.as_bytes());
    }

    fn become_workload(&self, spec: &Spec) -> Result<std::convert::Infallible, String> {
        let path = find(spec)?;
        for file in self.cgroup.iter() {
            (&*file).write_all(b"0").map_err(|error| format!("join the cgroup: {error}"))?;
        }
        if let Some(socket) = &self.terminal {
            take_terminal(socket).map_err(|error| format!("open a terminal: {error}"))?;
        }
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|error| format!("tie to the keeper: {error}"))?;
        seccomp::apply()?;
        sys::reset_signals().map_err(|error| format!("reset signals: {error}"))?;
        let process = spec.process().as_ref();
        let variables = process.and_then(|p| p.env().as_deref()).unwrap_or_default();
        if let Some(prestart) = &self.prestart {
            self.tell("\0");
            prestart.run(variables)?;
        }
        let argv = c_strings(process.and_then(|p| p.args().as_deref()))?;
        let env = c_strings(Some(variables))?;
        let file = c_string(&path.to_string_lossy())?;
        let errno = sys::execute(&file, &argv, &env);
        Err(format!("execute {}: {errno}", path.display()))
    }
}

/// Opens a terminal inside the container, so that its path is true there, makes
/// it standard input, output and error, and hands its other end to the keeper.
fn take_terminal(socket: &OwnedFd) -> nix::Result<()> {
    let open_flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let controller = nix::pty::posix_openpt(open_flags)?;
    nix::pty::grantpt(&controller)?;
    nix::pty::unlockpt(&controller)?;
    let name = nix::pty::ptsname_r(&controller)?;
    let terminal = nix::fcntl::open(name.as_str(), open_flags, Mode::empty())?;
    sys::set_controlling_terminal(terminal.as_fd()).map_err(|_| nix::errno::Errno::ENOTTY)?;
    nix::unistd::dup2_stdin(&terminal)?;
    nix::unistd::dup2_stdout(&terminal)?;
    nix::unistd::dup2_stderr(&terminal)?;
    let fds = [controller.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let payload = [IoSlice::new(b"t")];
    sendmsg::<()>(socket.as_raw_fd(), &payload, &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Finds the executable by the workload's own `PATH`, as a shell would.
fn find(spec: &Spec) -> Result<PathBuf, String> {
    let process = spec.process().as_ref().ok_or("the spec names no process")?;
    let name = process.args().as_ref().and_then(|args| args.first()).ok_or("argv is empty")?;
    find_program(name, process.env().as_deref().unwrap_or_default())
}

/// Finds an executable by the `PATH` of an environment.
pub(crate) fn find_program(name: &str, env: &[String]) -> Result<PathBuf, String> {
    let search = env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    let candidates = candidates(name, search);
    let mut denied = None;
    for candidate in candidates {
        match access(&candidate, AccessFlags::X_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Ok(()) => denied = Some(format!("{} is not a file", candidate.display())),
            Err(nix::errno::Errno::EACCES) => {
                denied = Some(format!("{} is not executable", candidate.display()));
            }
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| match name.contains('/') {
        true => format!("command not found: {name}"),
        false => format!("command not found: {name} (searched {search})"),
    }))
}

/// The paths a command name may stand for.
pub(crate) fn candidates(name: &str, search: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![PathBuf::from(name)];
    }
    search.split(':').filter(|d| d.starts_with('/')).map(|dir| Path::new(dir).join(name)).collect()
}

pub(crate) fn c_strings(strings: Option<&[String]>) -> Result<Vec<CString>, String> {
    strings.unwrap_or_default().iter().map(|string| c_string(string)).collect()
}

pub(crate) fn c_string(string: &str) -> Result<CString, String> {
    CString::new(string).map_err(|_| format!("{string:?} contains NUL"))
}
