//! One connection: find a backend, carry both directions, end as they end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use helix_link::Stream;
use helix_model::manifest::Transport;
use helix_tunnel::protocol::Carries;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::over;
use super::pump::{Passing, pump};
use crate::access_log::Connection;
use crate::meter::{Span, Why};
use crate::proxy_protocol::{self, Ends, Whose};
use crate::service::Service;
use crate::shared::Shared;
use crate::sockets;
use crate::stats::{Gauge, count};
use crate::table::{OnPort, PortKey, Table};
use crate::tls::{self, First, Hello};
use crate::upstream::Way;
use crate::work::OpenWork;

/// How often a client may be sent to the backends of a newer table because
/// those of the one it started with have all gone.
const TABLES: usize = 3;

/// A connection that has been open for so long may go on for days: from then on its backend is
/// asked whether it is still there. Clients are from the start, by what they inherit.
const LASTING: Duration = Duration::from_secs(1);

/// One client's connection, and what has been read off it.
struct Client {
    stream: TcpStream,
    whose: Whose,
    bytes: Vec<u8>,
}

impl Client {
    fn ends(&self) -> io::Result<Ends> {
        let Whose { client, server } = self.whose;
        let server = server.map_or_else(|| self.stream.local_addr(), Ok)?;
        Ok(Ends { client, server })
    }
}

/// Carries a connection to a port of an endpoint's own to its end.
pub(crate) async fn carry(
    shared: Arc<Shared>,
    key: PortKey,
    mut stream: TcpStream,
    peer: SocketAddr,
) {
    count(&shared.counters.tcp_connections);
    let _open = Gauge::open(&shared.counters.tcp_connections_open);
    let asking = proxy_protocol::whose(&shared, &mut stream, peer);
    let Some(whose) = shared.begins(asking).await.flatten() else { return };
    let client = Client { stream, whose, bytes: Vec::new() };
    let is_named = matches!(shared.table.load().port(key), Some(OnPort::Named(_)));
    if is_named {
        // Apart, so that what it holds to look for a name is not part of every connection.
        Box::pin(carry_named(&shared, key, client)).await;
    } else {
        carry_to(&shared, client, |table| table.port(key)?.whole().cloned()).await;
    }
}

/// Carries a TLS connection that came to the shared port.
pub(crate) async fn carry_host(
    shared: Arc<Shared>,
    stream: TcpStream,
    whose: Whose,
    host: String,
    bytes: Vec<u8>,
) {
    count(&shared.counters.tcp_connections);
    let _open = Gauge::open(&shared.counters.tcp_connections_open);
    let client = Client { stream, whose, bytes };
    carry_to(&shared, client, |table| table.passed_on(&host).cloned()).await;
}

/// Of several endpoints on a port, that of the host a client asks for. One that asks for
/// none gets what is there if there is one thing only; what is no TLS gets nothing.
async fn carry_named(shared: &Shared, key: PortKey, mut client: Client) {
    let sniffing = tls::first(&mut client.stream, &shared.counters);
    let first = shared.begins(sniffing).await.flatten();
    let Some(First { bytes, hello }) = first else { return sockets::reset(client.stream) };
    client.bytes = bytes;
    let Hello::For(host) = hello else { return sockets::reset(client.stream) };
    let find = |table: &Table| table.port(key)?.named(host.as_deref()).cloned();
    if find(&shared.table.load()).is_none() {
        count(&shared.counters.hello_unknown);
        return tls::refuse_name(client.stream).await;
    }
    carry_to(shared, client, find).await;
}

async fn carry_to(
    shared: &Shared,
    mut client: Client,
    find: impl Fn(&Table) -> Option<Arc<Service>>,
) {
    let mut line = Connection::begin(shared.access_log.as_ref(), client.whose.client);
    let Some(mut open) = connect(shared, find, client.whose.client, &mut line).await else {
        count(&shared.counters.tcp_refused);
        sockets::reset(client.stream);
        return;
    };
    let outcome = shared.closing.interrupts(exchange(shared, &mut client, &mut open, &line)).await;
    if !matches!(outcome, Some(Ok(_))) {
        // Each side learns that it was broken off, not brought to an end.
        tracing::debug!(?outcome, "connection broken off");
        open.span.broken_off();
        line.ended_by("broken_off");
        sockets::reset_on_close(&client.stream);
        if let Taken::Near(backend) = &open.backend {
            sockets::reset_on_close(backend);
        }
    }
}

/// A way to a backend that took a connection.
enum Taken {
    Near(TcpStream),
    /// Until it is carried.
    Behind(Option<Stream>),
}

/// A backend that took a connection.
struct Open {
    backend: Taken,
    /// What comes before all that the client sends.
    sends_header: bool,
    span: Span,
    _work: OpenWork,
}

async fn exchange(
    shared: &Shared,
    client: &mut Client,
    open: &mut Open,
    line: &Connection,
) -> io::Result<((), ())> {
    let (all, meter) = (&shared.counters.tcp_bytes, open.span.meter());
    let (own, line) = (meter.received_bytes(), line.0.as_ref());
    let received = Passing { all, own, line: line.map(|line| &*line.received) };
    let own = meter.sent_bytes();
    let sent = Passing { all, own, line: line.map(|line| &*line.sent) };
    let mut first = std::mem::take(&mut client.bytes);
    if open.sends_header {
        first.splice(0..0, client.ends()?.header(Transport::Tcp));
    }
    let backend = match &mut open.backend {
        Taken::Near(backend) => backend,
        Taken::Behind(stream) => {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            let carrying = over::carry(&mut client.stream, stream, first, (received, sent));
            return Box::pin(carrying).await;
        }
    };
    if !first.is_empty() {
        backend.write_all(&first).await?;
        received.add(first.len());
        drop(first);
    }
    let (from_client, to_client) = client.stream.split();
    let (from_backend, to_backend) = backend.split();
    let is_half_closed = AtomicBool::new(false);
    let ends = &is_half_closed;
    let carrying = async {
        tokio::try_join!(
            pump(from_client, to_backend.as_ref(), received, ends),
            pump(from_backend, to_client.as_ref(), sent, ends)
        )
    };
    let lasting = async {
        sleep(LASTING).await;
        sockets::keep_alive(to_backend.as_ref());
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        ended = carrying => ended,
        never = lasting => match never {},
    }
}

async fn connect(
    shared: &Shared,
    find: impl Fn(&Table) -> Option<Arc<Service>>,
    client: SocketAddr,
    line: &mut Connection,
) -> Option<Open> {
    let mut service: Option<Arc<Service>> = None;
    let mut counting: Option<Span> = None;
    let mut why = Why::NoBackend;
    for _ in 0..TABLES {
        let Some(current) = find(&shared.table.load()) else { break };
        if service.is_some_and(|tried| Arc::ptr_eq(&tried, &current)) {
            break;
        }
        let span = counting.take().unwrap_or_else(|| current.span());
        line.is_for(current.meter());
        let admitted = match current.admit() {
            Ok(admitted) => admitted,
            Err(full) => {
                span.refused(full);
                line.ended_by(full.word());
                return None;
            }
        };
        let mut attempts = current.attempts();
        while let Some((upstream, work)) = attempts.next() {
            let sends_header = current.sends_proxy_header() || upstream.asks_for_header();
            let backend = match upstream.way() {
                Way::Address(address) => upstream.connect_to(*address).await.map(Taken::Near),
                Way::Agent(seat) => {
                    let opened = seat.open(Carries::Bytes, client);
                    opened.map(|stream| Taken::Behind(Some(stream)))
                }
            };
            if let Ok(backend) = backend {
                line.is_at(upstream.id);
                let _work = work.admitted(admitted);
                return Some(Open { backend, sends_header, span, _work });
            }
            why = Why::BackendUnreachable;
        }
        (service, counting) = (Some(current), Some(span));
    }
    if let Some(span) = counting {
        span.refused(why);
    }
    line.ended_by(why.word());
    None
}
