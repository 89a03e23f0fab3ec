//! A connection to a backend, whichever way it goes.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use helix_link::ByteStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes to and from a program.
#[derive(Debug)]
pub(crate) enum Backend {
    /// An instance on this machine or network.
    Near(TcpStream),
    /// What an agent of a tunnel passes on to.
    Behind { stream: Box<ByteStream>, session: Session },
}

/// Which stay of which agent something goes through; that of what goes through none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session(u64);

impl Session {
    /// One that is like no other.
    pub(crate) fn fresh() -> Session {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Session(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Backend {
    /// What it goes through.
    pub(crate) fn session(&self) -> Session {
        match self {
            Backend::Near(_) => Session::default(),
            Backend::Behind { session, .. } => *session,
        }
    }
}

impl AsyncRead for Backend {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Backend::Near(stream) => Pin::new(stream).poll_read(context, buffer),
            Backend::Behind { stream, .. } => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Backend {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Backend::Near(stream) => Pin::new(stream).poll_write(context, bytes),
            Backend::Behind { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Backend::Near(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Backend::Behind { stream, .. } => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Backend::Near(_))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Backend::Near(stream) => Pin::new(stream).poll_flush(context),
            Backend::Behind { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Backend::Near(stream) => Pin::new(stream).poll_shutdown(context),
            Backend::Behind { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}
