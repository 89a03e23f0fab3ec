//! Taking connections through their handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use helix_tunnel::protocol::SUBPROTOCOL;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::certificates::Resolver;
use super::{ACME_TLS, First, Hello};
use crate::error::EdgeError;
use crate::http::{self, Front, Secure};
use crate::proxy_protocol::{self, Whose};
use crate::shared::Shared;
use crate::sockets;
use crate::stats::count;
use crate::tcp::relay;
use crate::unread::Unread;

/// From the connection to the end of its handshake. Ends clients that hold a
/// connection by saying little.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is spoken inside, the best first.
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// A fatal alert, 112, in a record (RFC 8446 §6).
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// For who speaks plain HTTP here, which a mistyped address easily comes to.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
x-helix-reason: https_port\r\nconnection: close\r\ncontent-length: 49\r\n\r\n\
this port speaks HTTPS: begin the URL with https\n";

/// How TLS is spoken.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// TLS 1.2 and 1.3 with what rustls has for them, which are forward-secret AEAD
    /// suites only. Sessions resume by tickets, which cost no memory here.
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Acceptor, EdgeError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(EdgeError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(shared)));
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec(), ACME_TLS.to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(EdgeError::Tls)?;
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }
}

/// How agents of tunnels speak it within QUIC, with the same certificates. Nothing is sent
/// before the handshake has ended (0-RTT), where it could be sent again by somebody else.
pub(crate) fn within_quic(shared: Arc<Shared>) -> Result<ServerConfig, EdgeError> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EdgeError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(shared)));
    config.alpn_protocols = vec![SUBPROTOCOL.as_bytes().to_vec()];
    Ok(config)
}

/// Accepts until the edge drains.
pub(crate) async fn accept(shared: Arc<Shared>, acceptor: Acceptor, listener: TcpListener) {
    while let Some((stream, peer)) = shared.draining.interrupts(sockets::accept(&listener)).await {
        let (own, acceptor) = (Arc::clone(&shared), acceptor.clone());
        shared.carry(stream, move |stream| serve(own, acceptor, stream, peer));
    }
}

async fn serve(shared: Arc<Shared>, acceptor: Acceptor, stream: TcpStream, peer: SocketAddr) {
    let beginning = begin(&shared, stream, peer);
    let Some((stream, whose, first)) = shared.begins(beginning).await.flatten() else {
        return;
    };
    let (First { bytes, hello }, peer) = (first, whose.client);
    match hello {
        Hello::For(Some(host)) if shared.table.load().passed_on(&host).is_some() => {
            return Box::pin(relay::carry_host(shared, stream, whose, host, bytes)).await;
        }
        Hello::NotTls if bytes[0].is_ascii_uppercase() => {
            // Whether it was heard is theirs to see.
            let _ = answer_plainly(stream).await;
            return;
        }
        // What is wrong with the rest the handshake says.
        Hello::For(_) | Hello::NotTls | Hello::Malformed | Hello::Incomplete => {}
    }
    let shaking = acceptor.0.accept(Unread::new(bytes, stream));
    // Apart: it is large, and over long before the connection is.
    let shaking = Box::pin(timeout(HANDSHAKE_TIMEOUT, shaking));
    let stream = match shared.begins(shaking).await {
        Some(Ok(Ok(stream))) => stream,
        None => return,
        Some(Ok(Err(error))) => {
            count(&shared.counters.tls_refused);
            return tracing::debug!(%peer, %error, "TLS handshake failed");
        }
        Some(Err(_)) => {
            count(&shared.counters.tls_refused);
            return tracing::debug!(%peer, "TLS handshake took too long");
        }
    };
    count(&shared.counters.tls_connections);
    let (_, session) = stream.get_ref();
    // The handshake was all that the authority came for.
    if session.alpn_protocol() == Some(ACME_TLS) {
        return;
    }
    let is_h2 = session.alpn_protocol() == Some(H2);
    let name = session.server_name().unwrap_or_default().to_ascii_lowercase();
    let front = Front::new(peer, Some(Secure { name }));
    if is_h2 {
        http::serve_h2(shared, stream, front).await;
    } else {
        http::serve(shared, stream, front).await;
    }
}

/// Whose a connection is and what it begins with.
async fn begin(
    shared: &Shared,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Whose, First)> {
    let whose = proxy_protocol::whose(shared, &mut stream, peer).await?;
    let first = super::first(&mut stream, &shared.counters).await?;
    Some((stream, whose, first))
}

async fn answer_plainly(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await
}

/// Tells a client that nothing is served by that name here (RFC 6066 §3), which it can
/// say to a person; a reset could be anything.
pub(crate) async fn refuse_name(mut stream: TcpStream) {
    let _ = stream.write_all(UNRECOGNIZED_NAME).await;
    let _ = stream.shutdown().await;
}
