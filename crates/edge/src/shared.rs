//! What listeners and connections share: the table in force, the counters and
//! the two stages of stopping.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLog;
use crate::agents::Agents;
use crate::meters::Others;
use crate::shards::Shards;
use crate::stats::Counters;
use crate::table::Table;
use crate::tls::Certificates;

/// Shared by everything that handles traffic.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) certificates: Certificates,
    pub(crate) agents: Agents,
    /// The threads that connections are carried by.
    pub(crate) shards: Shards,
    /// Where HTTPS is accepted, when it is.
    pub(crate) https_port: Option<u16>,
    /// Whose word is taken for whose a connection is.
    pub(crate) balancers: Vec<IpNet>,
    pub(crate) counters: Counters,
    /// Where lines about what has ended are written, if they are.
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// What went through endpoints that have no series of their own and are gone.
    pub(crate) others: Arc<Others>,
    /// Another process has the sockets now, and what was made for them.
    pub(crate) handed_over: AtomicBool,
    /// Every task that accepts or carries traffic.
    pub(crate) tasks: TaskTracker,
    /// Take no more work; what is open goes on.
    pub(crate) draining: Stage,
    /// Close what is open.
    pub(crate) closing: Stage,
}

impl Shared {
    /// Has every thread take what comes to a listener.
    pub(crate) fn listen<F: Future<Output = ()> + Send + 'static>(
        &self,
        listener: &TcpListener,
        accept: impl Fn(tokio::net::TcpListener) -> F,
    ) -> io::Result<()> {
        self.shards.listen(&self.tasks, listener, accept)
    }

    /// Carries a connection that was accepted.
    pub(crate) fn carry<F: Future<Output = ()> + Send + 'static>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) {
        self.carry_where(stream, None, serve);
    }

    /// The same by a thread that is wanted for it.
    pub(crate) fn carry_where<F: Future<Output = ()> + Send + 'static>(
        &self,
        stream: TcpStream,
        wanted: Option<usize>,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) {
        self.shards.carry(&self.tasks, stream, wanted, serve);
    }

    /// Has one thread take the datagrams of a socket.
    pub(crate) fn take<F: Future<Output = ()> + Send + 'static>(
        &self,
        socket: &UdpSocket,
        serve: impl FnOnce(tokio::net::UdpSocket) -> F,
    ) -> io::Result<()> {
        self.shards.take(&self.tasks, socket, serve)
    }

    /// A thread beside this one.
    pub(crate) fn beside(&self) -> Handle {
        self.shards.beside()
    }

    /// Another process has the sockets.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Does what a connection begins with, unless the edge drains first. A client of a
    /// process that was taken over knows nothing of that: it was accepted, so it is served.
    pub(crate) async fn begins<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        match self.draining.interrupts(work.as_mut()).await {
            None if self.is_handed_over() => self.closing.interrupts(work).await,
            outcome => outcome,
        }
    }
}

/// A stage of stopping, which comes once and stays.
///
/// A cancellation token, except that waiting for it beside work is cheap: the
/// token takes a lock that all connections share whenever it is polled, which
/// showed in profiles of small requests.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    token: CancellationToken,
    has_come: AtomicBool,
}

impl Stage {
    pub(crate) fn enter(&self) {
        self.has_come.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(crate) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    /// A token for something that also has reasons of its own to stop.
    pub(crate) fn child_token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Does the work until it is done or the stage comes, which is `None`.
    pub(crate) fn interrupts<F: Future>(&self, work: F) -> Interrupted<'_, F> {
        Interrupted { stage: self, coming: self.token.cancelled(), is_awaited: false, work }
    }
}

pin_project! {
    /// Work that ends with a stage. Not an `async fn`, which would hold the work twice: as
    /// what it was given and as what it polls, and a connection's is large.
    pub(crate) struct Interrupted<'s, F> {
        stage: &'s Stage,
        #[pin]
        coming: WaitForCancellationFuture<'s>,
        is_awaited: bool,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Interrupted<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let own = self.project();
        // Once polled, the token wakes this task; the flag tells whether it was the token
        // that did. A task's waker stays the same.
        if !std::mem::replace(own.is_awaited, true) && own.coming.poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if own.stage.has_come() {
            return Poll::Ready(None);
        }
        own.work.poll(context).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_or_interrupted() {
        let stage = Stage::default();
        assert_eq!(stage.interrupts(async { 7 }).await, Some(7));
        let endless = stage.interrupts(std::future::pending::<()>());
        let (outcome, ()) = tokio::join!(endless, async { stage.enter() });
        assert_eq!(outcome, None);
        assert_eq!(stage.interrupts(async { 7 }).await, None);
    }
}
