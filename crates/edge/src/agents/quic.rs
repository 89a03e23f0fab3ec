//! Agents over QUIC: where they are listened for, and their way in.
//!
//! A connection is let in once its handshake is done and its first message has shown a
//! token; from then on it is a link like any other.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use helix_link::quic::{self, MessageError, read_message, write_message};
use helix_model::edge::AgentUrl;
use helix_model::tunnel::Transport;
use helix_tunnel::protocol::{self, Admitted, ENTRY_BYTES_MAX, Entry, PROTOCOL};
use http::Uri;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream, ServerConfig,
    TokioRuntime, VarInt, WriteError,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::door::{self, Closed};
use super::session::{self, Guest};
use super::{probe, resets};
use crate::config::QuicPort;
use crate::error::EdgeError;
use crate::shared::Shared;
use crate::{sockets, tls};

/// Agents between their first packet and being let in. Each costs a handshake, so that
/// more than this at a time would keep those out that are nearly through.
const HANDSHAKES_MAX: usize = 1024;

/// From so many on, who comes has to show first that packets sent to it arrive there
/// (RFC 9000 §8.1.2): a flood from addresses that are not its own gets no further.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;

/// From the first packet to being let in, as over TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a port is tried that the edge before this one still has.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// What is listened with, or will be.
pub(crate) enum Door {
    Open(UdpSocket),
    /// An edge that was taken over has the port until its agents have moved.
    Awaited(SocketAddr),
}

impl Door {
    /// Listens where it is wanted, and says at which URLs agents come then. Nowhere if it
    /// need not be and cannot.
    pub(crate) fn open(
        wanted: QuicPort,
        https: Option<&SocketAddr>,
        takes_over: bool,
        known: Vec<AgentUrl>,
    ) -> Result<(Option<Door>, Vec<AgentUrl>), EdgeError> {
        let door = Door::listen(wanted, https.copied(), takes_over)?;
        let urls = match &door {
            Some(door) => door.urls(wanted, known),
            None => known.into_iter().filter(|it| it.transport != Transport::Quic).collect(),
        };
        Ok((door, urls))
    }

    fn listen(
        wanted: QuicPort,
        https: Option<SocketAddr>,
        takes_over: bool,
    ) -> Result<Option<Door>, EdgeError> {
        let (Some(mut at), false) = (https, wanted == QuicPort::Off) else { return Ok(None) };
        if let QuicPort::Own(port) = wanted {
            at.set_port(port);
        }
        match sockets::take_shared(at) {
            Ok(socket) => Ok(Some(Door::Open(socket))),
            Err(error) if takes_over && error.kind() == io::ErrorKind::AddrInUse => {
                Ok(Some(Door::Awaited(at)))
            }
            Err(error) if wanted == QuicPort::AsHttps => {
                tracing::warn!(%at, %error, "agents of tunnels are not taken over QUIC");
                Ok(None)
            }
            Err(source) => Err(EdgeError::Listen { what: "tunnel-QUIC", address: at, source }),
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Door::Open(socket) => socket.local_addr().ok().map(|at| at.port()),
            Door::Awaited(at) => Some(at.port()),
        }
    }

    /// The URLs of agents, with those of this door behind unless the operator has said
    /// them. A port that follows that of HTTPS is reached by the number that has outside.
    fn urls(&self, wanted: QuicPort, mut known: Vec<AgentUrl>) -> Vec<AgentUrl> {
        if known.iter().any(|it| it.transport == Transport::Quic) {
            return known;
        }
        let own = self.port().filter(|_| wanted != QuicPort::AsHttps);
        let urls = known.iter().filter_map(|known| {
            let parsed: Uri = known.url.parse().ok()?;
            let port = own.or(parsed.port_u16()).unwrap_or(super::HTTPS_PORT);
            let url = format!("quic://{}:{port}", parsed.host()?);
            Some(AgentUrl { url, transport: Transport::Quic })
        });
        let urls: Vec<_> = urls.collect();
        known.extend(urls);
        known
    }

    /// Takes agents until the edge drains.
    pub(crate) async fn accept(self, shared: Arc<Shared>) {
        let binding = async {
            match self {
                Door::Open(socket) => socket,
                Door::Awaited(at) => loop {
                    tokio::time::sleep(BIND_AGAIN).await;
                    if let Ok(socket) = sockets::take_shared(at) {
                        break socket;
                    }
                },
            }
        };
        let Some(socket) = shared.draining.interrupts(binding).await else { return };
        match endpoint(&shared, socket) {
            Ok(endpoint) => accept(shared, endpoint).await,
            Err(error) => tracing::warn!(%error, "agents of tunnels are not taken over QUIC"),
        }
    }
}

fn endpoint(shared: &Arc<Shared>, socket: UdpSocket) -> io::Result<Endpoint> {
    let tls = tls::within_quic(Arc::clone(shared)).map_err(io::Error::other)?;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(quic::settings(probe::PROBES_MAX as usize)))
        .max_incoming(HANDSHAKES_MAX);
    let resets = resets::config(shared.agents.resets_file.as_deref());
    Endpoint::new(resets, Some(config), socket, Arc::new(TokioRuntime))
}

async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(Some(incoming)) = shared.draining.interrupts(endpoint.accept()).await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let under_way = HANDSHAKES_MAX - places.available_permits();
        if under_way > HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
            // It may: nothing else can be wrong with that.
            let _ = incoming.retry();
            continue;
        }
        let own = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            let entering = timeout(HANDSHAKE_TIMEOUT, enter(&own, incoming));
            let entered = own.begins(entering).await;
            drop(place);
            match entered {
                Some(Ok(Ok((connection, control, guest)))) => {
                    session::run(own, quic::transport(connection, control), guest).await;
                }
                Some(Ok(Err(error))) => tracing::debug!(%error, "an agent did not come in"),
                Some(Err(_)) => tracing::debug!("an agent took too long to come in"),
                None => {}
            }
        });
    }
    endpoint.set_server_config(None);
    shared.closing.interrupts(endpoint.wait_idle()).await;
}

/// Why an agent did not come in.
#[derive(Debug, thiserror::Error)]
enum Outside {
    #[error("its connection has ended")]
    Connection(#[from] ConnectionError),
    #[error("what it says is not understood")]
    Message(#[from] MessageError),
    #[error("it does not listen")]
    Write(#[from] WriteError),
    #[error("it was refused")]
    Refused(#[from] Closed),
}

/// Both directions of the control stream.
type Control = (SendStream, RecvStream);

async fn enter(
    shared: &Shared,
    incoming: Incoming,
) -> Result<(Connection, Control, Guest), Outside> {
    let connection = incoming.accept()?.await?;
    let (mut to_agent, mut from_agent) = connection.accept_bi().await?;
    let entry = read_message(&mut from_agent, ENTRY_BYTES_MAX).await?;
    match admit(shared, &connection, &entry.unwrap_or_default()).await {
        Ok(guest) => {
            let admitted = protocol::write(&Admitted { protocol: PROTOCOL });
            write_message(&mut to_agent, admitted).await?;
            Ok((connection, (to_agent, from_agent), guest))
        }
        Err(closed) => {
            let said = format!("{} {closed}", closed.reason());
            connection.close(VarInt::from(u32::from(closed.status().as_u16())), said.as_bytes());
            Err(closed.into())
        }
    }
}

/// Whom the first message lets in.
async fn admit(shared: &Shared, connection: &Connection, entry: &[u8]) -> Result<Guest, Closed> {
    let shaken = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let name = shaken.and_then(|data| data.server_name).unwrap_or_default();
    // Where apps have their hosts there is no door.
    if !door::is_agent(shared, &name.to_ascii_lowercase()) {
        return Err(Closed::NoTunnel);
    }
    let entry: Entry = protocol::read(entry).map_err(|_| Closed::NoToken)?;
    let from = connection.remote_address();
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    door::admit(shared, &entry.token, from, Transport::Quic).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_reached_by_the_port_of_https_or_one_of_its_own() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap().port();
        let door = Door::Open(socket);
        let known = |url: &str, transport| vec![AgentUrl { url: url.to_owned(), transport }];
        let urls = |wanted, url: &str, transport| {
            let all = door.urls(wanted, known(url, transport));
            all.last().map(|it| it.url.clone()).unwrap()
        };
        let over_tls = "wss://edge.example/.helix/tunnel";
        assert_eq!(urls(QuicPort::AsHttps, over_tls, Transport::Wss), "quic://edge.example:443");
        let at_port = "wss://[fd00::1]:8443/.helix/tunnel";
        assert_eq!(urls(QuicPort::AsHttps, at_port, Transport::Wss), "quic://[fd00::1]:8443");
        let expected = format!("quic://edge.example:{own}");
        assert_eq!(urls(QuicPort::Own(own), over_tls, Transport::Wss), expected);
        let said = "quic://other.example:1";
        assert_eq!(urls(QuicPort::AsHttps, said, Transport::Quic), said);
    }
}
