//! Answering who scrapes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::text;
use crate::shared::Shared;
use crate::sockets;

/// Prometheus's text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Connections at a time: a few who scrape, and somebody with a browser.
const CONNECTIONS_MAX: usize = 16;

/// From one scrape to the end of the head of the next; who scrapes comes every minute
/// or more often.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

/// Accepts until the edge drains.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some((stream, _)) = shared.draining.interrupts(sockets::accept(&listener)).await {
        // One too many is closed, and comes again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let serving = serve(Arc::clone(&shared), stream);
        shared.tasks.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let answering = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let answer = answer(&answering, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Some(Err(error)) = shared.draining.interrupts(connection).await {
        tracing::debug!(%error, "a connection for metrics ended");
    }
}

fn answer<B>(shared: &Shared, request: &Request<B>) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text) = match request.uri().path() {
        "/metrics" if is_read => (StatusCode::OK, text::of(shared)),
        "/metrics" => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
