//! Connections: accepting them, serving each until it ends, stopping in order.
//!
//! Start at [`Server::run`].

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::access::AccessWriter;
use crate::error::FilesError;
use crate::listen::listen;
use crate::options::Options;
use crate::respond::respond;
use crate::root::Root;

/// Request line and header fields together; hyper answers more with 431.
const HEADER_MAX_BYTES: usize = 16 * 1024;

/// Header fields of a request. Browsers send about 20.
const HEADER_MAX_FIELDS: usize = 100;

/// When the system is out of descriptors, accepting at once again would only
/// burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is ready, then finishes what is under way.
pub async fn serve(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), FilesError> {
    Server::bind(options)?.run(shutdown).await
}

/// Ready at SIGTERM or SIGINT. From the call on, not from the first poll, these
/// signals no longer end the process; as PID 1 they would not even have.
pub fn termination() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    site: Arc<Site>,
    connections: Arc<Semaphore>,
    drain_timeout: Duration,
}

/// What every connection needs.
struct Site {
    root: Root,
    access: AccessWriter,
    header_timeout: Duration,
    stall_timeout: Duration,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the folder and the sockets. Needs a Tokio runtime with I/O and
    /// time; one thread is enough.
    pub fn bind(options: Options) -> Result<Server, FilesError> {
        let root = Root::new(&options.root)?;
        let listeners = listen(&options.listen)?;
        let access = AccessWriter::start(options.access_log).map_err(FilesError::AccessLog)?;
        let Options { header_timeout, stall_timeout, drain_timeout, max_connections, .. } = options;
        let site = Arc::new(Site { root, access, header_timeout, stall_timeout });
        let connections = Arc::new(Semaphore::new(max_connections));
        Ok(Server { listeners, site, connections, drain_timeout })
    }

    /// Where it listens, in the order of the options, with the real ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|it| it.local_addr().ok()).collect()
    }

    /// Answers until `shutdown` is ready. Then it stops accepting, closes idle
    /// connections, and gives requests under way the drain timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), FilesError> {
        let graceful = GracefulShutdown::new();
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = shutdown => {}
            () = self.accept_all(&graceful, &mut tasks) => {}
        }
        drop(self.listeners);
        let drained = async {
            graceful.shutdown().await;
            while tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!("requests still under way were cut off");
            tasks.shutdown().await;
        }
        Ok(())
    }

    async fn accept_all(&self, graceful: &GracefulShutdown, tasks: &mut JoinSet<()>) {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
                return;
            };
            while tasks.try_join_next().is_some() {}
            match accept_from(&self.listeners).await {
                Ok(stream) => {
                    let (site, watcher) = (Arc::clone(&self.site), graceful.watcher());
                    tasks.spawn(serve_connection(stream, site, watcher, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The next connection of any listener.
async fn accept_from(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
}

async fn serve_connection(
    stream: TcpStream,
    site: Arc<Site>,
    watcher: Watcher,
    _permit: OwnedSemaphorePermit,
) {
    set_socket_options(&stream, site.stall_timeout);
    let service = service_fn(|request| {
        let line = site.access.begin(request.method(), request.uri().path());
        let response = respond(&site.root, &request, line);
        async move { Ok::<_, Infallible>(response) }
    });
    // Without `pipeline_flush`: with it hyper closes on a bad header before its
    // answer, 400 or 431, has left.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.header_timeout)
        .max_buf_size(HEADER_MAX_BYTES)
        .max_headers(HEADER_MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// The kernel itself drops a client that stops reading: no timer here for each
/// write. Neither option is worth refusing a connection for.
fn set_socket_options(stream: &TcpStream, stall_timeout: Duration) {
    let stall_ms = u32::try_from(stall_timeout.as_millis()).unwrap_or(u32::MAX);
    let outcome = stream
        .set_nodelay(true)
        .and_then(|()| Ok(setsockopt(stream, sockopt::TcpUserTimeout, &stall_ms)?));
    if let Err(error) = outcome {
        tracing::debug!(%error, "could not set socket options");
    }
}
