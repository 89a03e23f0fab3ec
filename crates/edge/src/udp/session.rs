//! One client's session with one backend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use helix_link::{Receiver, Sender};
use helix_tunnel::protocol::Carries;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use crate::access_log::Connection;
use crate::meter::{Meter, Span};
use crate::scratch;
use crate::shared::{Shared, Stage};
use crate::stats::{Gauge, count};
use crate::upstream::{Upstream, Way};
use crate::work::OpenWork;

/// A session in which nothing was sent either way for so long is over. Longer than the
/// pauses of protocols that keep a session up, short enough for ports to be free again:
/// RFC 4787 §4.3 asks address translators for two minutes.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// What carries datagrams to a backend and back.
#[derive(Debug)]
enum Carrier {
    Near(UdpSocket),
    /// A stream to the agent it is behind, whose other half is with who brings back.
    Behind(Sender),
}

/// What brings them back, where that is something else.
#[derive(Debug, Default)]
pub(crate) struct Back(Option<Receiver>);

/// Where answers go, and from where.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: Arc<UdpSocket>,
    pub(crate) address: SocketAddr,
}

/// A client's way to its backend.
#[derive(Debug)]
pub(crate) struct Session {
    backend: Carrier,
    meter: Arc<Meter>,
    pub(crate) line: Connection,
    /// Put before each datagram.
    header: Vec<u8>,
    over: Stage,
    /// When something was sent last, in milliseconds since `begun`.
    used_ms: AtomicU64,
    begun: Instant,
}

impl Carrier {
    async fn near(address: SocketAddr, answers: &Handle) -> io::Result<Carrier> {
        let own: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let backend = std::net::UdpSocket::bind((own, 0))?;
        backend.set_nonblocking(true)?;
        backend.connect(address)?;
        let entered = answers.enter();
        let backend = UdpSocket::from_std(backend)?;
        drop(entered);
        // Nothing is tried on a socket before it was found ready once.
        backend.writable().await?;
        Ok(Carrier::Near(backend))
    }

    fn try_send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Carrier::Near(socket) => socket.try_send(datagram).map(|_| ()),
            Carrier::Behind(sender) if sender.is_over() => Err(io::ErrorKind::BrokenPipe.into()),
            Carrier::Behind(sender) if sender.try_send(datagram) => Ok(()),
            Carrier::Behind(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Session {
    /// A session with a backend, or why there cannot be one. Its answers are awaited on that
    /// runtime.
    pub(crate) async fn open(
        upstream: &Upstream,
        client: SocketAddr,
        header: Vec<u8>,
        (meter, answers): (&Arc<Meter>, &Handle),
    ) -> io::Result<(Session, Back)> {
        let (backend, back) = match upstream.way() {
            Way::Address(address) => (Carrier::near(*address, answers).await?, Back::default()),
            Way::Agent(seat) => {
                let stream = seat.open(Carries::Datagrams, client)?;
                (Carrier::Behind(stream.sender), Back(Some(stream.receiver)))
            }
        };
        let (over, used_ms) = (Stage::default(), AtomicU64::new(0));
        let (meter, begun) = (Arc::clone(meter), Instant::now());
        let line = Connection::default();
        Ok((Session { backend, meter, line, header, over, used_ms, begun }, back))
    }

    /// Counts a datagram from the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.meter.received(bytes);
        self.line.received(bytes);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.over.has_come()
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.over.enter();
    }

    /// Passes a datagram on to the backend; whether it was taken. What a backend refuses
    /// ends the session: the next datagram finds another.
    pub(crate) fn pass_on(&self, datagram: &[u8]) -> bool {
        let sent = match self.header.is_empty() {
            true => self.backend.try_send(datagram),
            false => self.backend.try_send(&[&self.header, datagram].concat()),
        };
        match sent {
            Ok(()) => self.touch(),
            // A full queue is what datagrams are lost in everywhere.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                tracing::debug!(%error, "a backend refuses datagrams");
                self.end();
                return false;
            }
        }
        true
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether nothing was sent for so long that it is over.
    pub(crate) fn is_idle(&self) -> bool {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.begun.elapsed() >= used + IDLE_TIMEOUT
    }

    /// Brings answers back from the address that was asked, until the session is over.
    pub(crate) async fn answer(
        self: Arc<Session>,
        client: Client,
        (back, under_way): (Back, (OpenWork, Span)),
    ) {
        count(&client.shared.counters.udp_sessions);
        let _open = Gauge::open(&client.shared.counters.udp_sessions_open);
        if let Some(Err(error)) = self.over.interrupts(self.bring_back(&client, back)).await {
            // Refused: its program does not listen, or is gone.
            tracing::debug!(%error, "a backend refused datagrams");
        }
        self.over.enter();
        drop(under_way);
    }

    async fn bring_back(&self, client: &Client, back: Back) -> io::Result<()> {
        match (&self.backend, back.0) {
            (Carrier::Near(socket), _) => self.bring_from(socket, client).await,
            (Carrier::Behind(_), Some(receiver)) => self.bring_from_agent(receiver, client).await,
            (Carrier::Behind(_), None) => Ok(()),
        }
    }

    async fn bring_from(&self, socket: &UdpSocket, client: &Client) -> io::Result<()> {
        loop {
            consume_budget().await;
            match scratch::with(|buffer| self.pass_back(socket, client, buffer)) {
                Ok(None) => {}
                Ok(Some(late)) => {
                    let sent = client.listener.send_to(&late, client.address).await;
                    self.passed_back(client, late.len(), sent.is_ok());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes on an answer that waits; it is returned when it has to wait some more.
    fn pass_back(
        &self,
        socket: &UdpSocket,
        client: &Client,
        buffer: &mut [u8],
    ) -> io::Result<Option<Vec<u8>>> {
        let length = socket.try_recv(buffer)?;
        self.touch();
        match client.listener.try_send_to(&buffer[..length], client.address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Some(buffer[..length].to_vec()));
            }
            sent => self.passed_back(client, length, sent.is_ok()),
        }
        Ok(None)
    }

    async fn bring_from_agent(&self, mut back: Receiver, client: &Client) -> io::Result<()> {
        while let Some(datagram) = back.next().await.map_err(io::Error::other)? {
            self.touch();
            let sent = client.listener.send_to(&datagram, client.address).await;
            self.passed_back(client, datagram.len(), sent.is_ok());
        }
        Ok(())
    }

    /// Counts an answer.
    fn passed_back(&self, client: &Client, bytes: usize, was_sent: bool) {
        if was_sent {
            passed(&client.shared, bytes);
            self.meter.sent(bytes);
            self.line.sent(bytes);
        } else {
            count(&client.shared.counters.udp_dropped);
        }
    }
}

/// Counts a datagram that was passed on.
pub(crate) fn passed(shared: &Shared, bytes: usize) {
    count(&shared.counters.udp_datagrams);
    shared.counters.udp_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}
