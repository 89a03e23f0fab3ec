//! Commands that run in the container before the program: each must end with code 0, and
//! only then is the program executed, in the same process. Start at [`Prestart::run`].
//!
//! They run where the program will: same root, user, limits, variables and output. The
//! shim is told over a pipe when each begins, and enforces the time it may take; the pipe
//! is closed by the execution of the program.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::executor::{c_string, c_strings, find_program};
use crate::sys;

/// First byte of what is said on the pipe: the next command has begun.
pub(crate) const BEGUN: u8 = 1;

/// First byte of the last thing said: text that tells why the program will not run.
pub(crate) const FAILED: u8 = 2;

/// What a child ends with that could not execute its command.
const NOT_EXECUTED: i32 = 127;

/// The commands, and where to tell of them.
pub(crate) struct Prestart {
    commands: Vec<Vec<String>>,
    shim: OwnedFd,
    has_begun: Cell<bool>,
}

impl Prestart {
    pub(crate) fn new(commands: Vec<Vec<String>>, shim: OwnedFd) -> Prestart {
        Prestart { commands, shim, has_begun: Cell::new(false) }
    }

    /// Runs the commands one after another. The calling process is the one that will be
    /// the program, with all of its restrictions in force.
    pub(crate) fn run(&self, env: &[String]) -> Result<(), String> {
        self.has_begun.set(true);
        self.commands.iter().try_for_each(|command| {
            self.tell(&[BEGUN]);
            run_one(command, env)
        })
    }

    /// Whether the shim is to be told of what goes wrong, and not who started this.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Tells the shim why the program will not run.
    pub(crate) fn fail(&self, message: &str) {
        self.tell(&[&[FAILED], message.as_bytes()].concat());
    }

    fn tell(&self, bytes: &[u8]) {
        // A shim that has gone takes this process with it.
        let _ = nix::unistd::write(self.shim.as_fd(), bytes);
    }
}

fn run_one(command: &[String], env: &[String]) -> Result<(), String> {
    let name = command.first().map(String::as_str).unwrap_or_default();
    let failed = |what: String| format!("prestart `{name}` {what}");
    let path = find_program(name, env).map_err(|error| format!("prestart: {error}"))?;
    let child = start(&path, command, env).map_err(failed)?;
    loop {
        // As the first process of the container this one also gets what others left.
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, 0)) if pid == child => return Ok(()),
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                return Err(failed(format!("exited with code {code}")));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Err(failed(format!("was killed by signal {}", signal as i32)));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(failed(format!("cannot be waited for: {errno}"))),
        }
    }
}

fn start(path: &Path, command: &[String], env: &[String]) -> Result<Pid, String> {
    let file = c_string(&path.to_string_lossy())?;
    let (argv, env) = (c_strings(Some(command))?, c_strings(Some(env))?);
    let child = sys::fork_child(|| {
        // Only returns if it cannot be executed, which its code tells.
        sys::execute(&file, &argv, &env);
        NOT_EXECUTED
    });
    child.map_err(|errno| format!("cannot be started: {errno}"))
}
