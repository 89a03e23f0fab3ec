//! A program, an agent's inspector before it, and a visitor, with a link in memory
//! between the two.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use helix_link::{Link, Side};
use helix_tunnel::inspect::{Inspector, Journal, Options, Page};
use helix_tunnel::protocol::{self, Carries, Opening};
use helix_tunnel::{ByteStream, Service, Visitor};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// A piece of what `/large` answers.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}

/// A program that listens: `/` greets, `/headers` tells what it was sent, `/echo` returns
/// the body, `/large` answers without end, `/upgrade` echoes bytes.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    /// Connections it took.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Pieces it was asked for.
    pub(crate) pieces: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Program {
    pub(crate) async fn start() -> Program {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, pieces) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let (counted, sent) = (Arc::clone(&connections), Arc::clone(&pieces));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let sent = Arc::clone(&sent);
                open.spawn(async move {
                    let service = service_fn(move |request| respond(request, Arc::clone(&sent)));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = connection.await;
                });
            }
        });
        Program { address, connections, pieces, _tasks: tasks }
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn respond(
    mut request: Request<Incoming>,
    sent: Arc<AtomicUsize>,
) -> Result<Response<Body>, Infallible> {
    let full = |text: String| Full::new(Bytes::from(text)).boxed_unsync();
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/headers" => {
            let mut text = String::new();
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            let answer = Response::builder().header("set-cookie", "session=sesame");
            answer.body(full(text)).unwrap()
        }
        "/echo" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::new(body).boxed_unsync())
        }
        "/large" => {
            let pieces = futures::stream::unfold(sent, |sent| async move {
                sent.fetch_add(1, Ordering::Relaxed);
                Some((Ok(Frame::data(Bytes::from(vec![b'x'; PIECE_BYTES]))), sent))
            });
            Response::new(StreamBody::new(pieces).boxed_unsync())
        }
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut io);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let answer = answer.header("connection", "upgrade").header("upgrade", "echo");
            answer.body(full(String::new())).unwrap()
        }
        _ => Response::new(full(format!("hello from {path}"))),
    })
}

/// The agent's side and the edge's.
pub(crate) struct World {
    pub(crate) inspector: Arc<Inspector>,
    link: Link,
    _tasks: JoinSet<()>,
}

/// What keeps requests and passes them on to this program.
pub(crate) fn options(program: &Program) -> Options {
    Options {
        to: program.address.to_string(),
        journal: Some(Arc::new(Journal::default())),
        ..Options::default()
    }
}

impl World {
    pub(crate) fn new(options: Options) -> World {
        let inspector = Inspector::new(options);
        let (edge, agent) = helix_link::pair();
        let (link, _) = Link::start(edge, Side::Server);
        let mut tasks = JoinSet::new();
        let service = Arc::clone(&inspector);
        tasks.spawn(async move {
            let (_link, mut incoming) = Link::start(agent, Side::Client);
            let mut visitors = JoinSet::new();
            while let Some(opened) = incoming.next().await {
                let service = Arc::clone(&service);
                let opening = protocol::read(&opened.header).unwrap();
                let visitor = Visitor { opening, stream: opened.stream };
                visitors.spawn(async move { service.carry(visitor).await });
            }
        });
        World { inspector, link, _tasks: tasks }
    }

    /// A connection of a visitor, as an edge has it.
    pub(crate) fn stream(&self) -> ByteStream {
        let opening = Opening { carries: Carries::Bytes, client: None };
        ByteStream::from(self.link.open(protocol::write(&opening)).unwrap())
    }

    pub(crate) async fn visitor(&self) -> Client {
        Client::over(self.stream()).await
    }

    /// The local page of it.
    pub(crate) async fn page(&self) -> Local {
        let page = Page::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = page.address();
        let mut tasks = JoinSet::new();
        tasks.spawn(page.serve(Arc::clone(&self.inspector)));
        Local { address, _tasks: tasks }
    }
}

/// An HTTP client with one connection.
pub(crate) struct Client {
    send: SendRequest<Full<Bytes>>,
    _tasks: JoinSet<()>,
}

/// An answer that has come to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Client {
    async fn over<S>(stream: S) -> Client
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (send, connection) = made.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Client { send, _tasks: tasks }
    }

    pub(crate) async fn start(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        soon(self.send.ready()).await.unwrap();
        soon(self.send.send_request(request)).await.unwrap()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.start(request).await.into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(get(path, &[])).await
    }
}

/// As an edge sends it on.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let client = IpAddr::from([192, 0, 2, 7]).to_string();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in [("host", "demo.example"), ("x-forwarded-for", client.as_str())] {
        if !headers.iter().any(|(other, _)| *other == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request("GET", path, headers, Bytes::new())
}

/// The local page.
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Local {
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let host = self.address.to_string();
        let mut all = vec![("host", host.as_str())];
        all.extend(headers.iter().copied());
        if headers.iter().any(|(name, _)| *name == "host") {
            all.remove(0);
        }
        self.client().await.send(request(method, path, &all, Bytes::new())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &[]).await.json()
    }

    /// Waits until the list is so.
    pub(crate) async fn list(&self, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let looking = async {
            loop {
                let list = self.get("/api/requests").await["requests"].clone();
                let Value::Array(list) = list else { panic!("{list}") };
                if condition(&list) {
                    return list;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(looking).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap()).await
    }
}
