//! Counters of what passed through the edge since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// What passed through since the edge started, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// HTTP requests received.
    pub http_requests: u64,
    /// HTTP requests the edge answered itself with an error.
    pub http_refused: u64,
    /// HTTP requests that were for no endpoint.
    pub http_unrouted: u64,
    /// Times a backend or a kept connection failed a request that could be repeated.
    pub http_retries: u64,
    /// HTTP client connections open now.
    pub http_connections_open: u64,
    /// TLS connections whose handshake was completed.
    pub tls_connections: u64,
    /// TLS handshakes that failed: no host, an unknown one, not TLS, too slow.
    pub tls_refused: u64,
    /// Connections of load balancers without a good header of the PROXY protocol.
    pub proxy_refused: u64,
    /// TLS clients that said which host they want.
    pub hello_named: u64,
    /// That did not.
    pub hello_unnamed: u64,
    /// That spoke no TLS.
    pub hello_not_tls: u64,
    /// That began with what cannot be read.
    pub hello_malformed: u64,
    /// That took too long to say anything.
    pub hello_late: u64,
    /// TLS connections for hosts that no endpoint has.
    pub hello_unknown: u64,
    /// TCP connections accepted.
    pub tcp_connections: u64,
    /// TCP connections reset because no backend could take them.
    pub tcp_refused: u64,
    /// TCP connections open now.
    pub tcp_connections_open: u64,
    /// Bytes of TCP connections passed on, both ways together.
    pub tcp_bytes: u64,
    /// Sessions of UDP clients begun.
    pub udp_sessions: u64,
    /// Open now.
    pub udp_sessions_open: u64,
    /// Datagrams passed on, both ways together.
    pub udp_datagrams: u64,
    /// Datagrams dropped: no backend, too many sessions, a full queue.
    pub udp_dropped: u64,
    /// Bytes of datagrams passed on, both ways together.
    pub udp_bytes: u64,
}

/// The live counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) http_requests: AtomicU64,
    pub(crate) http_refused: AtomicU64,
    pub(crate) http_unrouted: AtomicU64,
    pub(crate) http_retries: AtomicU64,
    pub(crate) http_connections_open: AtomicU64,
    pub(crate) tls_connections: AtomicU64,
    pub(crate) tls_refused: AtomicU64,
    pub(crate) proxy_refused: AtomicU64,
    pub(crate) hello_named: AtomicU64,
    pub(crate) hello_unnamed: AtomicU64,
    pub(crate) hello_not_tls: AtomicU64,
    pub(crate) hello_malformed: AtomicU64,
    pub(crate) hello_late: AtomicU64,
    pub(crate) hello_unknown: AtomicU64,
    pub(crate) tcp_connections: AtomicU64,
    pub(crate) tcp_refused: AtomicU64,
    pub(crate) tcp_connections_open: AtomicU64,
    pub(crate) tcp_bytes: AtomicU64,
    pub(crate) udp_sessions: AtomicU64,
    pub(crate) udp_sessions_open: AtomicU64,
    pub(crate) udp_datagrams: AtomicU64,
    pub(crate) udp_dropped: AtomicU64,
    pub(crate) udp_bytes: AtomicU64,
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
            http_unrouted: read(&self.http_unrouted),
            http_retries: read(&self.http_retries),
            http_connections_open: read(&self.http_connections_open),
            tls_connections: read(&self.tls_connections),
            tls_refused: read(&self.tls_refused),
            proxy_refused: read(&self.proxy_refused),
            hello_named: read(&self.hello_named),
            hello_unnamed: read(&self.hello_unnamed),
            hello_not_tls: read(&self.hello_not_tls),
            hello_malformed: read(&self.hello_malformed),
            hello_late: read(&self.hello_late),
            hello_unknown: read(&self.hello_unknown),
            tcp_connections: read(&self.tcp_connections),
            tcp_refused: read(&self.tcp_refused),
            tcp_connections_open: read(&self.tcp_connections_open),
            tcp_bytes: read(&self.tcp_bytes),
            udp_sessions: read(&self.udp_sessions),
            udp_sessions_open: read(&self.udp_sessions_open),
            udp_datagrams: read(&self.udp_datagrams),
            udp_dropped: read(&self.udp_dropped),
            udp_bytes: read(&self.udp_bytes),
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
