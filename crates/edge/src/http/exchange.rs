//! One HTTP connection to a backend, and the idle ones kept for reuse.
//!
//! The connection is driven by whoever uses it, inside the task of the client's
//! connection, rather than by a task of its own: a request then costs no hand-over
//! between threads, and an idle connection costs no task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::h1::{
    Answered, Decoded, Decoder, Encoder, HeadError, Inbox, Outbox, Persistence, Responses,
};
use super::upload::{Upload, UploadError};
use crate::backend::{Backend, Session};
use crate::shards;
use crate::unread::Unread;

/// The largest response head.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Idle connections kept per backend.
const IDLE_MAX: usize = 256;

/// How long an idle connection is kept. Shorter than what common servers allow
/// (nginx 75 s, Apache and Node 5 s are the extremes); a connection the backend
/// closes first is noticed before use or its request repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection to a backend, carrying one request at a time. Made once and handed from one
/// request to the next, so it is kept in a box.
#[derive(Debug)]
pub(crate) struct Exchange {
    stream: Backend,
    /// What it goes through.
    session: Session,
    inbox: Inbox,
    responses: Responses,
    /// What is left of the response.
    download: Decoder,
    outbox: Outbox,
    /// What is left of the request's body.
    upload: Option<(Upload, Encoder)>,
    /// Whether the backend means to take another request.
    persistence: Persistence,
    /// Whether it could not be told from the rest of this one.
    is_broken: bool,
}

/// Why an exchange came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("the connection ended before the response did")]
    Ended,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("no response: {0}")]
    Malformed(#[from] HeadError),
    #[error("the request's body did not come to its end")]
    Upload(#[from] UploadError),
    #[error("the connection is not usable")]
    Shared(#[from] hyper::Error),
}

/// A request that got no response.
#[derive(Debug)]
pub(crate) struct Undelivered {
    /// The request, when sending it again can do no harm.
    pub(crate) request: Option<Request<Upload>>,
    pub(crate) error: ExchangeError,
}

/// Connections to one backend that wait for their next request.
///
/// Each thread has those that it made: driven by another they would wake the one that
/// made them at every turn.
#[derive(Debug)]
pub(crate) struct IdleConnections(Box<[Mutex<Idle>]>);

impl Default for IdleConnections {
    fn default() -> IdleConnections {
        IdleConnections((0..shards::count()).map(|_| Mutex::default()).collect())
    }
}

#[derive(Debug, Default)]
struct Idle {
    /// Longest idle first.
    connections: Vec<(Instant, Box<Exchange>)>,
    is_closed: bool,
}

impl Exchange {
    pub(crate) fn new(stream: Backend) -> Exchange {
        Exchange {
            session: stream.session(),
            stream,
            inbox: Inbox::default(),
            responses: Responses::default(),
            download: Decoder::empty(),
            outbox: Outbox::default(),
            upload: None,
            persistence: Persistence::Kept,
            is_broken: false,
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<()>, Undelivered> {
        let encoder = self.outbox.request(&request);
        let is_repeatable = is_repeatable(&request);
        let (parts, body) = request.into_parts();
        self.upload = (!body.is_end_stream()).then_some((body, encoder));
        let asked = &parts.method;
        match poll_fn(|context| self.poll_head(context, asked)).await {
            Ok(Answered { response, body, persistence }) => {
                (self.download, self.persistence) = (body, persistence);
                Ok(response)
            }
            Err(error) => {
                let again = || Request::from_parts(parts, Upload::empty());
                Err(Undelivered { request: is_repeatable.then(again), error })
            }
        }
    }

    /// The next piece of the response's body. The request's goes on meanwhile.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        self.drive(context)?;
        loop {
            match self.download.next(&mut self.inbox.bytes)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(them) => return Poll::Ready(Some(Ok(Frame::trailers(them)))),
                Decoded::Over => return Poll::Ready(None),
                Decoded::More => {}
            }
            if ready!(self.inbox.poll_fill(&mut self.stream, context))? == 0 {
                self.is_broken = true;
                if self.download != Decoder::UntilClose {
                    return Poll::Ready(Some(Err(ExchangeError::Ended)));
                }
                self.download = Decoder::empty();
            }
        }
    }

    /// Whether the response has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.download.is_over()
    }

    /// How much of its body is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.download.length().map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    /// The connection, which is of another protocol from here on.
    pub(crate) fn upgrade(mut self: Box<Self>) -> Unread<Backend> {
        Unread::new(self.inbox.bytes.split().freeze(), self.stream)
    }

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        asked: &Method,
    ) -> Poll<Result<Answered, ExchangeError>> {
        self.drive(context)?;
        loop {
            let bytes = &mut self.inbox.bytes;
            if let Some(answered) = self.responses.next(bytes, asked, HEAD_BYTES_MAX)? {
                return Poll::Ready(Ok(answered));
            }
            if ready!(self.inbox.poll_fill(&mut self.stream, context))? == 0 {
                return Poll::Ready(Err(ExchangeError::Ended));
            }
        }
    }

    /// Sends of the request what can be sent.
    fn drive(&mut self, context: &mut Context<'_>) -> Result<(), UploadError> {
        loop {
            let is_waiting = match self.upload.as_mut().filter(|_| self.outbox.has_room()) {
                Some((body, encoder)) => match Pin::new(&mut *body).poll_frame(context)? {
                    Poll::Ready(Some(frame)) => {
                        self.outbox.frame(encoder, frame);
                        continue;
                    }
                    Poll::Ready(None) => {
                        self.outbox.end(encoder);
                        self.is_broken |= !encoder.is_true();
                        self.upload = None;
                        true
                    }
                    Poll::Pending => true,
                },
                None => self.upload.is_none(),
            };
            match self.outbox.poll_flush(&mut self.stream, context) {
                Poll::Ready(Ok(())) if is_waiting => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Ok(()),
                // A backend that takes no more may have said why: that is for reading to find
                // out.
                Poll::Ready(Err(error)) => {
                    tracing::trace!(%error, "a backend takes no more of a request");
                    (self.upload, self.is_broken) = (None, true);
                    self.outbox = Outbox::default();
                    return Ok(());
                }
            }
        }
    }

    fn is_reusable(&mut self) -> bool {
        let is_at_rest = self.download.is_over()
            && self.persistence != Persistence::Closed
            && !self.is_broken
            && self.upload.is_none()
            && self.outbox.is_empty()
            && self.inbox.bytes.is_empty();
        // What comes unasked, and be it the end, is not the next response.
        is_at_rest
            && self
                .inbox
                .poll_fill(&mut self.stream, &mut Context::from_waker(Waker::noop()))
                .is_pending()
    }
}

impl IdleConnections {
    /// A connection that was open a moment ago. Those through an agent that has been
    /// followed by another are let go of.
    pub(crate) fn take(&self, session: Session) -> Option<Box<Exchange>> {
        loop {
            // The lock is let go before the connection is looked at.
            let (_, mut exchange) = lock(self.own()).connections.pop()?;
            if exchange.session == session && exchange.is_reusable() {
                return Some(exchange);
            }
        }
    }

    /// Keeps a connection whose response has been read to its end.
    pub(crate) fn put(&self, mut exchange: Box<Exchange>) {
        if exchange.is_reusable() {
            let mut idle = lock(self.own());
            if !idle.is_closed && idle.connections.len() < IDLE_MAX {
                idle.connections.push((Instant::now(), exchange));
            }
        }
    }

    /// Closes what has idled too long or was closed by the backend.
    pub(crate) fn sweep(&self) {
        for own in &self.0 {
            let mut kept = std::mem::take(&mut lock(own).connections);
            kept.retain_mut(|(since, exchange)| {
                since.elapsed() < IDLE_TIMEOUT && exchange.is_reusable()
            });
            let mut idle = lock(own);
            if !idle.is_closed {
                kept.append(&mut idle.connections);
                idle.connections = kept;
            }
        }
    }

    /// Closes all, and every further one that comes back.
    pub(crate) fn close(&self) {
        for own in &self.0 {
            let mut idle = lock(own);
            idle.is_closed = true;
            idle.connections.clear();
        }
    }

    fn own(&self) -> &Mutex<Idle> {
        &self.0[shards::own()]
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a backend may see the request twice (RFC 9110 §9.2.2) and there is no
/// body that would be gone the second time.
pub(super) fn is_repeatable(request: &Request<Upload>) -> bool {
    let method = request.method();
    (method.is_safe() || matches!(*method, Method::PUT | Method::DELETE))
        && request.body().is_end_stream()
}
