//! Nodes and edges that are linked over a network: their end of
//! [`links`](crate::links), and the life of such a link.
//!
//! Start from [`serve`]. What a machine says is in `helix_model::link`.

mod edge;
mod node;

use std::time::Duration;

use axum::extract::ws::WebSocket;
use helix_link::{Link, LinkError, Side, websocket};
use helix_model::link::{Hello, LINK_PROTOCOL};
use helix_model::{Code, Problem};
use serde::Serialize;

use crate::server::Shared;

/// How long a machine may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// What a machine asks for at a time; more waits. Each is a look into the database.
const ANSWERS_MAX: usize = 16;

/// Serves a link until either side ends it, the server is closing, or the right to
/// it has `ended`.
pub(crate) async fn serve(
    shared: std::sync::Arc<Shared>,
    socket: WebSocket,
    ended: impl Future<Output = ()> + Send,
) {
    let (link, mut incoming) = Link::start(websocket::server(socket), Side::Server);
    let Ok(Some(opened)) = tokio::time::timeout(HELLO_WAIT, incoming.next()).await else {
        tracing::debug!("a machine linked and did not say who it is");
        return;
    };
    let hello: Hello = match serde_json::from_slice(&opened.header) {
        Ok(hello) => hello,
        Err(error) => return opened.stream.sender.reset(&format!("not understood: {error}")),
    };
    let lost = link.clone();
    let serving = async {
        match hello {
            Hello::Node(hello) => {
                node::serve(&shared, link, (opened.stream, incoming), hello).await;
            }
            Hello::Edge(hello) => {
                edge::serve(&shared, link, (opened.stream, incoming), hello).await;
            }
        }
    };
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return,
        () = ended => lost.close(),
    }
    // It has to note that the machine is gone.
    serving.await;
}

/// Refuses a machine that is newer than this server.
fn check_protocol(protocol: u32) -> Result<(), Box<Problem>> {
    if protocol <= LINK_PROTOCOL {
        return Ok(());
    }
    let detail = format!(
        "the machine speaks version {protocol} of the link, this server up to {LINK_PROTOCOL}"
    );
    Err(Box::new(Problem::new(Code::PreconditionFailed, detail).hint("update the servers first")))
}

fn json(message: &impl Serialize) -> bytes::Bytes {
    // Nothing sent over a link has a form that cannot be written down.
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// Whether a link ended in a way that an operator should hear of.
fn tell_end(name: &str, role: &'static str, why: &LinkError) {
    match why {
        LinkError::Closed | LinkError::ClosedThere | LinkError::Transport(_) => {
            tracing::info!(name, role, %why, "a link ended");
        }
        _ => tracing::warn!(name, role, %why, "a link ended"),
    }
}
