//! The few system calls that need `unsafe`, each wrapped once: fork, raw
//! signal dispositions, terminal ioctls, mounts with mapped owners, execution by
//! descriptor. Also small
//! readers of `/proc`. Everything else in the crate is safe code.
//!
//! It must not know instances or specs.
#![allow(unsafe_code)] // fork, exec and ioctl have no safe form; see each SAFETY note

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid};

/// Runs `child` in a forked copy of this process and ends that copy with the
/// returned code, without unwinding into the caller or running exit handlers.
///
/// The calling process must be single-threaded: the copy has only this thread,
/// and a lock held by another would stay locked in it forever.
pub(crate) fn fork_child(child: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: the shim and its helpers are single-threaded (they start from
    // `main` before any thread exists and drop nothing into the background), so
    // the child inherits no lock held elsewhere and may allocate.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: `_exit` is always sound; it skips handlers that belong to
            // the parent's copy of the program.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Undoes what a Rust program and a signalfd loop inherit to their children: an
/// ignored SIGPIPE and a blocked mask. Call just before executing a workload.
pub(crate) fn reset_signals() -> nix::Result<()> {
    // SAFETY: installs the default action, no handler function is involved.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Makes a write to a closed pipe an error instead of a deadly signal, for
/// helpers that write to commands.
pub(crate) fn ignore_broken_pipes() -> nix::Result<()> {
    // SAFETY: ignoring a signal involves no handler function.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop)
}

/// A descriptor that becomes readable when a process ends.
pub(crate) fn open_pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: `pidfd_open` takes a pid and no flags, and returns a new
    // descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = nix::errno::Errno::result(fd)?;
    Ok(own_received_fd(i32::try_from(fd).map_err(|_| nix::errno::Errno::EBADF)?))
}

/// Takes ownership of a descriptor the kernel has just handed out.
pub(crate) fn own_received_fd(fd: i32) -> OwnedFd {
    // SAFETY: callers pass a number that a system call returned to them as a new
    // descriptor and that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Enters the namespace behind a `/proc/PID/ns/NAME` file.
pub(crate) fn enter_namespace(path: &Path, kind: CloneFlags) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    nix::sched::setns(file, kind)?;
    Ok(())
}

/// How a tree with mapped owners may be used.
#[derive(Clone, Copy)]
pub(crate) struct MappedMount {
    pub(crate) read_only: bool,
    /// No set-id programs, no devices and no times of access in it.
    pub(crate) is_volume: bool,
}

impl MappedMount {
    /// An image, which nobody writes to.
    pub(crate) const IMAGE: MappedMount = MappedMount { read_only: true, is_volume: false };

    fn attributes(self) -> u64 {
        let read_only = if self.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let volume = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOATIME;
        libc::MOUNT_ATTR_IDMAP | read_only | if self.is_volume { volume } else { 0 }
    }

    fn cleared(self) -> u64 {
        // One of several, so the one there is goes first.
        if self.is_volume { libc::MOUNT_ATTR__ATIME } else { 0 }
    }
}

/// Attaches a view of the tree at `from` to the directory `to`, in which every
/// owner appears as what `user_namespace` makes of it. Does not include mounts
/// below `from`.
pub(crate) fn mount_with_mapped_owners(
    from: &Path,
    to: &Path,
    user_namespace: BorrowedFd<'_>,
    how: MappedMount,
) -> nix::Result<()> {
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (Ok(from), Ok(to)) = (c_path(from), c_path(to)) else {
        return Err(Errno::EINVAL);
    };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `open_tree` reads the path, which ends with NUL and lives across
    // the call, and returns a new descriptor or -1.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags) };
    let tree = own_received_fd(i32::try_from(Errno::result(tree)?).map_err(|_| Errno::EBADF)?);
    let attributes = libc::mount_attr {
        attr_set: how.attributes(),
        attr_clr: how.cleared(),
        propagation: 0,
        userns_fd: u64::from(user_namespace.as_raw_fd().cast_unsigned()),
    };
    let nothing = c"".as_ptr();
    // SAFETY: `mount_setattr` reads an empty path and as many bytes of the
    // attributes as their size says; both live across the call, as do the two
    // descriptors.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            nothing,
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result)?;
    // SAFETY: `move_mount` reads two paths that end with NUL and live across the
    // call; the descriptor stays ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            nothing,
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// Makes `terminal` the controlling terminal of the calling session leader.
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer argument and a descriptor that the
    // borrow keeps open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Tells a terminal its size in characters.
pub(crate) fn set_window_size(terminal: impl AsFd, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives across the call.
    let result =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// Sets one resource limit, soft and hard alike.
pub(crate) fn limit_data_segment(bytes: u64) -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_DATA, bytes, bytes)
}

/// Neither this process nor its children leave a core dump, whatever they do.
pub(crate) fn forbid_core_dumps() -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Replaces this process by the file behind `file`. Returns only on failure.
pub(crate) fn execute_descriptor(
    file: BorrowedFd<'_>,
    argv: &[CString],
    env: &[CString],
) -> nix::errno::Errno {
    match nix::unistd::fexecve(file, argv, env) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

/// Replaces this process by the file at `path`. Returns only on failure.
pub(crate) fn execute(path: &CString, argv: &[CString], env: &[CString]) -> nix::errno::Errno {
    match nix::unistd::execve(path, argv, env) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

/// Which run of the machine this is: the first half of the kernel's random `boot_id`, 0
/// where it cannot be read.
pub(crate) fn boot() -> u64 {
    static BOOT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}

/// Start time of a live process in clock ticks since boot; `None` for no such
/// process and for a zombie.
pub(crate) fn process_start_ticks(pid: i32) -> Option<u64> {
    let fields = process_fields(pid)?;
    match fields.first()?.as_str() {
        "Z" | "X" => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

/// Session id of a live process.
pub(crate) fn process_session(pid: i32) -> Option<i32> {
    process_fields(pid)?.get(3)?.parse().ok()
}

/// Parent of a process.
pub(crate) fn process_parent(pid: i32) -> Option<i32> {
    process_fields(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from `state` on. The name before them may hold
/// spaces and parentheses, so the split starts behind the last one.
fn process_fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Every pid visible in `/proc`.
pub(crate) fn all_pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A name for `file` inside `dir` short enough for a socket address, which the
/// kernel cuts at 108 bytes. The descriptor must stay open while it is used.
pub(crate) fn short_path(dir: &std::fs::File, file: &str) -> std::path::PathBuf {
    format!("/proc/self/fd/{}/{file}", dir.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_and_a_zombie_is_not() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(process_start_ticks(me).is_some());
        assert!(process_session(me).is_some());
        let mut command = std::process::Command::new("/proc/self/exe");
        let mut child = command.arg("--list").stdout(std::process::Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while process_start_ticks(pid).is_some() {
            assert!(std::time::Instant::now() < deadline, "child never became a zombie");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
