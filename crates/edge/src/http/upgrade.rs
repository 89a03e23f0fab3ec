//! Connections that stop being HTTP (WebSocket and its like): bytes are passed
//! on unread from the 101 response on.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::exchange::Exchange;
use crate::shared::Shared;
use crate::work::OpenWork;

/// A client's wish to change protocol.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) protocol: HeaderValue,
    /// The client's side, once the response has been sent.
    pub(crate) client: OnUpgrade,
}

/// Tunnels between client and backend until either ends or the edge closes.
pub(crate) fn tunnel(
    shared: &Arc<Shared>,
    client: OnUpgrade,
    backend: OnUpgrade,
    exchange: Exchange,
    work: OpenWork,
) {
    let stages = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let carried = stages.closing.interrupts(carry(client, backend, exchange)).await;
        if let Some(Err(error)) = carried {
            tracing::debug!(%error, "upgraded connection broken off");
        }
        drop(work);
    });
}

async fn carry(
    client: OnUpgrade,
    backend: OnUpgrade,
    mut exchange: Exchange,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut backend = pin!(backend);
    let backend = poll_fn(|context| {
        exchange.drive(context);
        backend.as_mut().poll(context)
    });
    let mut backend = TokioIo::new(backend.await?);
    let mut client = TokioIo::new(client.await?);
    copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}
