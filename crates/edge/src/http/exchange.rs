//! One HTTP connection to a backend, and the idle ones kept for reuse.
//!
//! The connection is driven by whoever uses it, inside the task of the client's
//! connection, rather than by a task of its own: a request then costs no hand-over
//! between threads, and an idle connection costs no task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::upload::Upload;
use crate::backend::{Backend, Session};
use crate::shards;
use crate::small_write::SmallWrites;

/// Most of a response read ahead of the client, and the largest response head.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Idle connections kept per backend.
const IDLE_MAX: usize = 256;

/// How long an idle connection is kept. Shorter than what common servers allow
/// (nginx 75 s, Apache and Node 5 s are the extremes); a connection the backend
/// closes first is noticed before use or its request repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection to a backend, carrying one request at a time.
pub(crate) struct Exchange {
    sender: SendRequest<Upload>,
    /// Reads and writes when polled; `None` once the connection has ended.
    driver: Driver,
    /// What it goes through.
    session: Session,
}

type Driver = Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>;

/// A request that got no response.
#[derive(Debug)]
pub(crate) struct Undelivered {
    /// The request, when sending it again can do no harm.
    pub(crate) request: Option<Request<Upload>>,
    pub(crate) error: hyper::Error,
}

/// Connections to one backend that wait for their next request.
///
/// Each thread has those that it made: driven by another they would wake the one that
/// made them at every turn.
#[derive(Debug)]
pub(crate) struct IdleConnections(Box<[Mutex<Idle>]>);

impl Default for IdleConnections {
    fn default() -> IdleConnections {
        IdleConnections((0..shards::count()).map(|_| Mutex::default()).collect())
    }
}

#[derive(Debug, Default)]
struct Idle {
    /// Longest idle first.
    connections: Vec<(Instant, Exchange)>,
    is_closed: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("open", &self.driver.is_some()).finish_non_exhaustive()
    }
}

impl Exchange {
    pub(crate) async fn new(stream: Backend) -> hyper::Result<Exchange> {
        let session = stream.session();
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake::<_, Upload>(TokioIo::new(SmallWrites(stream)))
            .await?;
        Ok(Exchange { sender, driver: Some(Box::pin(connection.with_upgrades())), session })
    }

    /// Lets the connection read and write as far as it can.
    pub(crate) fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.driver, context);
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Undelivered> {
        let spare = is_repeatable(&request).then(|| copy_head(&request));
        let mut response = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let outcome = poll_fn(|context| {
            drive(driver, context);
            // Only the connection, polled above with this task's waker, can make
            // the response ready, so waiting for it takes no waker of its own.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        outcome.await.map_err(|mut failed| {
            let request = failed.take_message().or(spare);
            Undelivered { request, error: failed.into_error() }
        })
    }

    fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl IdleConnections {
    /// A connection that was open a moment ago. Those through an agent that has been
    /// followed by another are let go of.
    pub(crate) fn take(&self, session: Session) -> Option<Exchange> {
        loop {
            // The lock is let go before the connection is looked at.
            let (_, mut exchange) = lock(self.own()).connections.pop()?;
            if exchange.session == session && exchange.is_reusable() {
                return Some(exchange);
            }
        }
    }

    /// Keeps a connection whose response has been read to its end.
    pub(crate) fn put(&self, mut exchange: Exchange) {
        if exchange.is_reusable() {
            let mut idle = lock(self.own());
            if !idle.is_closed && idle.connections.len() < IDLE_MAX {
                idle.connections.push((Instant::now(), exchange));
            }
        }
    }

    /// Closes what has idled too long or was closed by the backend.
    pub(crate) fn sweep(&self) {
        for own in &self.0 {
            let mut kept = std::mem::take(&mut lock(own).connections);
            kept.retain_mut(|(since, exchange)| {
                since.elapsed() < IDLE_TIMEOUT && exchange.is_reusable()
            });
            let mut idle = lock(own);
            if !idle.is_closed {
                kept.append(&mut idle.connections);
                idle.connections = kept;
            }
        }
    }

    /// Closes all, and every further one that comes back.
    pub(crate) fn close(&self) {
        for own in &self.0 {
            let mut idle = lock(own);
            idle.is_closed = true;
            idle.connections.clear();
        }
    }

    fn own(&self) -> &Mutex<Idle> {
        &self.0[shards::own()]
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drive(driver: &mut Driver, context: &mut Context<'_>) {
    if let Some(connection) = driver
        && let Poll::Ready(outcome) = connection.as_mut().poll(context)
    {
        // Whoever waits for the response or its body gets the same error.
        if let Err(error) = outcome {
            tracing::trace!(%error, "backend connection ended");
        }
        *driver = None;
    }
}

/// Whether a backend may see the request twice (RFC 9110 §9.2.2) and there is no
/// body that would be gone the second time.
pub(super) fn is_repeatable(request: &Request<Upload>) -> bool {
    let method = request.method();
    (method.is_safe() || matches!(*method, Method::PUT | Method::DELETE))
        && request.body().is_end_stream()
}

pub(super) fn copy_head(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
