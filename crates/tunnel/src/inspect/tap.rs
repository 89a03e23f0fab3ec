//! A body that is looked at as it goes through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::KEPT_BODY_BYTES_MAX;
use super::journal::{Record, Side};

/// Passes a body on and keeps its beginning in the journal.
pub(super) struct Tap<B> {
    inner: B,
    record: Option<Arc<Record>>,
    side: Side,
    /// Of what went through.
    size: u64,
    /// Of it, what the journal has been told.
    told: u64,
    ended: bool,
}

impl<B: Body> Tap<B> {
    pub(super) fn new(inner: B, record: Option<Arc<Record>>, side: Side) -> Tap<B> {
        // Nobody asks for the pieces of a body that has none.
        let ended = inner.is_end_stream();
        Tap { inner, record, side, size: 0, told: 0, ended }
    }

    /// Tells the journal while there is something to keep; sizes of what is longer
    /// follow at the end, so that bulk does not wait for a lock.
    fn saw(&mut self, piece: &Bytes) {
        self.size += piece.len() as u64;
        let Some(record) = &self.record else { return };
        if self.told < KEPT_BODY_BYTES_MAX as u64 {
            record.body(self.side, |kept| kept.take(piece));
            self.told = self.size;
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tap<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    let piece = piece.clone();
                    self.saw(&piece);
                }
            }
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        if self.inner.is_end_stream() {
            self.ended = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Tap<B> {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        let (size, ended) = (self.size, self.ended);
        record.body(self.side, |kept| {
            kept.size = size;
            kept.is_whole = ended;
        });
        if !ended && self.side == Side::Response {
            record.failed("the answer was broken off");
        }
    }
}
