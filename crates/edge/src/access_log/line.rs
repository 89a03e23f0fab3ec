//! What is written of a request, a connection or a session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use helix_model::{AnyId, Kind, Name, Timestamp};
use http::header::HOST;
use http::{Method, Request};
use serde::Serialize;
use tokio::time::Instant;

use super::AccessLog;
use crate::meter::{Called, Meter, Metered};

/// More of a path, a host or a method is nothing to read.
const TEXT_BYTES_MAX: usize = 1_024;

/// A line that is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    log: Arc<AccessLog>,
    begun: Instant,
    /// From the client.
    pub(crate) received: Arc<AtomicU64>,
    /// To the client.
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) entry: Entry,
}

/// The bytes of a connection, and what is written of it when writing is on.
#[derive(Debug, Default)]
pub(crate) struct Connection(pub(crate) Option<Line>);

/// What a line says. What is not known is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<AnyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<Name>,
    protocol: &'static str,
    client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    received_bytes: u64,
    sent_bytes: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<AnyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// Why the edge answered itself or let nothing through, or `broken_off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
}

impl Entry {
    fn new(time: Timestamp, protocol: &'static str, client: IpAddr) -> Entry {
        Entry {
            time,
            endpoint_id: None,
            endpoint: None,
            env: None,
            app: None,
            protocol,
            client,
            method: None,
            host: None,
            path: None,
            status: None,
            received_bytes: 0,
            sent_bytes: 0,
            duration_ms: 0.0,
            instance: None,
            request_id: None,
            reason: None,
        }
    }
}

impl Line {
    fn new(log: &Arc<AccessLog>, protocol: &'static str, client: SocketAddr) -> Line {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX));
        let entry = Entry::new(time, protocol, log.client(client.ip()));
        let (received, sent) = Default::default();
        Line { log: Arc::clone(log), begun: Instant::now(), received, sent, entry }
    }

    /// Of a request, as it was sent.
    pub(crate) fn request<B>(
        log: &Arc<AccessLog>,
        client: SocketAddr,
        request: &Request<B>,
    ) -> Line {
        let mut line = Line::new(log, "http", client);
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // Before an `@` would be a user and a password.
        let host = authority.or_else(header).and_then(|host| host.rsplit('@').next());
        line.entry.host = host.map(cut);
        line.entry.method = Some(cut(request.method().as_str()));
        if request.method() != Method::CONNECT {
            line.entry.path = Some(cut(request.uri().path()));
        }
        line
    }

    /// It is this endpoint's.
    pub(crate) fn is_for(&mut self, meter: &Meter) {
        let Metered { id, protocol, called } = &meter.of;
        self.entry.endpoint_id = Some(*id);
        self.entry.protocol = protocol;
        match called {
            Called::Endpoint(label) => {
                self.entry.endpoint = Some(label.endpoint.clone());
                self.entry.env = Some(label.env.clone());
                self.entry.app = Some(label.app.clone());
            }
            Called::Tunnel(name) => self.entry.endpoint = Some(name.clone()),
            Called::Nothing => {}
        }
    }

    /// This instance has it.
    pub(crate) fn is_at(&mut self, backend: AnyId) {
        self.entry.instance = (backend.kind() == Kind::Instance).then_some(backend);
    }
}

impl Connection {
    /// Of a connection or a session.
    pub(crate) fn begin(log: Option<&Arc<AccessLog>>, client: SocketAddr) -> Connection {
        Connection(log.map(|log| Line::new(log, "tcp", client)))
    }

    pub(crate) fn is_for(&mut self, meter: &Meter) {
        if let Some(line) = &mut self.0 {
            line.is_for(meter);
        }
    }

    pub(crate) fn is_at(&mut self, backend: AnyId) {
        if let Some(line) = &mut self.0 {
            line.is_at(backend);
        }
    }

    pub(crate) fn ended_by(&mut self, reason: &'static str) {
        if let Some(line) = &mut self.0 {
            line.entry.reason = Some(reason);
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        if let Some(line) = &self.0 {
            line.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(line) = &self.0 {
            line.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let blank = Entry::new(self.entry.time, self.entry.protocol, self.entry.client);
        let mut entry = std::mem::replace(&mut self.entry, blank);
        entry.received_bytes = self.received.load(Ordering::Relaxed);
        entry.sent_bytes = self.sent.load(Ordering::Relaxed);
        entry.duration_ms = (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        self.log.write(entry);
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
