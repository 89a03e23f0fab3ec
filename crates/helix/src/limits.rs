//! The process's own limits.

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
