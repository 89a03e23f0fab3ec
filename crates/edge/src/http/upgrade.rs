//! Connections that stop being HTTP (WebSocket and its like): bytes are passed
//! on unread from the 101 response on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::sync::oneshot;

use super::account::Account;
use super::connection::Socket;
use crate::backend::Backend;
use crate::shared::Shared;
use crate::unread::Unread;
use crate::work::OpenWork;

/// A client's side, once the response has been sent.
pub(crate) type Upgrading = oneshot::Receiver<Unread<Box<dyn Socket>>>;

/// A client's wish to change protocol.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) protocol: HeaderValue,
    pub(crate) client: Upgrading,
}

/// Tunnels between client and backend until either ends or the edge closes.
pub(crate) fn tunnel(
    shared: &Arc<Shared>,
    client: Upgrading,
    backend: Unread<Backend>,
    (work, account): (OpenWork, Account),
) {
    let stages = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let carried = stages.closing.interrupts(carry(client, backend, &account)).await;
        if let Some(Err(error)) = carried {
            tracing::debug!(%error, "upgraded connection broken off");
        }
        drop((work, account));
    });
}

async fn carry(
    client: Upgrading,
    mut backend: Unread<Backend>,
    account: &Account,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = Counted { inner: client.await?, account };
    copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}

/// A client's stream, whose bytes are counted both ways.
struct Counted<'a, S> {
    inner: S,
    account: &'a Account,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.account.received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.account.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
