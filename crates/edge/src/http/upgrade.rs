//! Connections that stop being HTTP (WebSocket and its like): bytes are passed
//! on unread from the 101 response on.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::account::Account;
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
    (exchange, work, account): (Exchange, OpenWork, Account),
) {
    let stages = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let carried = stages.closing.interrupts(carry(client, backend, exchange, &account)).await;
        if let Some(Err(error)) = carried {
            tracing::debug!(%error, "upgraded connection broken off");
        }
        drop((work, account));
    });
}

async fn carry(
    client: OnUpgrade,
    backend: OnUpgrade,
    mut exchange: Exchange,
    account: &Account,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut backend = pin!(backend);
    let backend = poll_fn(|context| {
        exchange.drive(context);
        backend.as_mut().poll(context)
    });
    let mut backend = TokioIo::new(backend.await?);
    let mut client = Counted { inner: TokioIo::new(client.await?), account };
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
