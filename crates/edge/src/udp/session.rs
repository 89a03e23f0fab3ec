//! One client's session with one backend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use helix_link::{Receiver, Sender};
use helix_tunnel::protocol::Carries;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::access_log::Connection;
use crate::meter::{Meter, Span};
use crate::shared::Shared;
use crate::stats::{Gauge, count};
use crate::upstream::{Upstream, Way};
use crate::work::OpenWork;

/// A session in which nothing was sent either way for so long is over. Longer than the
/// pauses of protocols that keep a session up, short enough for ports to be free again:
/// RFC 4787 §4.3 asks address translators for two minutes.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// No datagram is longer (RFC 768: 16 bits of length).
pub(crate) const DATAGRAM_BYTES_MAX: usize = 65_535;

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

/// A client's way to its backend.
#[derive(Debug)]
pub(crate) struct Session {
    backend: Carrier,
    meter: Arc<Meter>,
    pub(crate) line: Connection,
    /// Put before each datagram.
    header: Vec<u8>,
    has_ended: AtomicBool,
    /// When something was sent last, in milliseconds since `begun`.
    used_ms: AtomicU64,
    begun: Instant,
}

impl Carrier {
    async fn near(address: SocketAddr) -> io::Result<Carrier> {
        let own: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let backend = UdpSocket::bind((own, 0)).await?;
        backend.connect(address).await?;
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

    /// The next answer: in the buffer so many bytes, or as it came.
    async fn recv(&self, back: &mut Back, buffer: &mut [u8]) -> io::Result<Answer> {
        match (self, &mut back.0) {
            (Carrier::Near(socket), _) => socket.recv(buffer).await.map(Answer::InBuffer),
            (Carrier::Behind(_), Some(receiver)) => match receiver.next().await {
                Ok(Some(datagram)) => Ok(Answer::Whole(datagram)),
                Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(io::Error::other(error)),
            },
            (Carrier::Behind(_), None) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A datagram of a backend.
enum Answer {
    InBuffer(usize),
    Whole(Bytes),
}

impl Session {
    /// A session with a backend, or why there cannot be one.
    pub(crate) async fn open(
        upstream: &Upstream,
        client: SocketAddr,
        header: Vec<u8>,
        meter: &Arc<Meter>,
    ) -> io::Result<(Session, Back)> {
        let (backend, back) = match upstream.way() {
            Way::Address(address) => (Carrier::near(*address).await?, Back::default()),
            Way::Agent(seat) => {
                let stream = seat.open(Carries::Datagrams, client)?;
                (Carrier::Behind(stream.sender), Back(Some(stream.receiver)))
            }
        };
        let (has_ended, used_ms) = (AtomicBool::new(false), AtomicU64::new(0));
        let (meter, begun) = (Arc::clone(meter), Instant::now());
        let line = Connection::default();
        Ok((Session { backend, meter, line, header, has_ended, used_ms, begun }, back))
    }

    /// Counts a datagram from the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.meter.received(bytes);
        self.line.received(bytes);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
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
                self.has_ended.store(true, Ordering::Release);
                return false;
            }
        }
        true
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// What is left until it is over if nothing more is sent.
    fn left(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        (used + IDLE_TIMEOUT).saturating_sub(self.begun.elapsed())
    }

    /// Brings answers back from the address that was asked, until the session is over.
    pub(crate) async fn answer(
        self: Arc<Session>,
        shared: Arc<Shared>,
        listener: Arc<UdpSocket>,
        client: SocketAddr,
        stop: CancellationToken,
        (back, under_way): (Back, (OpenWork, Span)),
    ) {
        count(&shared.counters.udp_sessions);
        let _open = Gauge::open(&shared.counters.udp_sessions_open);
        stop.run_until_cancelled(self.bring_back(&shared, &listener, client, back)).await;
        self.has_ended.store(true, Ordering::Release);
        drop(under_way);
    }

    async fn bring_back(
        &self,
        shared: &Shared,
        listener: &UdpSocket,
        client: SocketAddr,
        mut back: Back,
    ) {
        // What comes from an agent brings its own memory.
        let room = if back.0.is_some() { 0 } else { DATAGRAM_BYTES_MAX };
        let mut buffer = vec![0; room];
        while !self.has_ended() {
            let receiving = self.backend.recv(&mut back, &mut buffer);
            let answer = match timeout(self.left(), receiving).await {
                Ok(Ok(answer)) => answer,
                // Refused: its program does not listen, or is gone.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a backend refused datagrams");
                    return;
                }
                Err(_) if self.left().is_zero() => return,
                Err(_) => continue,
            };
            self.touch();
            let datagram = match &answer {
                Answer::InBuffer(length) => &buffer[..*length],
                Answer::Whole(datagram) => datagram,
            };
            if listener.send_to(datagram, client).await.is_ok() {
                passed(shared, datagram.len());
                self.meter.sent(datagram.len());
                self.line.sent(datagram.len());
            } else {
                count(&shared.counters.udp_dropped);
            }
        }
    }
}

/// Counts a datagram that was passed on.
pub(crate) fn passed(shared: &Shared, bytes: usize) {
    count(&shared.counters.udp_datagrams);
    shared.counters.udp_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}
