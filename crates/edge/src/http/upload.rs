//! A request's body on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::turn::Conversation;
use crate::meter::Meter;

/// A request's body, or the absence of one in a repeated request.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Option<(Incoming, Arc<Conversation>)>,
    /// Counts what passes.
    meter: Option<Arc<Meter>>,
}

impl Upload {
    pub(crate) fn new(body: Incoming, conversation: &Arc<Conversation>) -> Upload {
        let body = (!body.is_end_stream()).then(|| (body, Arc::clone(conversation)));
        Upload { body, meter: None }
    }

    pub(crate) fn empty() -> Upload {
        Upload { body: None, meter: None }
    }

    /// Has what passes counted there.
    pub(crate) fn count(&mut self, meter: Option<&Arc<Meter>>) {
        if self.body.is_some() {
            self.meter = meter.cloned();
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
        let Upload { body, meter } = &mut *self;
        let Some((body, conversation)) = body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if frame.is_none() || body.is_end_stream() {
            conversation.upload_ended();
        }
        if let (Some(Ok(frame)), Some(meter)) = (&frame, meter) {
            meter.received(frame.data_ref().map_or(0, Bytes::len));
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
