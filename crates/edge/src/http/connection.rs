//! One connection of a client that speaks HTTP/1.1, its requests answered one after another.
//!
//! All of it is one task: reading a request's body is done by whoever sends that on, inside the
//! request's future, so both share the `Wire`; its lock is never waited for.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::body::{BodyError, Requested};
use super::exchange::ExchangeError;
use super::forward::forward;
use super::front::Front;
use super::h1::{Asked, Decoded, Decoder, HeadError, Inbox, Outbox, Persistence, Requests};
use super::reply::X_HELIX_REASON;
use super::turn::Conversation;
use crate::shared::Shared;
use crate::unread::Unread;

/// The largest request head. Larger ones get 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// From the first byte of a head to its last. Ends clients that hold a
/// connection by sending a byte now and then.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may rest between requests.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How much of further requests is read while one is answered, to see whether the client has
/// gone.
const READ_AHEAD_BYTES_MAX: usize = 8 * 1024;

/// What is left of a body that nobody read is passed over if it has come and is no more.
const LEFT_BYTES_MAX: usize = 64 * 1024;

/// How long a client may go on sending what nobody reads. Closing at once would have its kernel
/// throw away the answer that says so.
const LINGER: Duration = Duration::from_secs(2);

/// A stream of bytes from and to a client.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl std::fmt::Debug for dyn Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

/// Why a connection ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the client went away")]
    Gone,
    #[error("the client asked nothing for too long")]
    Late,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("no request: {0}")]
    Head(#[from] HeadError),
    #[error("the answer did not come to its end")]
    Answer(#[from] ExchangeError),
}

impl From<Infallible> for ConnectionError {
    fn from(never: Infallible) -> ConnectionError {
        match never {}
    }
}

/// What is read from and written to a client.
#[derive(Debug)]
struct Wire {
    stream: Box<dyn Socket>,
    inbox: Inbox,
    /// What is left of the body of the request under way.
    body: Decoder,
    /// The client waits to be told that it may send it.
    awaits_permission: bool,
    outbox: Outbox,
}

/// The body of a request, which is read off its connection.
#[derive(Debug)]
pub(crate) struct RequestBody(Arc<Mutex<Wire>>);

/// A connection between requests.
#[derive(Debug)]
struct Connection {
    wire: Arc<Mutex<Wire>>,
    requests: Requests,
    /// One timer for the connection's life, pushed back only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Serves requests until the connection or the conversation ends.
pub(super) async fn converse(
    shared: &Arc<Shared>,
    stream: Box<dyn Socket>,
    front: &Front,
    conversation: &Arc<Conversation>,
) -> Result<(), ConnectionError> {
    let mut connection = Connection::new(stream);
    loop {
        let asked = match connection.next(conversation).await {
            Ok(Some(asked)) => asked,
            Ok(None) => return connection.close().await,
            Err(ConnectionError::Head(error)) => {
                connection.refuse(&error).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error),
        };
        if connection.answer(shared, front, conversation, asked).await? == Persistence::Closed {
            return connection.close().await;
        }
    }
}

impl Connection {
    fn new(stream: Box<dyn Socket>) -> Connection {
        let wire = Wire {
            stream,
            inbox: Inbox::default(),
            body: Decoder::empty(),
            awaits_permission: false,
            outbox: Outbox::default(),
        };
        let (wire, requests) = (Arc::new(Mutex::new(wire)), Requests::default());
        Connection { wire, requests, timer: None }
    }

    /// The next request, unless there will be none.
    async fn next(
        &mut self,
        conversation: &Conversation,
    ) -> Result<Option<Asked>, ConnectionError> {
        let Connection { wire, requests, timer } = self;
        let mut waiting: Option<(Duration, Instant)> = None;
        poll_fn(|context| {
            let Wire { stream, inbox, .. } = &mut *lock(wire);
            loop {
                if let Some(asked) = requests.next(&mut inbox.bytes, HEAD_BYTES_MAX)? {
                    return Poll::Ready(Ok(Some(asked)));
                }
                match inbox.poll_fill(stream, context)? {
                    Poll::Ready(0) if inbox.bytes.is_empty() => return Poll::Ready(Ok(None)),
                    Poll::Ready(0) => return Poll::Ready(Err(ConnectionError::Gone)),
                    Poll::Ready(_) => continue,
                    // What has come before the end is still answered.
                    Poll::Pending if conversation.is_over() && inbox.bytes.is_empty() => {
                        return Poll::Ready(Ok(None));
                    }
                    Poll::Pending => {}
                }
                let limit = if requests.has_begun() { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
                let (_, since) = match waiting {
                    Some(before) if before.0 == limit => before,
                    _ => *waiting.insert((limit, Instant::now())),
                };
                ready!(poll_deadline(timer, since + limit, context));
                return Poll::Ready(Err(ConnectionError::Late));
            }
        })
        .await
    }

    /// Answers a request. Whether another may follow is said by the answer and known when it
    /// has been sent.
    async fn answer(
        &mut self,
        shared: &Arc<Shared>,
        front: &Front,
        conversation: &Arc<Conversation>,
        asked: Asked,
    ) -> Result<Persistence, ConnectionError> {
        let Asked { request, body, persistence, .. } = asked;
        let manner = Manner {
            version: request.version(),
            has_no_body: *request.method() == Method::HEAD,
            takes_trailers: asked.takes_trailers,
        };
        let requested = self.body(body, asked.awaits_permission);
        let upgraded = asked.asks_to_upgrade.then(|| {
            let (upgraded, upgrading) = oneshot::channel();
            conversation.offers(upgrading);
            upgraded
        });
        let mut answering = pin!(forward(shared, front, conversation, request.map(|()| requested)));
        let wire = &self.wire;
        let response = poll_fn(|context| match answering.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending if lock(wire).has_gone(context) => {
                Poll::Ready(Err(ConnectionError::Gone))
            }
            Poll::Pending => Poll::Pending,
        });
        let response = response.await?;
        let is_last = conversation.is_over();
        let persistence = if is_last { Persistence::Closed } else { persistence };
        let is_switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let persistence = self.send(response, manner, persistence).await?;
        match upgraded {
            Some(upgraded) if is_switching => {
                // Whoever wanted it may have gone meanwhile, and the connection goes with it.
                let _ = upgraded.send(lock(&self.wire).take());
                Ok(Persistence::Closed)
            }
            _ => Ok(if self.has_read_all() { persistence } else { Persistence::Closed }),
        }
    }

    /// The body that comes next.
    fn body(&self, body: Decoder, awaits_permission: bool) -> Requested {
        if body.is_over() {
            return Requested::Nothing;
        }
        let mut wire = lock(&self.wire);
        (wire.body, wire.awaits_permission) = (body, awaits_permission);
        Requested::H1(RequestBody(Arc::clone(&self.wire)))
    }

    /// Sends a response to its end.
    async fn send<B>(
        &self,
        response: Response<B>,
        manner: Manner,
        mut persistence: Persistence,
    ) -> Result<Persistence, ConnectionError>
    where
        B: Body<Data = Bytes> + Unpin,
        ConnectionError: From<B::Error>,
    {
        let has_body = manner.has_body(response.status());
        let mut encoder = {
            let mut wire = lock(&self.wire);
            if std::mem::take(&mut wire.awaits_permission) {
                persistence = Persistence::Closed;
            }
            let parts = (has_body, manner.takes_trailers);
            wire.outbox.response(&response, manner.version, parts, &mut persistence)
        };
        let mut body = Some(response.into_body()).filter(|_| has_body);
        poll_fn(|context| {
            loop {
                let mut wire = lock(&self.wire);
                let Some(sending) = body.as_mut().filter(|_| wire.outbox.has_room()) else {
                    ready!(wire.poll_flush(context))?;
                    if body.is_none() {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                };
                // Sending it may take reading the request's.
                drop(wire);
                let frame = Pin::new(&mut *sending).poll_frame(context)?;
                let mut wire = lock(&self.wire);
                match frame {
                    Poll::Ready(Some(frame)) => wire.outbox.frame(&mut encoder, frame),
                    Poll::Ready(None) => {
                        wire.outbox.end(&mut encoder);
                        body = None;
                        continue;
                    }
                    Poll::Pending => {
                        ready!(wire.poll_flush(context))?;
                        if wire.has_gone(context) {
                            return Poll::Ready(Err(ConnectionError::Gone));
                        }
                        return Poll::Pending;
                    }
                }
                if sending.is_end_stream() {
                    wire.outbox.end(&mut encoder);
                    body = None;
                }
            }
        })
        .await?;
        // A length that was not kept to would have the next head be taken for the rest.
        Ok(if encoder.is_true() { persistence } else { Persistence::Closed })
    }

    /// Passes over what has come of a body that nobody read; whether that was all of it.
    fn has_read_all(&self) -> bool {
        let Wire { stream, inbox, body, .. } = &mut *lock(&self.wire);
        let mut left = LEFT_BYTES_MAX;
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match body.next(&mut inbox.bytes) {
                Ok(Decoded::Over) => return true,
                Ok(Decoded::Trailers(_)) => {}
                Ok(Decoded::Data(data)) if data.len() <= left => left -= data.len(),
                Ok(Decoded::More) => match inbox.poll_fill(stream, &mut context) {
                    Poll::Ready(Ok(1..)) => {}
                    _ => return false,
                },
                Ok(Decoded::Data(_)) | Err(_) => return false,
            }
        }
    }

    /// Says what is wrong with what came instead of a request, and closes.
    async fn refuse(&self, error: &HeadError) -> Result<(), ConnectionError> {
        let mut response = Response::new(Full::new(Bytes::from(format!("{error}\n"))));
        *response.status_mut() = match error {
            HeadError::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::TargetTooLong => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_HELIX_REASON, HeaderValue::from_static("bad_request"));
        // Whatever follows is not a request either.
        lock(&self.wire).body = Decoder::UntilClose;
        let manner =
            Manner { version: Version::HTTP_11, has_no_body: false, takes_trailers: false };
        self.send(response, manner, Persistence::Closed).await?;
        self.close().await
    }

    /// Closes, once the client has had the chance to read what it was answered.
    async fn close(&self) -> Result<(), ConnectionError> {
        let (mut stream, has_read_all) = {
            let mut wire = lock(&self.wire);
            (wire.take(), wire.body.is_over())
        };
        stream.shutdown().await?;
        if !has_read_all {
            let mut unread = vec![0; READ_AHEAD_BYTES_MAX];
            let reading = async { while matches!(stream.read(&mut unread).await, Ok(1..)) {} };
            // Late or not, it is over then.
            let _ = timeout(LINGER, reading).await;
        }
        Ok(())
    }
}

/// What the form of an answer depends on besides what is answered.
#[derive(Clone, Copy, Debug)]
struct Manner {
    version: Version,
    has_no_body: bool,
    takes_trailers: bool,
}

impl Manner {
    /// Whether an answer with this status has a body, be it an empty one (RFC 9110 §6.4.1).
    fn has_body(self, status: StatusCode) -> bool {
        let never = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        !self.has_no_body && !never && !status.is_informational()
    }
}

impl Wire {
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_flush(&mut self.stream, context)
    }

    /// Whether the client has gone while it is being answered.
    fn has_gone(&mut self, context: &mut Context<'_>) -> bool {
        while self.body.is_over() && self.inbox.bytes.len() < READ_AHEAD_BYTES_MAX {
            match self.inbox.poll_fill(&mut self.stream, context) {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }

    /// The stream, with what was read of it.
    fn take(&mut self) -> Unread<Box<dyn Socket>> {
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        Unread::new(self.inbox.bytes.split().freeze(), stream)
    }
}

impl RequestBody {
    pub(super) fn is_over(&self) -> bool {
        lock(&self.0).body.is_over()
    }

    pub(super) fn length(&self) -> Option<u64> {
        lock(&self.0).body.length()
    }

    pub(super) fn poll_frame(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let wire = &mut *lock(&self.0);
        if std::mem::take(&mut wire.awaits_permission) {
            wire.outbox.permission();
        }
        let Wire { stream, inbox, body, outbox, .. } = wire;
        // No more than the permission, or of an answer that has begun.
        ready!(outbox.poll_flush(stream, context))?;
        loop {
            match body.next(&mut inbox.bytes)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(them) => return Poll::Ready(Some(Ok(Frame::trailers(them)))),
                Decoded::Over => return Poll::Ready(None),
                Decoded::More => {}
            }
            if ready!(inbox.poll_fill(stream, context))? == 0 {
                return Poll::Ready(Some(Err(BodyError::Ended)));
            }
        }
    }
}

fn poll_deadline(
    timer: &mut Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(context).is_ready() {
        if timer.deadline() >= deadline {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
