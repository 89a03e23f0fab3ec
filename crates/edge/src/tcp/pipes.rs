//! Pipes for splicing, kept for reuse.
//!
//! A pipe costs three system calls to make and two descriptors to hold, so idle
//! connections hold none and busy ones borrow.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// How much a pipe takes in one go. Larger ones gain nothing on loopback and
/// count against the user's pipe budget (64 MiB without privileges).
pub(crate) const PIPE_BYTES: usize = 256 * 1024;

/// Pipes kept for reuse; more are made when needed and dropped afterwards.
const KEPT: usize = 64;

static SPARE: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// An empty pipe, and how much is in it now.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
    pub(crate) filled: usize,
}

impl Pipe {
    /// A spare pipe, or a new one.
    pub(crate) fn take() -> io::Result<Pipe> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.map_or_else(Pipe::make, Ok)
    }

    /// Gives a pipe back. One that still holds bytes is closed: they are some
    /// connection's data.
    pub(crate) fn give_back(self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.filled == 0 && spare.len() < KEPT {
            spare.push(self);
        }
    }

    fn make() -> io::Result<Pipe> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Refused when the user's budget is spent; the default size works too.
        let size = i32::try_from(PIPE_BYTES).unwrap_or(i32::MAX);
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size));
        Ok(Pipe { reader, writer, filled: 0 })
    }
}
