//! A stream as bytes: what reads and writes a connection reads and writes it, with
//! closing of each direction apart and resets.
//!
//! Messages have no meaning here; each is a piece of what is sent.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::PollSemaphore;

use crate::error::StreamError;
use crate::gauge::cost;
use crate::limits::FRAGMENT_BYTES_MAX;
use crate::stream::{Receiver, Sender, Stream};

/// Both directions of a stream as bytes. Dropped before the far end has closed its
/// direction, it resets the stream.
pub struct ByteStream {
    receiver: Receiver,
    /// What came and has not been read.
    unread: Bytes,
    sender: Option<Sender>,
    credit: PollSemaphore,
    slots: PollSemaphore,
    /// Bytes of the next piece, whose credit is there already.
    paid: Option<usize>,
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

impl From<Stream> for ByteStream {
    fn from(stream: Stream) -> ByteStream {
        let Stream { sender, receiver } = stream;
        let (credit, slots) = sender.semaphores();
        ByteStream {
            receiver,
            unread: Bytes::new(),
            sender: Some(sender),
            credit: PollSemaphore::new(credit),
            slots: PollSemaphore::new(slots),
            paid: None,
        }
    }
}

impl ByteStream {
    /// Ends both directions, and says why.
    pub fn reset(mut self, reason: &str) {
        if let Some(sender) = self.sender.take() {
            sender.reset(reason);
        }
    }
}

fn broken(error: StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receiver.poll_next(cx)) {
                Ok(Some(piece)) => self.unread = piece,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(broken(error))),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = &mut *self;
        let sender = this.sender.as_mut().ok_or_else(closed)?;
        let length = match this.paid {
            Some(length) => length,
            None => {
                let length = bytes.len().min(FRAGMENT_BYTES_MAX);
                let price = u32::try_from(cost(length)).unwrap_or(u32::MAX);
                match ready!(this.credit.poll_acquire_many(cx, price)) {
                    Some(paid) => paid.forget(),
                    None => return Poll::Ready(Err(broken(sender.over()))),
                }
                *this.paid.insert(length)
            }
        };
        let Some(slot) = ready!(this.slots.poll_acquire(cx)) else {
            return Poll::Ready(Err(broken(sender.over())));
        };
        this.paid = None;
        // Whoever polls may come back with less than before.
        let taken = length.min(bytes.len());
        this.credit.add_permits(length - taken);
        sender.queue(&bytes[..taken], slot).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is queued is sent without being asked for.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sender) = self.sender.take() {
            sender.close();
        }
        Poll::Ready(Ok(()))
    }
}
