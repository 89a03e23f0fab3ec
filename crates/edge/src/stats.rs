//! Counters of what passed through the edge since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// What passed through since the edge started, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// HTTP requests received.
    pub http_requests: u64,
    /// HTTP requests the edge answered itself with an error.
    pub http_refused: u64,
    /// Times a backend or a kept connection failed a request that could be repeated.
    pub http_retries: u64,
    /// HTTP client connections open now.
    pub http_connections_open: u64,
    /// TLS connections whose handshake was completed.
    pub tls_connections: u64,
    /// TLS handshakes that failed: no host, an unknown one, not TLS, too slow.
    pub tls_refused: u64,
    /// TCP connections accepted.
    pub tcp_connections: u64,
    /// TCP connections reset because no backend could take them.
    pub tcp_refused: u64,
    /// TCP connections open now.
    pub tcp_connections_open: u64,
    /// Bytes of TCP connections passed on, both ways together.
    pub tcp_bytes: u64,
}

/// The live counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) http_requests: AtomicU64,
    pub(crate) http_refused: AtomicU64,
    pub(crate) http_retries: AtomicU64,
    pub(crate) http_connections_open: AtomicU64,
    pub(crate) tls_connections: AtomicU64,
    pub(crate) tls_refused: AtomicU64,
    pub(crate) tcp_connections: AtomicU64,
    pub(crate) tcp_refused: AtomicU64,
    pub(crate) tcp_connections_open: AtomicU64,
    pub(crate) tcp_bytes: AtomicU64,
}

/// Counts something as open until dropped.
#[derive(Debug)]
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            http_requests: read(&self.http_requests),
            http_refused: read(&self.http_refused),
            http_retries: read(&self.http_retries),
            http_connections_open: read(&self.http_connections_open),
            tls_connections: read(&self.tls_connections),
            tls_refused: read(&self.tls_refused),
            tcp_connections: read(&self.tcp_connections),
            tcp_refused: read(&self.tcp_refused),
            tcp_connections_open: read(&self.tcp_connections_open),
            tcp_bytes: read(&self.tcp_bytes),
        }
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl<'a> Gauge<'a> {
    pub(crate) fn open(counter: &'a AtomicU64) -> Gauge<'a> {
        count(counter);
        Gauge(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
