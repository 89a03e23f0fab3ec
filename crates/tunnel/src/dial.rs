//! The way to an edge: TCP, perhaps through a proxy, TLS, and the upgrade to a WebSocket;
//! or QUIC.

mod quic;
mod websocket;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{StatusCode, Uri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::grant::Grant;
use crate::session::Way;
use crate::transport::Transport;

/// From the first packet to the link. What takes longer is tried elsewhere.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head a proxy may answer with.
const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where an edge is unless the URL says otherwise.
const USUAL_PORT: u16 = 443;

/// What a WebSocket begins in (RFC 7301).
const HTTP_1_1: &str = "http/1.1";

/// How long a refusal may be.
const REFUSAL_BYTES_MAX: usize = 512;

/// Why an edge was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("`{url}` is not a URL of an edge: it begins with `wss://` or `quic://` and has a host")]
    Url { url: String },
    #[error("the certificates that vouch for edges cannot be read")]
    Roots,
    #[error("{host} has no address")]
    Resolve { host: String, source: io::Error },
    #[error("{at} cannot be reached: {source}")]
    Connect { at: String, source: io::Error },
    #[error("the proxy {proxy} does not lead to {at}: {why}")]
    Proxy { proxy: String, at: String, why: String },
    #[error("{at} is not an edge of this installation, or somebody is in between: {source}")]
    Tls { at: String, source: io::Error },
    #[error("the edge refuses the agent: {message} ({status}, {reason})")]
    Refused { status: StatusCode, reason: String, message: String },
    #[error("{at} does not speak as an edge does")]
    WebSocket { at: String, source: io::Error },
    #[error("{at} does not welcome the agent: {why}")]
    Welcome { at: String, why: String },
    #[error("{at} has others measure their ways now: try again in a minute")]
    Busy { at: String },
    #[error("{at} took longer than {} seconds", DIAL_TIMEOUT.as_secs())]
    Late { at: String },
}

impl DialError {
    /// Whether another grant might do what this one did not.
    pub fn is_refused(&self) -> bool {
        matches!(self, DialError::Refused { .. })
    }

    /// Whether the edge has certainly not seen the token: it is as good as before.
    pub(crate) fn is_unspent(&self) -> bool {
        matches!(
            self,
            DialError::Resolve { .. } | DialError::Connect { .. } | DialError::Proxy { .. }
        )
    }
}

/// A proxy that is asked to `CONNECT` (RFC 9110 §9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
}

/// A connection to an edge.
pub(crate) struct Dialled {
    pub(crate) carrier: helix_link::Transport,
    pub(crate) way: Way,
    pub(crate) transport: Transport,
}

/// Dials an edge and shows it the token; what is told meanwhile is that it has taken the
/// connection.
pub(crate) async fn dial(
    url: &str,
    grant: &Grant,
    proxy: Option<&Proxy>,
    has_connected: &AtomicBool,
) -> Result<Dialled, DialError> {
    let target = Target::of(url)?;
    let at = target.at();
    let dialling = async {
        match target.transport {
            Transport::Wss => connect(&target, grant, proxy, has_connected).await,
            Transport::Quic => quic::connect(&target, grant, has_connected).await,
        }
    };
    timeout(DIAL_TIMEOUT, dialling).await.map_err(|_| DialError::Late { at })?
}

/// Where a URL leads.
struct Target {
    url: Uri,
    transport: Transport,
    host: String,
    port: u16,
}

impl Target {
    fn of(url: &str) -> Result<Target, DialError> {
        let refuse = || DialError::Url { url: url.to_owned() };
        let parsed: Uri = url.parse().map_err(|_| refuse())?;
        let transport = Transport::of(url).ok_or_else(refuse)?;
        let host = parsed.host().ok_or_else(refuse)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = parsed.port_u16().unwrap_or(USUAL_PORT);
        Ok(Target { url: parsed, transport, host, port })
    }

    fn at(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

async fn connect(
    target: &Target,
    grant: &Grant,
    proxy: Option<&Proxy>,
    has_connected: &AtomicBool,
) -> Result<Dialled, DialError> {
    let stream = match proxy {
        Some(proxy) => through(proxy, target).await?,
        None => reach(&target.host, target.port).await?,
    };
    // A proxy has, too, once it leads there.
    has_connected.store(true, Ordering::Relaxed);
    // Small frames are requests, or answers somebody waits for.
    let _ = stream.set_nodelay(true);
    let unreached = |source| DialError::Connect { at: target.at(), source };
    let own = stream.local_addr().map_err(unreached)?.ip();
    let way = Way { own, peer: stream.peer_addr().map_err(unreached)? };
    let tls = |source| DialError::Tls { at: target.at(), source };
    let name = ServerName::try_from(target.host.clone());
    let name = name.map_err(|error| tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(Arc::new(client_config(&grant.edge_roots, HTTP_1_1)?));
    let stream = connector.connect(name, stream).await.map_err(tls)?;
    let carrier = websocket::upgrade(stream, target, &grant.token).await?;
    Ok(Dialled { carrier, way, transport: Transport::Wss })
}

/// Trusts those the control plane named, and nobody else: an edge is ours or it is not.
fn client_config(roots: &str, spoken: &str) -> Result<ClientConfig, DialError> {
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        let certificate = certificate.map_err(|_| DialError::Roots)?;
        trusted.add(certificate).map_err(|_| DialError::Roots)?;
    }
    let mut provider = rustls::crypto::ring::default_provider();
    // The library would have the longer keys first, which cost two fifths more to use; what goes
    // through a tunnel for a moment is as safe with the shorter.
    provider.cipher_suites.sort_by_key(|it| it.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| DialError::Roots)?;
    let mut config = config.with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = vec![spoken.as_bytes().to_vec()];
    Ok(config)
}

async fn reach(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = resolve(host, port).await?;
    let at = format!("{host}:{port}");
    let connected = TcpStream::connect(&*addresses).await;
    connected.map_err(|source| DialError::Connect { at, source })
}

/// Names below `localhost` are this machine (RFC 6761 §6.3), which not every resolver
/// knows.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    if host == "localhost" || host.ends_with(".localhost") {
        let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(own.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|source| DialError::Resolve { host: host.to_owned(), source })?;
    Ok(found.collect())
}

/// Asks a proxy for the way to the edge.
async fn through(proxy: &Proxy, target: &Target) -> Result<TcpStream, DialError> {
    let mut stream = reach(&proxy.host, proxy.port).await?;
    let refuse = |why: String| DialError::Proxy {
        proxy: format!("{}:{}", proxy.host, proxy.port),
        at: target.at(),
        why,
    };
    let asked = format!("CONNECT {0} HTTP/1.1\r\nhost: {0}\r\n\r\n", target.at());
    stream.write_all(asked.as_bytes()).await.map_err(|error| refuse(error.to_string()))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_BYTES_MAX {
            return Err(refuse("its answer does not end".to_owned()));
        }
        // One at a time: what comes after the head is the edge's.
        let byte = stream.read_u8().await.map_err(|error| refuse(error.to_string()))?;
        head.push(byte);
    }
    let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).into_owned();
    match first.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(stream),
        _ => Err(refuse(format!("it answers `{first}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_an_edge_has_a_scheme_and_a_host() {
        let at = |url| Target::of(url).map(|target| target.at());
        assert_eq!(at("wss://edge.example/x").unwrap(), "edge.example:443");
        assert_eq!(at("wss://edge.example:8443/x").unwrap(), "edge.example:8443");
        assert_eq!(at("wss://[fd00::1]:8443/x").unwrap(), "[fd00::1]:8443");
        assert_eq!(at("quic://edge.example:8443").unwrap(), "edge.example:8443");
        for other in ["https://edge.example/", "edge.example", "wss:///x", ""] {
            assert!(matches!(at(other), Err(DialError::Url { .. })), "{other}");
        }
    }

    #[tokio::test]
    async fn names_below_localhost_are_this_machine() {
        let found = resolve("tunnels.localhost", 1).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()));
    }
}
