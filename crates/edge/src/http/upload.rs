//! A request's body on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::account::Counting;
use super::turn::Conversation;

/// A request's body, or the absence of one in a repeated request.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Option<(Incoming, Arc<Conversation>)>,
    /// Counts what passes.
    counting: Counting,
}

impl Upload {
    pub(crate) fn new(body: Incoming, conversation: &Arc<Conversation>) -> Upload {
        let body = (!body.is_end_stream()).then(|| (body, Arc::clone(conversation)));
        Upload { body, counting: Counting::default() }
    }

    pub(crate) fn empty() -> Upload {
        Upload { body: None, counting: Counting::default() }
    }

    /// Has what passes counted there.
    pub(crate) fn count(&mut self, counting: Counting) {
        if self.body.is_some() {
            self.counting = counting;
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Upload { body, counting } = &mut *self;
        let Some((body, conversation)) = body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if frame.is_none() || body.is_end_stream() {
            conversation.upload_ended();
        }
        if let Some(Ok(frame)) = &frame {
            counting.add(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
