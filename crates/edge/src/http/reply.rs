//! Responses: streamed from a backend, or the edge's own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::account::Account;
use super::exchange::{Exchange, ExchangeError};
use super::host::HostError;
use super::turn::Turn;
use crate::agents::door::Closed;
use crate::meter::Why;
use crate::upstream::Upstream;
use crate::work::OpenWork;

pub(crate) const X_HELIX_REASON: HeaderName = HeaderName::from_static("x-helix-reason");

/// Seconds after which a client may try again: about how long a fresh instance
/// takes to become ready.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Browsers keep a permanent redirect for ever unless told otherwise, and certificates
/// may be taken away again.
const REDIRECT_CACHED: HeaderValue = HeaderValue::from_static("max-age=300");

/// A response's body. The request's turn ends with it.
#[derive(Debug)]
pub(crate) struct Reply {
    content: Content,
    account: Option<Account>,
    _turn: Turn,
}

#[derive(Debug)]
enum Content {
    Download(Download),
    Text(Option<Bytes>),
}

/// A backend's response body, and all that must last as long as it.
#[derive(Debug)]
pub(crate) struct Download {
    /// Absent once it was given back.
    source: Option<Source>,
    upstream: Arc<Upstream>,
    _work: OpenWork,
}

/// Where a response's body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A connection of its own.
    Exchange(Box<Exchange>),
    /// One that somebody else drives.
    Shared(Incoming),
}

/// Why the edge answers a request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("this is not a forward proxy: CONNECT is not offered")]
    Connect,
    #[error("only the chunked transfer coding is understood")]
    Coding,
    #[error("this connection was made for another host")]
    Misdirected,
    #[error("this is served over HTTPS: {0}")]
    Elsewhere(String),
    #[error("{0}")]
    Challenged(String),
    #[error("no app here is called {0}\n\nTo see which are: helix endpoints list")]
    UnknownHost(String),
    #[error("no instance of this app is ready\n\nTo see why: helix status")]
    NoBackend,
    #[error("this app has as many requests as it takes at a time; try again in a moment")]
    Full,
    #[error("this app takes no more requests in a second; try again in a moment")]
    TooMany,
    #[error("the body of this request cannot be read")]
    Body,
    #[error("the body of this request is larger than this app takes")]
    BodyTooLarge,
    #[error("the headers of this request are larger than this app takes")]
    HeadTooLarge,
    #[error("no instance of this app can be reached\n\nTo see why: helix status")]
    Unreachable,
    #[error("no agent has this tunnel now\n\nTo offer it: helix http PORT --name NAME")]
    NoAgent,
    #[error(transparent)]
    Agent(Closed),
    #[error("the app ended the connection without a response\n\nTo see why: helix logs")]
    NoResponse,
}

impl Refused {
    /// One too many.
    pub(crate) fn full(why: Why) -> Refused {
        if why == Why::RateLimit { Refused::TooMany } else { Refused::Full }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refused::Host(_) | Refused::Body => StatusCode::BAD_REQUEST,
            Refused::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Coding => StatusCode::NOT_IMPLEMENTED,
            Refused::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Refused::Elsewhere(_) => StatusCode::PERMANENT_REDIRECT,
            Refused::Challenged(_) => StatusCode::OK,
            Refused::UnknownHost(_) => StatusCode::NOT_FOUND,
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refused::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refused::NoBackend | Refused::Full | Refused::Unreachable | Refused::NoAgent => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refused::Agent(closed) => closed.status(),
            Refused::NoResponse => StatusCode::BAD_GATEWAY,
        }
    }

    /// What it counts as, if it was about an app or its endpoint.
    pub(crate) fn why(&self) -> Option<Why> {
        match self {
            Refused::NoBackend | Refused::NoAgent => Some(Why::NoBackend),
            Refused::Full => Some(Why::MaxConnections),
            Refused::TooMany => Some(Why::RateLimit),
            Refused::BodyTooLarge => Some(Why::BodyTooLarge),
            Refused::HeadTooLarge => Some(Why::HeadTooLarge),
            Refused::Unreachable => Some(Why::BackendUnreachable),
            Refused::NoResponse => Some(Why::BackendClosed),
            Refused::Host(_)
            | Refused::Connect
            | Refused::Body
            | Refused::Coding
            | Refused::Misdirected
            | Refused::Elsewhere(_)
            | Refused::Challenged(_)
            | Refused::Agent(_)
            | Refused::UnknownHost(_) => None,
        }
    }

    /// For programs: tells the edge's answers from an app's.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refused::Host(_) => "bad_host",
            Refused::Connect => "no_connect",
            Refused::Body => "bad_body",
            Refused::Coding => "unknown_coding",
            Refused::Misdirected => "misdirected",
            Refused::Elsewhere(_) => "https",
            Refused::Challenged(_) => "acme_challenge",
            Refused::UnknownHost(_) => "unknown_host",
            Refused::NoBackend => Why::NoBackend.word(),
            Refused::NoAgent => "tunnel_offline",
            Refused::Agent(closed) => closed.reason(),
            Refused::Full => Why::MaxConnections.word(),
            Refused::TooMany => Why::RateLimit.word(),
            Refused::BodyTooLarge => Why::BodyTooLarge.word(),
            Refused::HeadTooLarge => Why::HeadTooLarge.word(),
            Refused::Unreachable => Why::BackendUnreachable.word(),
            Refused::NoResponse => Why::BackendClosed.word(),
        }
    }

    /// The answer a person reads in a browser or with curl.
    pub(crate) fn into_response(self, turn: Turn, account: Account) -> Response<Reply> {
        let text = match &self {
            // To the letter.
            Refused::Challenged(answer) => Bytes::from(answer.clone()),
            _ => Bytes::from(format!("{self}\n")),
        };
        let content = Content::Text(Some(text));
        let mut response = Response::new(Reply { content, account: Some(account), _turn: turn });
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_HELIX_REASON, HeaderValue::from_static(self.reason()));
        let passes = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        if passes.contains(&self.status()) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if let Refused::Elsewhere(location) = &self
            && let Ok(location) = HeaderValue::from_str(location)
        {
            headers.insert(LOCATION, location);
            headers.insert(CACHE_CONTROL, REDIRECT_CACHED);
        }
        response
    }
}

impl Reply {
    pub(crate) fn download(download: Download, turn: Turn, account: Account) -> Reply {
        Reply { content: Content::Download(download), account: Some(account), _turn: turn }
    }

    /// No body: the connection changes protocol after this response.
    pub(crate) fn switching(turn: Turn) -> Reply {
        Reply { content: Content::Text(None), account: None, _turn: turn }
    }
}

impl Download {
    pub(crate) fn new(source: Source, upstream: Arc<Upstream>, work: OpenWork) -> Download {
        Download { source: Some(source), upstream, _work: work }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match &mut self.source {
            Some(source) => Pin::new(source).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Download {
    /// A connection whose response was read to its end waits for the next
    /// request; any other is closed.
    fn drop(&mut self) {
        if let Some(Source::Exchange(exchange)) = self.source.take() {
            self.upstream.idle.put(exchange);
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match self.get_mut() {
            Source::Exchange(exchange) => exchange.poll_frame(context),
            Source::Shared(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Exchange(exchange) => exchange.is_over(),
            Source::Shared(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Exchange(exchange) => exchange.size_hint(),
            Source::Shared(body) => body.size_hint(),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let frame = match &mut self.content {
            Content::Download(download) => ready!(download.poll_frame(context)),
            Content::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
        };
        if let Some(account) = &mut self.account {
            match &frame {
                Some(Ok(frame)) => account.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) => account.broken_off(),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Download(download) => download.source.as_ref().is_none_or(Body::is_end_stream),
            Content::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Download(download) => {
                download.source.as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
            Content::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}
