//! Flushing a file system while it is being written to. Left to itself, the kernel
//! begins when a tenth of the memory waits to be written or after half a minute, and
//! then whoever wants to be sure waits for all of it at once.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::error::ImageError;

/// Short enough for little to be left at the end, long enough for the disk to get
/// large pieces.
const EVERY: Duration = Duration::from_millis(100);

/// Does something that writes below `path`, and returns when all of it is on disk. One
/// flush of the whole file system instead of one per file: images have tens of
/// thousands.
pub(crate) fn flushed<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let directory = File::open(path).map_err(ImageError::storage("open", path))?;
    thread::scope(|scope| {
        let (working, over) = channel::<()>();
        let directory = &directory;
        scope.spawn(move || {
            while over.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // The last one, below, is the one that counts.
                let _ = nix::unistd::syncfs(directory);
            }
        });
        let outcome = work();
        drop(working);
        outcome
    })
    .and_then(|done| {
        nix::unistd::syncfs(&directory)
            .map_err(|errno| ImageError::storage("flush", path)(errno.into()))?;
        Ok(done)
    })
}
