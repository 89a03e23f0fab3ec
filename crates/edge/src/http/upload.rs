//! A request's body on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::account::Counting;
use super::body::{BodyError, Requested};
use super::turn::Conversation;

/// A request's body, or the absence of one in a repeated request.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Option<(Requested, Arc<Conversation>)>,
    /// Counts what passes.
    counting: Counting,
    limit: Limit,
}

/// How large a body may be, and whether one was larger. Shared with who has to say so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit(Option<Arc<Measure>>);

#[derive(Debug)]
struct Measure {
    max: u64,
    passed: AtomicU64,
}

impl Limit {
    pub(crate) fn is_exceeded(&self) -> bool {
        self.0.as_ref().is_some_and(|it| it.passed.load(Ordering::Relaxed) > it.max)
    }

    fn pass(&self, bytes: usize) {
        if let Some(measure) = &self.0 {
            measure.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the client's body ended before its end")]
    Client(#[from] BodyError),
    #[error("the body is larger than may be")]
    TooLarge,
}

impl Upload {
    pub(crate) fn new(body: Requested, conversation: &Arc<Conversation>) -> Upload {
        let body = (!body.is_end_stream()).then(|| (body, Arc::clone(conversation)));
        Upload { body, ..Upload::empty() }
    }

    pub(crate) fn empty() -> Upload {
        Upload { body: None, counting: Counting::default(), limit: Limit::default() }
    }

    /// Lets so many bytes pass, counted from its beginning.
    pub(crate) fn limit_to(&mut self, max: u64) -> Limit {
        let fresh = || Arc::new(Measure { max, passed: AtomicU64::new(0) });
        Limit(Some(Arc::clone(self.limit.0.get_or_insert_with(fresh))))
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
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Upload { body, counting, limit } = &mut *self;
        let Some((body, conversation)) = body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if let Some(Err(_)) = &frame {
            conversation.upload_broke();
        }
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            counting.add(bytes);
            limit.pass(bytes);
            if limit.is_exceeded() {
                return Poll::Ready(Some(Err(UploadError::TooLarge)));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(UploadError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
