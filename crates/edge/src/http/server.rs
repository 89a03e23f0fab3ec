//! Accepting HTTP connections and reading requests off them.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::connection::{Socket, converse};
use super::front::Front;
use super::turn::Conversation;
use crate::proxy_protocol;
use crate::shared::Shared;
use crate::sockets;
use crate::stats::Gauge;

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
pub(crate) async fn serve(shared: Arc<Shared>, stream: impl Socket + 'static, front: Front) {
    let _open = Gauge::open(&shared.counters.http_connections_open);
    let conversation = Arc::new(Conversation::default());
    let connection = converse(&shared, Box::new(stream), &front, &conversation);
    let mut connection = pin!(connection);
    let outcome = match shared.draining.interrupts(connection.as_mut()).await {
        Some(outcome) => outcome,
        None => {
            if shared.is_handed_over() {
                last_request(connection.as_mut(), &conversation).await;
            }
            conversation.ends();
            shared.closing.interrupts(connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = %front.client, %error, "client connection ended");
    }
}
