//! A request's body on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::turn::Conversation;

/// A request's body, or the absence of one in a repeated request.
#[derive(Debug)]
pub(crate) struct Upload(Option<(Incoming, Arc<Conversation>)>);

impl Upload {
    pub(crate) fn new(body: Incoming, conversation: &Arc<Conversation>) -> Upload {
        Upload((!body.is_end_stream()).then(|| (body, Arc::clone(conversation))))
    }

    pub(crate) fn empty() -> Upload {
        Upload(None)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, conversation)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if frame.is_none() || body.is_end_stream() {
            conversation.upload_ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
