//! Backends that speak HTTP/2: gRPC with its own client and server, and any other client.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use helix_model::manifest::{BackendProtocol, Handling};
use helix_model::plan::EndpointPlan;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::app::{App, Client, get};
use crate::secure::{Inside, SecureClient};
use crate::tls::{Server, serving};
use crate::world::{World, http, soon};

fn speaking_h2c(endpoint: EndpointPlan) -> EndpointPlan {
    let handling = Handling { backend_protocol: BackendProtocol::H2c, ..endpoint.handling };
    EndpointPlan { handling, ..endpoint }
}

/// An app that speaks HTTP/2 only, and says what it was asked.
async fn h2_app(number: u128) -> App {
    App::tcp(number, |stream| async move {
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
            let (version, uri) = (request.version(), request.uri().clone());
            let headers = request.headers();
            let host = headers.get("host").is_some();
            let said = format!(
                "{version:?} {uri} {host} {:?} {:?}",
                headers.get("te"),
                headers.get("upgrade")
            );
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(said))))
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    })
    .await
}

#[tokio::test]
async fn clients_of_either_version_reach_a_backend_that_speaks_http2() {
    let (server, app) = (Server::new(), h2_app(1).await);
    let world =
        serving(&server, vec![speaking_h2c(http(1, "app.example", &[app.backend()]))]).await;
    let asked = "HTTP/2.0 http://app.example/a?b false None None";
    let answer = get(world.http(), "app.example", "/a?b").await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from(asked)));
    // A wish to change protocol cannot go on, and does no harm.
    let wish = http::Request::get("/a?b")
        .header("host", "app.example")
        .header("connection", "upgrade, te")
        .header("upgrade", "websocket")
        .header("te", "trailers");
    let mut client = Client::connect(world.http()).await;
    let answer = client.send(wish.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.body, "HTTP/2.0 http://app.example/a?b false Some(\"trailers\") None");
    let secure = SecureClient::trusting(&server.authority, Inside::Http2);
    let mut open = secure.connect(world.https(), "app.example").await.unwrap();
    assert_eq!(open.get("app.example", "/a?b").await.body, asked);
}

#[tokio::test]
async fn a_backend_that_is_gone_is_passed_over_and_one_that_speaks_http1_is_told() {
    let (one, two) = (h2_app(1).await, h2_app(2).await);
    let world = World::new().await;
    let plan = || vec![speaking_h2c(http(1, "app.example", &[one.backend(), two.backend()]))];
    world.apply(plan()).await;
    for _ in 0..4 {
        assert_eq!(get(world.http(), "app.example", "/").await.status, StatusCode::OK);
    }
    drop(one);
    for _ in 0..8 {
        assert_eq!(soon(get(world.http(), "app.example", "/")).await.status, StatusCode::OK);
    }
    let old = App::http(3).await;
    world.apply(vec![speaking_h2c(http(1, "app.example", &[old.backend()]))]).await;
    let answer = soon(get(world.http(), "app.example", "/")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers["x-helix-reason"], "backend_closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_in_all_its_kinds_goes_through() {
    let Some(python) = python() else {
        panic!("Python's grpcio is missing: run `cargo xtask test --only packages`")
    };
    let grpc = GrpcServer::start(&python);
    let server = Server::new();
    let endpoint = speaking_h2c(http(1, "grpc.example", &[(1, grpc.address)]));
    let world = serving(&server, vec![endpoint]).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, server.authority.certificate_pem()).unwrap();
    let address = world.https().to_string();
    let calling = tokio::process::Command::new(&python)
        .arg(script())
        .args(["client", &address])
        .arg(&ca)
        .arg("grpc.example")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(crate::world::DEADLINE * 4, calling).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "unary said hello after hello\n\
                    error FAILED_PRECONDITION not now: x\n\
                    server stream 5000 4999\n\
                    client stream 2000000\n\
                    both 20 heard 19\n\
                    at once 200\n";
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

struct GrpcServer {
    process: Child,
    address: SocketAddr,
}

impl GrpcServer {
    fn start(python: &Path) -> GrpcServer {
        let mut process = Command::new(python)
            .arg(script())
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().unwrap();
        GrpcServer { process, address: ([127, 0, 0, 1], port).into() }
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        if let Some(mut input) = self.process.stdin.take() {
            let _ = input.flush();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edge/talk.py")
}

/// One that has gRPC: of the environment that `cargo xtask test` makes, or the machine's.
fn python() -> Option<PathBuf> {
    let here = std::env::current_exe().unwrap();
    let made = here.ancestors().filter_map(|folder| folder.join("xtask").read_dir().ok());
    let made = made.flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let own = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    made.chain(own).find(|python| {
        let probe = Command::new(python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    })
}
