//! HTTP/2 connections of clients. Each request goes the way of any other; backends are
//! spoken to in HTTP/1.1.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::body::Requested;
use super::connection::{HEAD_BYTES_MAX, HEAD_TIMEOUT, IDLE_TIMEOUT};
use super::forward::forward;
use super::front::Front;
use super::turn::{Conversation, OpenStream};
use crate::shared::Shared;
use crate::stats::Gauge;

/// Requests under way on one connection: what RFC 9113 §6.5.2 asks for at least.
const STREAMS_MAX: u32 = 100;

/// Requests a client has taken back before they were looked at. One that does so
/// again and again ("rapid reset", CVE-2023-44487) is cut off.
const RESETS_PENDING_MAX: usize = 20;

/// One that takes more than half of its requests back while they are answered is cut off
/// too, from so many on. A browser takes back what a page that is left was loading.
const TAKEN_BACK_MIN: usize = 200;

/// Errors a client may make the edge answer before it is cut off.
const ERRORS_MAX: usize = 100;

/// What a client may send ahead: in one request, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What is kept of one response that a client does not take.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// A client that vanished without a word is noticed in the sum of these.
const PING_EVERY: Duration = Duration::from_secs(45);
const PING_WAIT: Duration = Duration::from_secs(20);

/// Spawns the tasks of requests where shutting down waits for them.
#[derive(Clone, Debug)]
struct Tasks(Arc<Shared>);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.tasks.spawn(task);
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve_h2<S>(shared: Arc<Shared>, stream: S, front: Front)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Gauge::open(&shared.counters.http_connections_open);
    let (streams, open_streams) = watch::channel(0);
    let (streams, front) = (Arc::new(streams), Arc::new(front));
    let patience = Arc::new(Patience::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, front) = (Arc::clone(&shared), Arc::clone(&front));
        let conversation = Arc::new(Conversation::of_stream(OpenStream::new(&streams)));
        let answering = Answering::begin(&patience);
        async move {
            let request = request.map(Requested::H2);
            let answer = forward(&shared, &front, &conversation, request).await;
            answering.finish();
            Ok::<_, io::Error>(answer)
        }
    });
    let connection = http2::Builder::new(Tasks(Arc::clone(&shared)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = shared.draining.interrupts(connection.as_mut()) => outcome,
        () = idleness(open_streams) => None,
        () = patience.ended.notified() => {
            return tracing::debug!(peer = %front.client, "client takes its requests back");
        }
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            let ending = shared.closing.interrupts(connection);
            if shared.draining.has_come() {
                ending.await.unwrap_or(Ok(()))
            } else {
                timeout(HEAD_TIMEOUT, ending).await.ok().flatten().unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = %front.client, %error, "client connection ended");
    }
}

/// How much of what a client asks it takes back.
#[derive(Debug, Default)]
struct Patience {
    asked: AtomicUsize,
    taken_back: AtomicUsize,
    ended: Notify,
}

/// A request that is being answered. Dropped before, it was taken back.
struct Answering(Option<Arc<Patience>>);

impl Answering {
    fn begin(patience: &Arc<Patience>) -> Answering {
        patience.asked.fetch_add(1, Ordering::Relaxed);
        Answering(Some(Arc::clone(patience)))
    }

    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let Some(patience) = &self.0 else { return };
        let taken_back = patience.taken_back.fetch_add(1, Ordering::Relaxed) + 1;
        let is_most = 2 * taken_back > patience.asked.load(Ordering::Relaxed);
        if taken_back >= TAKEN_BACK_MIN && is_most {
            patience.ended.notify_one();
        }
    }
}

/// Ends when nothing has been asked for a while.
async fn idleness(mut open: watch::Receiver<usize>) {
    while open.wait_for(|open| *open == 0).await.is_ok() {
        if timeout(IDLE_TIMEOUT, open.changed()).await.is_err() {
            return;
        }
    }
}
