//! What goes through each endpoint: requests or connections, errors, durations, bytes.
//!
//! A [`Meter`] lasts as long as its endpoint, whatever plans come and go; what goes
//! through counts in atomics that nobody waits for. A [`Span`] is one request,
//! connection or session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use helix_model::plan::{EndpointPlan, Label, TunnelPlan};
use helix_model::traffic::{DURATION_BOUNDS_US, DURATION_BUCKETS, Traffic};
use helix_model::{AnyId, Name};
use tokio::time::Instant;

use crate::stats::count;

/// Why the edge did not let something through, as people and programs are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    NoBackend,
    BackendUnreachable,
    BackendClosed,
    MaxConnections,
    RateLimit,
    BodyTooLarge,
    HeadTooLarge,
}

impl Why {
    /// In the order of their numbers.
    pub(crate) const ALL: [Why; 7] = [
        Why::NoBackend,
        Why::BackendUnreachable,
        Why::BackendClosed,
        Why::MaxConnections,
        Why::RateLimit,
        Why::BodyTooLarge,
        Why::HeadTooLarge,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Why::NoBackend => "no_backend",
            Why::BackendUnreachable => "backend_unreachable",
            Why::BackendClosed => "backend_closed",
            Why::MaxConnections => "max_connections",
            Why::RateLimit => "rate_limit",
            Why::BodyTooLarge => "body_too_large",
            Why::HeadTooLarge => "head_too_large",
        }
    }
}

/// How requests end: by the first digit of the status, or without an answer because the
/// client did not wait for it.
pub(crate) const CODES: [&str; 6] = ["aborted", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Of what something is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metered {
    /// An endpoint or a tunnel.
    pub(crate) id: AnyId,
    pub(crate) protocol: &'static str,
    pub(crate) called: Called,
}

/// What people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Endpoint(Label),
    Tunnel(Name),
    Nothing,
}

impl From<&EndpointPlan> for Metered {
    fn from(endpoint: &EndpointPlan) -> Metered {
        let called = endpoint.label.clone().map_or(Called::Nothing, Called::Endpoint);
        Metered { id: endpoint.id.any(), protocol: endpoint.route.protocol(), called }
    }
}

impl From<&TunnelPlan> for Metered {
    fn from(tunnel: &TunnelPlan) -> Metered {
        let called = Called::Tunnel(tunnel.name.clone());
        Metered { id: tunnel.id.any(), protocol: tunnel.exposure.protocol(), called }
    }
}

/// What went through one endpoint, or tunnel.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) of: Metered,
    /// Whether it has series of its own; it is among the others for good if it has not.
    pub(crate) is_listed: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    open: AtomicU64,
    codes: [AtomicU64; CODES.len()],
    refused: [AtomicU64; Why::ALL.len()],
    broken_off: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    durations: [AtomicU64; DURATION_BUCKETS],
    duration_us: AtomicU64,
}

/// One request, connection or session; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Span {
    meter: Arc<Meter>,
    begun: Instant,
    /// The status of the answer to a request, once there is one.
    status: u16,
}

/// What [`Counts`] come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) codes: [u64; CODES.len()],
    pub(crate) refused: [u64; Why::ALL.len()],
    pub(crate) broken_off: u64,
    pub(crate) duration_us: u64,
    pub(crate) traffic: Traffic,
}

impl Meter {
    pub(crate) fn new(of: Metered, is_listed: bool) -> Meter {
        Meter { of, is_listed, counts: Counts::default() }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.counts.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.counts.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Where to count bytes from clients.
    pub(crate) fn received_bytes(&self) -> &AtomicU64 {
        &self.counts.received_bytes
    }

    /// And to them.
    pub(crate) fn sent_bytes(&self) -> &AtomicU64 {
        &self.counts.sent_bytes
    }

    /// Something was not let through.
    pub(crate) fn refused(&self, why: Why) {
        count(&self.counts.refused[why as usize]);
    }

    pub(crate) fn is_http(&self) -> bool {
        self.of.protocol == "http"
    }

    pub(crate) fn read(&self) -> Reading {
        self.counts.read(self.is_http())
    }
}

impl Counts {
    fn read(&self, is_http: bool) -> Reading {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let codes = self.codes.each_ref().map(read);
        let refused = self.refused.each_ref().map(read);
        let broken_off = read(&self.broken_off);
        // A request that is refused is answered, with a status that tells.
        let failed = if is_http { codes[5] } else { refused.iter().sum() };
        let traffic = Traffic {
            begun: read(&self.begun),
            errors: failed + broken_off,
            received_bytes: read(&self.received_bytes),
            sent_bytes: read(&self.sent_bytes),
            open: read(&self.open),
            durations: self.durations.iter().map(read).collect(),
        };
        Reading { codes, refused, broken_off, duration_us: read(&self.duration_us), traffic }
    }
}

impl Reading {
    pub(crate) fn add(&mut self, other: &Reading) {
        let pairs = self.codes.iter_mut().zip(&other.codes);
        pairs.for_each(|(own, other)| *own += other);
        let pairs = self.refused.iter_mut().zip(&other.refused);
        pairs.for_each(|(own, other)| *own += other);
        self.broken_off += other.broken_off;
        self.duration_us += other.duration_us;
        self.traffic.add(&other.traffic);
    }
}

impl Span {
    pub(crate) fn begin(meter: &Arc<Meter>) -> Span {
        count(&meter.counts.begun);
        count(&meter.counts.open);
        Span { meter: Arc::clone(meter), begun: Instant::now(), status: 0 }
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// It was not let through.
    pub(crate) fn refused(&self, why: Why) {
        self.meter.refused(why);
    }

    /// It ended before its end.
    pub(crate) fn broken_off(&self) {
        count(&self.meter.counts.broken_off);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let counts = &self.meter.counts;
        let us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        count(&counts.durations[DURATION_BOUNDS_US.partition_point(|bound| *bound < us)]);
        counts.duration_us.fetch_add(us, Ordering::Relaxed);
        if self.meter.is_http() {
            let class = usize::from(self.status / 100);
            count(&counts.codes[if class < CODES.len() { class } else { 0 }]);
        }
        counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}
