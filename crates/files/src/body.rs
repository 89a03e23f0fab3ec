//! The bytes of an answer: nothing, a few that are at hand, or part of a file
//! read piece by piece.
//!
//! Start at [`FilesBody`]. At most two pieces of a file are in memory for each
//! request, however large it is: the one being sent and the one being read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::access::AccessLine;

/// Large enough that handing a read to another thread hardly counts, small
/// enough for hundreds of downloads at once.
const PIECE_BYTES: u64 = 128 * 1024;

/// A response body; writes the request's access line when it is done with.
pub(crate) struct FilesBody {
    content: Content,
    line: AccessLine,
}

pub(crate) enum Content {
    Empty,
    Bytes(Bytes),
    File(FilePart),
}

/// The rest of a part of a file.
pub(crate) struct FilePart {
    file: Arc<File>,
    next: u64,
    remaining: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    pub(crate) fn new(file: File, start: u64, length: u64) -> FilePart {
        FilePart { file: Arc::new(file), next: start, remaining: length, reading: None }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let reading = self.reading.get_or_insert_with(|| {
            let (file, at) = (Arc::clone(&self.file), self.next);
            let length = self.remaining.min(PIECE_BYTES) as usize;
            // A disk may be slow, and other connections share this thread.
            tokio::task::spawn_blocking(move || read_piece(&file, at, length))
        });
        let piece = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other)??;
        self.reading = None;
        self.next += piece.len() as u64;
        self.remaining -= piece.len() as u64;
        Poll::Ready(Ok(piece))
    }
}

/// At least one byte. A file that has become shorter is an error: the length
/// was promised, and cutting the connection is how the client learns.
fn read_piece(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; length];
    let read = file.read_at(&mut piece, at)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(read);
    Ok(piece.into())
}

impl FilesBody {
    pub(crate) fn new(content: Content, line: AccessLine) -> FilesBody {
        FilesBody { content, line }
    }
}

impl Body for FilesBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Bytes(bytes) => std::mem::take(bytes),
            Content::File(part) => ready!(part.poll_piece(cx))?,
        };
        let is_last = !matches!(&self.content, Content::File(part) if part.remaining > 0);
        if is_last {
            self.content = Content::Empty;
        }
        self.line.bytes += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Empty => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(part) => part.remaining,
        })
    }
}
