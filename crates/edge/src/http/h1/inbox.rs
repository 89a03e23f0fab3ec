//! Bytes read and not yet made sense of.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Room for what most messages are. What they are slices of is used again once they are gone.
const READ_BYTES: usize = 8 * 1024;

/// Room for what comes in full pieces.
const READ_BYTES_MAX: usize = 128 * 1024;

/// What has come of a byte stream.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) bytes: BytesMut,
    /// How much the next read asks for.
    room: usize,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { bytes: BytesMut::new(), room: READ_BYTES }
    }
}

impl Inbox {
    /// Reads once; nothing at the stream's end.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // Half of it will do: else each head would have the rest of its room given up for new.
        if self.bytes.capacity() - self.bytes.len() < self.room / 2 {
            self.bytes.reserve(self.room);
        }
        let count = ready!(poll_read_buf(Pin::new(stream), context, &mut self.bytes))?;
        self.room = match count {
            _ if self.bytes.len() == self.bytes.capacity() => (2 * self.room).min(READ_BYTES_MAX),
            _ if count < READ_BYTES => READ_BYTES,
            _ => self.room,
        };
        Poll::Ready(Ok(count))
    }
}
