//! Accepting HTTP connections and reading requests off them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::forward::forward;
use super::front::Front;
use super::strict_head::StrictHead;
use super::turn::Conversation;
use crate::proxy_protocol;
use crate::shared::Shared;
use crate::sockets;
use crate::stats::Gauge;

/// The largest request head. Larger ones get 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How much of a request is read ahead of a backend.
const BUFFER_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;

/// How long a process that was taken over waits for one more request on a connection.
const LAST_REQUEST_WAIT: Duration = Duration::from_secs(2);

/// Accepts until the edge drains.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while let Some((stream, peer)) = shared.draining.interrupts(sockets::accept(&listener)).await {
        let own = Arc::clone(&shared);
        shared.carry(stream, move |stream| begin(own, stream, peer));
    }
}

async fn begin(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) {
    let asking = proxy_protocol::whose(&shared, &mut stream, peer);
    if let Some(whose) = shared.begins(asking).await.flatten() {
        let front = Front::new(whose.client, None);
        serve(shared, stream, front).await;
    }
}

/// Waits until a request is under way, the connection has ended, or it is plain that none
/// comes. A client that was accepted, or has just been answered, sends its next request
/// without knowing that this process is at its end; closing at once would lose it.
async fn last_request(connection: impl Future, conversation: &Conversation) {
    let mut connection = pin!(connection);
    let asking = poll_fn(|context| {
        let has_ended = connection.as_mut().poll(context).is_ready();
        if has_ended || conversation.is_in_flight() { Poll::Ready(()) } else { Poll::Pending }
    });
    // Late or not, it is over then.
    let _ = timeout(LAST_REQUEST_WAIT, asking).await;
}

/// Serves an HTTP/1 connection to its end.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S, front: Front)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Gauge::open(&shared.counters.http_connections_open);
    let (conversation, front) = (Arc::new(Conversation::default()), Arc::new(front));
    let stream = TokioIo::new(StrictHead::new(stream, Arc::clone(&conversation)));
    let service = service_fn(|request| {
        let (shared, front) = (Arc::clone(&shared), Arc::clone(&front));
        let conversation = Arc::clone(&conversation);
        async move { Ok::<_, io::Error>(forward(&shared, &front, &conversation, request).await) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        // `StrictHead` keeps time instead: the parser's limit would also end
        // connections that merely rest between requests.
        .header_read_timeout(None)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let outcome = match shared.draining.interrupts(connection.as_mut()).await {
        Some(outcome) => outcome,
        None => {
            if shared.is_handed_over() {
                last_request(connection.as_mut(), &conversation).await;
            }
            connection.as_mut().graceful_shutdown();
            shared.closing.interrupts(connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = %front.client, %error, "client connection ended");
    }
}
