//! QUIC (RFC 9000): one handshake for the connection and its encryption, and the token in
//! the first message after it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use helix_link::STREAMS_MAX;
use helix_link::quic::{self, read_message, write_message};
use http::StatusCode;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};

use super::{DialError, Dialled, REFUSAL_BYTES_MAX, Target, client_config, resolve};
use crate::grant::Grant;
use crate::protocol::{self, Admitted, ENTRY_BYTES_MAX, Entry, SUBPROTOCOL};
use crate::race;
use crate::session::Way;
use crate::transport::Transport;

/// How long an address of the edge has before the next is tried beside it (RFC 8305 §5).
/// One where nobody is does not say so over UDP.
const HEAD_START: Duration = Duration::from_millis(250);

/// How often the edge is asked whether it is there while nothing else is said: one that was
/// killed and started again answers that it knows nothing of the connection, and nobody else
/// tells.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The codes of TLS among those of QUIC (RFC 9001 §4.8).
const TLS_CODES: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Connects, and shows the token.
pub(super) async fn connect(
    target: &Target,
    grant: &Grant,
    has_connected: &AtomicBool,
) -> Result<Dialled, DialError> {
    let tls = client_config(&grant.edge_roots, SUBPROTOCOL)?;
    let tls = QuicClientConfig::try_from(tls).map_err(|_| DialError::Roots)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    let mut settings = quic::settings(STREAMS_MAX);
    settings.keep_alive_interval(Some(ASK_EVERY));
    config.transport_config(Arc::new(settings));
    let connection = reach(target, &config).await?;
    has_connected.store(true, Ordering::Relaxed);
    let control =
        enter(&connection, &grant.token).await.map_err(|why| match refusal(&connection) {
            Some(refused) => refused,
            None => DialError::Welcome { at: target.at(), why },
        })?;
    let unreached = |source| DialError::Connect { at: target.at(), source };
    let way = Way::to(connection.remote_address()).map_err(unreached)?;
    let carrier = quic::transport(connection, control);
    Ok(Dialled { carrier, way, transport: Transport::Quic })
}

/// The control stream of who was let in; or what went wrong, unless the edge itself says so.
async fn enter(
    connection: &Connection,
    token: &str,
) -> Result<(quinn::SendStream, quinn::RecvStream), String> {
    let (mut to_edge, mut from_edge) =
        connection.open_bi().await.map_err(|error| error.to_string())?;
    let entry = protocol::write(&Entry { token: token.to_owned() });
    write_message(&mut to_edge, entry).await.map_err(|error| error.to_string())?;
    let said = read_message(&mut from_edge, ENTRY_BYTES_MAX).await;
    let said = said.map_err(|error| error.to_string())?;
    let said = said.ok_or_else(|| "it says nothing".to_owned())?;
    protocol::read::<Admitted>(&said).map_err(|error| error.to_string())?;
    Ok((to_edge, from_edge))
}

/// Why the edge has closed the connection, if it has.
fn refusal(connection: &Connection) -> Option<DialError> {
    let Some(ConnectionError::ApplicationClosed(close)) = connection.close_reason() else {
        return None;
    };
    let status = u16::try_from(close.error_code.into_inner()).ok();
    let status = status.and_then(|code| StatusCode::from_u16(code).ok())?;
    let said = &close.reason[..close.reason.len().min(REFUSAL_BYTES_MAX)];
    let said = String::from_utf8_lossy(said);
    let (reason, message) = said.split_once(' ').unwrap_or((&said, "it says no more"));
    let (reason, message) = (reason.to_owned(), message.to_owned());
    Some(DialError::Refused { status, reason, message })
}

/// A connection to the first address that answers.
async fn reach(target: &Target, config: &ClientConfig) -> Result<Connection, DialError> {
    let addresses = resolve(&target.host, target.port).await?;
    let attempts = addresses.into_iter().map(|address| connect_to(address, target, config));
    race::first(attempts, || tokio::time::sleep(HEAD_START)).await.map_err(|error| {
        error.unwrap_or_else(|| DialError::Resolve {
            host: target.host.clone(),
            source: io::ErrorKind::NotFound.into(),
        })
    })
}

async fn connect_to(
    address: SocketAddr,
    target: &Target,
    config: &ClientConfig,
) -> Result<Connection, DialError> {
    let at = || target.at();
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let unreached = |source| DialError::Connect { at: at(), source };
    let endpoint = Endpoint::client(own).map_err(unreached)?;
    let connecting = endpoint.connect_with(config.clone(), address, &target.host);
    let connecting = connecting.map_err(|error| unreached(io::Error::other(error)))?;
    connecting.await.map_err(|error| match &error {
        ConnectionError::TransportError(it) if TLS_CODES.contains(&u64::from(it.code)) => {
            DialError::Tls { at: at(), source: io::Error::other(error) }
        }
        _ => DialError::Connect { at: at(), source: io::Error::other(error) },
    })
}
