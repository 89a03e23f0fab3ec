//! Small apps to stand behind an edge, and a client to stand before it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// An app; it and its connections die when this is dropped.
pub(crate) struct App {
    pub(crate) number: u128,
    pub(crate) address: SocketAddr,
    /// Requests for `/slow` take a permit each.
    pub(crate) gate: Arc<Semaphore>,
    /// Requests that have arrived.
    pub(crate) seen: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl App {
    /// An HTTP app: `/` names it, `/headers` tells what it was sent, `/echo`
    /// returns the body, `/slow` waits at the gate, `/upgrade` echoes bytes.
    pub(crate) async fn http(number: u128) -> App {
        let gate = Arc::new(Semaphore::new(0));
        let seen = Arc::new(AtomicUsize::new(0));
        let state = (Arc::clone(&gate), Arc::clone(&seen));
        App::start(number, gate, seen, move |stream| {
            let (gate, seen) = state.clone();
            async move {
                let service = service_fn(move |request| {
                    seen.fetch_add(1, Ordering::Relaxed);
                    respond(number, Arc::clone(&gate), request)
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                let _ = connection.await;
            }
        })
        .await
    }

    /// An app that returns what it is sent, and the end of it.
    pub(crate) async fn echo(number: u128) -> App {
        App::tcp(number, |mut stream| async move {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        })
        .await
    }

    /// An app that does this with each connection.
    pub(crate) async fn tcp<F: Future<Output = ()> + Send + 'static>(
        number: u128,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> App {
        App::start(number, Arc::new(Semaphore::new(0)), Arc::default(), serve).await
    }

    async fn start<F: Future<Output = ()> + Send + 'static>(
        number: u128,
        gate: Arc<Semaphore>,
        seen: Arc<AtomicUsize>,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> App {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        App { number, address, gate, seen, task: task.abort_handle() }
    }

    pub(crate) fn backend(&self) -> (u128, SocketAddr) {
        (self.number, self.address)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type AppBody = BoxBody<Bytes, hyper::Error>;

fn full(text: String) -> AppBody {
    Full::from(text).map_err(|never| match never {}).boxed()
}

async fn respond(
    number: u128,
    gate: Arc<Semaphore>,
    mut request: Request<Incoming>,
) -> Result<Response<AppBody>, Infallible> {
    Ok(match request.uri().path() {
        "/headers" => Response::new(full(format!("{:?}", request.headers()))),
        "/echo" => Response::new(request.into_body().boxed()),
        "/slow" => {
            gate.acquire().await.unwrap().forget();
            Response::new(full(format!("app {number}")))
        }
        "/upgrade" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut reader, mut writer) =
                    tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "echo")
                .body(full(String::new()))
                .unwrap()
        }
        _ => Response::new(full(format!("app {number}"))),
    })
}

/// A client's keep-alive connection.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

/// A whole response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client(sender)
    }

    pub(crate) async fn get(&mut self, host: &str, path: &str) -> hyper::Result<Answer> {
        let request = Request::get(path).header(header::HOST, host);
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    Client::connect(address).await.get(host, path).await.unwrap()
}

/// Sends these bytes and returns all that comes back until the end.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
