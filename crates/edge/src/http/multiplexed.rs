//! The HTTP/2 connection to a backend that speaks it, which its requests share.
//!
//! Unlike an `exchange` it is driven by a task of its own, as it belongs to no one request.

use http::header::{CONNECTION, HOST, TE, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::time::Duration;
use tokio::sync::Mutex;

use super::exchange::{Undelivered, is_repeatable};
use super::upload::Upload;
use crate::backend::Backend;

/// What a backend may send ahead: in one answer, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The largest head of an answer.
const HEAD_BYTES_MAX: u32 = 128 * 1024;

/// A backend that vanished without a word is noticed in the sum of these.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);

/// The connection, if there is one. Locked for as long as it takes to make one, so that
/// many requests that come at once make one and not many.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed(Mutex<Option<SendRequest<Upload>>>);

impl Multiplexed {
    /// A way to send on the connection, which is made with `connect` when there is none.
    pub(crate) async fn sender<E>(
        &self,
        connect: impl Future<Output = Result<Backend, E>>,
    ) -> Option<SendRequest<Upload>> {
        let mut kept = self.0.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Some(sender.clone());
        }
        let stream = connect.await.ok()?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .handshake(TokioIo::new(stream))
            .await
            .ok()?;
        // It ends once nobody can send on it and all answers have ended.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "backend connection ended");
            }
        });
        *kept = Some(sender.clone());
        Some(sender)
    }

    /// Lets go of the connection; what is under way on it goes on.
    pub(crate) fn close(&self) {
        // Whoever is making one now uses it, and the backend is gone before the next.
        if let Ok(mut kept) = self.0.try_lock() {
            *kept = None;
        }
    }
}

/// Sends a request and waits for the head of its response.
pub(crate) async fn send(
    mut sender: SendRequest<Upload>,
    request: Request<Upload>,
) -> Result<Response<Incoming>, Undelivered> {
    let spare = is_repeatable(&request).then(|| copy_head(&request));
    let sent = sender.try_send_request(in_h2(request)).await;
    sent.map_err(|mut failed| {
        let request = failed.take_message().map(in_h1).or(spare);
        Undelivered { request, error: failed.into_error().into() }
    })
}

/// The same without its body, which is none.
fn copy_head(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The same request as HTTP/2 has it: the host is part of what is asked for, and nothing is
/// said about the connection (RFC 9113 §8.2.2, §8.3.1).
fn in_h2(mut request: Request<Upload>) -> Request<Upload> {
    *request.version_mut() = Version::HTTP_2;
    for name in [CONNECTION, UPGRADE] {
        request.headers_mut().remove(name);
    }
    let host =
        request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(host) = host {
        request.headers_mut().remove(HOST);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(host);
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// And back, for another backend.
fn in_h1(mut request: Request<Upload>) -> Request<Upload> {
    *request.version_mut() = Version::HTTP_11;
    let host = request.uri().authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    request
}

/// That trailers are understood, which programs may insist on (gRPC does); on other
/// connections it is a matter of the hop.
pub(crate) fn allow_trailers(request: &mut Request<Upload>) {
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
}
