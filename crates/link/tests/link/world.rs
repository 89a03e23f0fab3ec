//! Two machines with something between them that a link runs over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use helix_link::websocket::{self, Masks, Role};
use helix_link::{Incoming, Link, Opened, STREAMS_MAX, Side, Stream, Transport, pair, quic};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::lossy::Lossy;

/// Longer than anything here takes, shorter than a person waits.
const DEADLINE: Duration = Duration::from_secs(20);

/// As much as a socket holds.
const SOCKET_BYTES: usize = 64 * 1024;

/// What is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Memory,
    WebSocket,
    Quic,
}

/// Two linked machines.
pub(crate) struct World {
    pub(crate) client: Link,
    pub(crate) server: Link,
    pub(crate) client_incoming: Incoming,
    pub(crate) server_incoming: Incoming,
    _between: Option<Lossy>,
}

impl World {
    pub(crate) async fn new(over: Over) -> World {
        let (left, right) = match over {
            Over::Memory => pair(),
            Over::WebSocket => {
                let (left, right) = tokio::io::duplex(SOCKET_BYTES);
                let masks: Masks = Box::new(|| [0x37, 0xfa, 0x21, 0x3d]);
                let left = websocket::over(left, &[], Role::Client(masks));
                (left.unwrap(), websocket::over(right, &[], Role::Server).unwrap())
            }
            Over::Quic => {
                let (client, server) = Wire::both().await;
                (client.transport(), server.transport())
            }
        };
        World::between(left, right, None)
    }

    /// One whose packets are lost, so many in a hundred, but for those of the handshake.
    pub(crate) async fn losing(percent: u64) -> World {
        let (server, at) = server(STREAMS_MAX);
        let lossy = Lossy::start(at).await;
        let (client, server) = Wire::connect(server, lossy.at).await;
        lossy.lose(percent);
        World::between(client.transport(), server.transport(), Some(lossy))
    }

    fn between(left: Transport, right: Transport, between: Option<Lossy>) -> World {
        let (client, client_incoming) = Link::start(left, Side::Client);
        let (server, server_incoming) = Link::start(right, Side::Server);
        World { client, server, client_incoming, server_incoming, _between: between }
    }

    /// A stream, and its other end.
    pub(crate) async fn stream(&mut self) -> (Stream, Stream) {
        let here = self.client.open(Bytes::from_static(b"what for")).unwrap();
        let Opened { header, stream } = soon(self.server_incoming.next()).await.unwrap();
        assert_eq!(header, "what for");
        (here, stream)
    }
}

/// One end of a connection, with the stream that both know of.
pub(crate) struct Wire {
    pub(crate) connection: Connection,
    pub(crate) control: (SendStream, RecvStream),
}

impl Wire {
    /// The client's end and the server's.
    pub(crate) async fn both() -> (Wire, Wire) {
        Wire::allowing(STREAMS_MAX).await
    }

    /// The same, where the client may have so many streams open.
    pub(crate) async fn allowing(theirs_max: usize) -> (Wire, Wire) {
        let (server, at) = server(theirs_max);
        Wire::connect(server, at).await
    }

    async fn connect(server: Endpoint, at: SocketAddr) -> (Wire, Wire) {
        let client = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = client.connect_with(client_config(), at, "localhost").unwrap();
        let accepting = async { server.accept().await.unwrap().await.unwrap() };
        let (here, there) = soon(async { tokio::join!(connecting, accepting) }).await;
        let here = here.unwrap();
        let mut control = here.open_bi().await.unwrap();
        // A stream is there once something came by it.
        quic::write_message(&mut control.0, Bytes::from_static(b"let me in")).await.unwrap();
        let mut there_control = soon(there.accept_bi()).await.unwrap();
        soon(quic::read_message(&mut there_control.1, 100)).await.unwrap().unwrap();
        let client = Wire { connection: here, control };
        (client, Wire { connection: there, control: there_control })
    }

    pub(crate) fn transport(self) -> Transport {
        quic::transport(self.connection, self.control)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The same certificate for all of a test run.
fn certificate() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static MADE: std::sync::LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
        std::sync::LazyLock::new(|| {
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
        });
    &MADE
}

fn server(theirs_max: usize) -> (Endpoint, SocketAddr) {
    let made = certificate();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(quic::settings(theirs_max)));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let at = endpoint.local_addr().unwrap();
    (endpoint, at)
}

fn client_config() -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate().cert.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(quic::settings(STREAMS_MAX)));
    config
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("not in time")
}
