//! Starts a plain child process where the kernel allows no namespaces. Start at
//! [`spawn`].
//!
//! No isolation: the child sees the machine. It still gets its own session, no
//! new privileges, and dies with its keeper.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::launch::{Stdio, failure_pipe};
use crate::cgroup::Cgroup;
use crate::executor::{c_strings, candidates};
use crate::failure::{Failure, Reason};
use crate::{sys, user};

/// What to run.
pub(super) struct Command<'a> {
    pub(super) rootfs: &'a Path,
    pub(super) argv: &'a [String],
    pub(super) env: Vec<String>,
    /// Directory relative to the root of the image.
    pub(super) workdir: &'a str,
    pub(super) cgroup: Option<&'a Cgroup>,
    /// Limit of private memory in bytes, where no cgroup limits it.
    pub(super) data_bytes: Option<u64>,
}

/// Starts the command and returns once it has been executed.
pub(super) fn spawn(command: &Command<'_>, stdio: Stdio) -> Result<Pid, Failure> {
    let search = command.env.iter().find_map(|pair| pair.strip_prefix("PATH="));
    let program = find(command, search.unwrap_or_default())?;
    let invalid = |detail| Failure::new(Reason::SpecInvalid, detail);
    let argv = c_strings(Some(command.argv)).map_err(invalid)?;
    let env = c_strings(Some(&command.env)).map_err(invalid)?;
    let workdir = command.rootfs.join(command.workdir.trim_start_matches('/'));
    let (mut failed, failure) = failure_pipe()?;
    let failure = Rc::new(failure);
    let pid = sys::fork_child(|| {
        let message = match become_child(command, &workdir, &stdio) {
            Ok(()) => {
                format!(
                    "execute {}: {}",
                    command.argv[0],
                    sys::execute_descriptor(program.as_fd(), &argv, &env)
                )
            }
            Err(message) => message,
        };
        // Nobody else can be told.
        let _ = nix::unistd::write(failure.as_fd(), message.as_bytes());
        127
    })
    .map_err(Failure::because(Reason::WorkloadStartFailed, "fork"))?;
    drop((failure, stdio));
    let mut said = String::new();
    match failed.read_to_string(&mut said) {
        Ok(0) => Ok(pid),
        _ => Err(Failure::new(Reason::WorkloadStartFailed, said)),
    }
}

fn become_child(command: &Command<'_>, workdir: &Path, stdio: &Stdio) -> Result<(), String> {
    let failed = |attempt: &'static str| move |errno: nix::Error| format!("{attempt}: {errno}");
    nix::unistd::setsid().map_err(failed("start a session"))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("tie to the keeper"))?;
    nix::sys::prctl::set_no_new_privs().map_err(failed("give up new privileges"))?;
    if let Some(cgroup) = command.cgroup {
        cgroup.enter().map_err(|error| format!("enter the cgroup: {error}"))?;
    }
    if let Some(bytes) = command.data_bytes {
        sys::limit_data_segment(bytes).map_err(failed("limit memory"))?;
    }
    nix::unistd::chdir(workdir).map_err(|errno| format!("enter {}: {errno}", workdir.display()))?;
    nix::unistd::dup2_stdin(&stdio.stdin)
        .and_then(|()| nix::unistd::dup2_stdout(&stdio.stdout))
        .and_then(|()| nix::unistd::dup2_stderr(&stdio.stderr))
        .map_err(failed("set up standard streams"))?;
    sys::reset_signals().map_err(failed("reset signals"))
}

/// Finds the program inside the image and makes sure it runs outside of it.
fn find(command: &Command<'_>, search: &str) -> Result<File, Failure> {
    let name = command.argv.first().map(String::as_str).unwrap_or_default();
    for candidate in candidates(name, search) {
        // Absolute ones replace the working directory, as joining does.
        let path = Path::new(command.workdir).join(candidate);
        let Ok(file) = user::open_inside(command.rootfs, &path.to_string_lossy()) else {
            continue;
        };
        let executable =
            file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if executable {
            check_static(&file, name)?;
            return Ok(file);
        }
    }
    Err(Failure::new(
        Reason::WorkloadStartFailed,
        format!("command not found: {name} (searched {search} in the image)"),
    ))
}

/// Refuses scripts and dynamically linked programs: their interpreter and
/// libraries would be the machine's, not the image's.
fn check_static(file: &File, name: &str) -> Result<(), Failure> {
    let mut header = [0; 64];
    let read = file.read_at(&mut header, 0).unwrap_or(0);
    let refuse = |what: &str| {
        let detail = format!("{name} {what}, so it needs the image as its root");
        Err(Failure::new(Reason::ImageNeedsNamespaces, detail))
    };
    if header.starts_with(b"#!") {
        return refuse("is a script");
    }
    let elf64 = read == header.len() && header.starts_with(b"\x7fELF\x02\x01");
    if !elf64 {
        return refuse("is not a 64-bit little-endian ELF program");
    }
    if has_interpreter(file, &header) {
        return refuse("is dynamically linked");
    }
    Ok(())
}

/// Whether a 64-bit ELF file has a `PT_INTERP` segment (System V ABI, "Program
/// Header"). A table that cannot be read counts as one: better refused than run.
fn has_interpreter(file: &File, header: &[u8; 64]) -> bool {
    const PT_INTERP: u32 = 3;
    let field = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[32..40]);
    let (table, size, count) = (u64::from_le_bytes(offset), field(54), field(56));
    (0..count).any(|index| {
        let mut kind = [0; 4];
        let at = table.checked_add(u64::from(index) * u64::from(size));
        match at.map(|at| file.read_exact_at(&mut kind, at)) {
            Some(Ok(())) => u32::from_le_bytes(kind) == PT_INTERP,
            _ => true,
        }
    })
}
