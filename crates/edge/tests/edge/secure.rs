//! A client that speaks TLS, and HTTP/1.1 or HTTP/2 inside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use helix_certificate::Authority;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::app::Answer;

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    Http1,
    Http2,
}

/// Remembers sessions from connection to connection.
pub(crate) struct SecureClient {
    config: Arc<ClientConfig>,
    inside: Inside,
}

/// One connection.
pub(crate) struct Open {
    sender: Sender,
    certificate: Vec<u8>,
    handshake: HandshakeKind,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl SecureClient {
    pub(crate) fn trusting(authority: &Authority, inside: Inside) -> SecureClient {
        let mut roots = RootCertStore::empty();
        let pem = authority.certificate_pem();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![match inside {
            Inside::Http1 => b"http/1.1".to_vec(),
            Inside::Http2 => b"h2".to_vec(),
        }];
        SecureClient { config: Arc::new(config), inside }
    }

    /// What is said inside is up to the test.
    pub(crate) async fn raw(&self, address: SocketAddr, host: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await.unwrap()
    }

    pub(crate) async fn connect(&self, address: SocketAddr, host: &str) -> io::Result<Open> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?;
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().unwrap()[0].to_vec();
        let handshake = session.handshake_kind().unwrap();
        let stream = TokioIo::new(stream);
        let sender = match self.inside {
            Inside::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Inside::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Open { sender, certificate, handshake })
    }
}

impl Open {
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn handshake(&self) -> HandshakeKind {
        self.handshake
    }

    /// Another handle on the same HTTP/2 connection.
    pub(crate) fn again(&self) -> Open {
        let Sender::Http2(sender) = &self.sender else { panic!("HTTP/1.1 takes turns") };
        let sender = Sender::Http2(sender.clone());
        Open { sender, certificate: self.certificate.clone(), handshake: self.handshake }
    }

    pub(crate) async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send("GET", host, path, String::new()).await.unwrap()
    }

    pub(crate) async fn post(&mut self, host: &str, path: &str, body: String) -> Answer {
        self.send("POST", host, path, body).await.unwrap()
    }

    /// Begins requests and takes each back at once; whether the far end had enough.
    pub(crate) async fn take_back(mut self, count: usize, host: &str, path: &str) -> bool {
        let Sender::Http2(sender) = &mut self.sender else { panic!("HTTP/1.1 has no resets") };
        for _ in 0..count {
            if sender.ready().await.is_err() {
                return true;
            }
            let url = format!("https://{host}{path}");
            let request = Request::get(url).body(Full::default()).unwrap();
            let sent = sender.send_request(request);
            let begun = tokio::time::timeout(std::time::Duration::from_micros(1), sent).await;
            if matches!(begun, Ok(Err(_))) {
                return true;
            }
        }
        false
    }

    async fn send(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        body: String,
    ) -> hyper::Result<Answer> {
        let body = Full::from(body);
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                let request = Request::builder().method(method).uri(path);
                let request = request.header(header::HOST, host).body(body).unwrap();
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let request =
                    Request::builder().method(method).uri(format!("https://{host}{path}"));
                sender.send_request(request.body(body).unwrap()).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}
