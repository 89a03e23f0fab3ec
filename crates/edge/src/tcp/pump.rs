//! Moving the bytes of one direction of a connection.
//!
//! Small exchanges are copied through a buffer that belongs to the thread, so a
//! connection waiting for its peer holds no memory at all; a stream that keeps
//! filling that buffer is spliced through a borrowed pipe instead, which copies
//! nothing into this process.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::task::coop::consume_budget;

use super::pipes::{PIPE_BYTES, Pipe};
use crate::{scratch, sockets};

/// A read of at least this much counts as one of a bulk transfer.
const BULK_BYTES: usize = 16 * 1024;

/// After so many such reads in a row the stream is spliced.
const BULK_READS: u32 = 3;

/// Where the bytes of a direction are counted: with those of all, and with those of the
/// endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing<'a> {
    pub(crate) all: &'a AtomicU64,
    pub(crate) own: &'a AtomicU64,
    /// Those of this connection alone, when lines are written.
    pub(crate) line: Option<&'a AtomicU64>,
}

impl Passing<'_> {
    pub(crate) fn add(self, bytes: usize) {
        self.all.fetch_add(bytes as u64, Ordering::Relaxed);
        self.own.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(line) = self.line {
            line.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// What one read brought.
enum Read {
    /// So many bytes, all of them passed on.
    Passed(usize),
    /// So many bytes, of which these could not be passed on yet.
    Held(usize, Vec<u8>),
    End,
}

/// Passes on everything `from` sends, then the end of sending. Counts bytes.
///
/// Of a connection's two directions the second to end leaves that to the close that follows.
pub(crate) async fn pump(
    mut from: ReadHalf<'_>,
    to: &TcpStream,
    bytes: Passing<'_>,
    is_half_closed: &AtomicBool,
) -> io::Result<()> {
    let mut bulk_reads = 0;
    loop {
        let passed = match poll_fn(|context| copy_some(&mut from, to, context)).await? {
            Read::End => return end(to, is_half_closed),
            Read::Passed(passed) => passed,
            Read::Held(passed, rest) => {
                write_all(to, &rest).await?;
                passed
            }
        };
        bytes.add(passed);
        bulk_reads = if passed >= BULK_BYTES { bulk_reads + 1 } else { 0 };
        if bulk_reads >= BULK_READS {
            if splice_until_idle(from.as_ref(), to, bytes).await? {
                return end(to, is_half_closed);
            }
            // After a mere pause one more such read suffices.
            bulk_reads = BULK_READS - 1;
        }
    }
}

fn end(to: &TcpStream, is_half_closed: &AtomicBool) -> io::Result<()> {
    if is_half_closed.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    match sockets::end_of_sending(to) {
        // It has gone already; the other direction will see that in its own way.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        outcome => outcome,
    }
}

/// Passes on what `from` has, as far as `to` takes it at once.
///
/// Polled rather than awaited, because the thread's buffer must not be held
/// while waiting.
fn copy_some(
    from: &mut ReadHalf<'_>,
    to: &TcpStream,
    context: &mut Context<'_>,
) -> Poll<io::Result<Read>> {
    scratch::with(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(Read::End));
        }
        let written = match to.try_write(read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            outcome => outcome?,
        };
        Poll::Ready(Ok(if written == read.len() {
            Read::Passed(written)
        } else {
            Read::Held(read.len(), read[written..].to_vec())
        }))
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Splices until `from` has nothing more for the moment; true at its end.
///
/// Where the kernel cannot splice, nothing happens and copying goes on.
async fn splice_until_idle(
    from: &TcpStream,
    to: &TcpStream,
    bytes: Passing<'_>,
) -> io::Result<bool> {
    let Ok(mut pipe) = Pipe::take() else {
        return Ok(false);
    };
    loop {
        consume_budget().await;
        let filled =
            from.try_io(Interest::READABLE, || splice_once(from, &pipe.writer, PIPE_BYTES));
        match filled {
            Ok(0) => {
                pipe.give_back();
                return Ok(true);
            }
            Ok(filled) => pipe.filled = filled,
            Err(error) if is_pause(&error) => {
                pipe.give_back();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        bytes.add(pipe.filled);
        while pipe.filled > 0 {
            let emptied =
                to.try_io(Interest::WRITABLE, || splice_once(&pipe.reader, to, pipe.filled));
            match emptied {
                Ok(emptied) => pipe.filled -= emptied,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Nothing to read now, or a kernel (or sandbox) that does not splice sockets.
fn is_pause(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOSYS))
}

fn splice_once(from: impl AsFd, to: impl AsFd, limit: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        match splice(&from, None, &to, None, limit, flags) {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}
