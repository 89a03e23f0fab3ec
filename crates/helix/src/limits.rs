//! The process's own limits.

use nix::libc;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Keeps what this process has in memory out of core dumps and from other
/// processes of the same user: secrets pass through it. The limit alone would not
/// do, since the kernel does not look at it where dumps go to a program.
pub(crate) fn keep_memory_private() {
    let kept = setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| set_dumpable(false));
    if let Err(error) = kept {
        tracing::warn!(%error, "core dumps of this process cannot be forbidden");
    }
}

/// Raises the number of open files to what the system allows: a proxied
/// connection costs two, and the usual soft limit of 1024 is there for programs
/// that use `select(2)`.
pub(crate) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// What is kept of memory that has been freed, for what comes next: the buffers of some streams
/// that carry much. The C library gives back what is beyond 128 KiB with the next call, and the
/// kernel clears it when it is taken anew, page by page: a tenth of what an agent did.
const FREED_BYTES_KEPT: i32 = 4 * 1024 * 1024;

/// Keeps some of the memory that is freed. For processes of one thread, which have it all
/// in one piece; the other threads' of the C library stay as they are without it.
#[expect(unsafe_code, reason = "nothing safe sets it but a variable of the environment")]
pub(crate) fn keep_freed_memory() {
    // SAFETY: it takes two numbers, and no other thread allocates yet.
    let is_set = unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, FREED_BYTES_KEPT) };
    if is_set == 0 {
        tracing::debug!("how much freed memory is kept cannot be set");
    }
}
