//! Request heads on the shared HTTP listener, over a real connection: the edge
//! has no parser to call that is not behind a socket. The backend is the oracle:
//! it must never see a request the edge did not write itself, which is what
//! smuggling one past a proxy amounts to.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use helix_edge::{AnyIp, Config, Edge, QuicPort};
use helix_model::manifest::Handling;
use helix_model::plan::{Backend, EdgePlan, EndpointPlan, Route};
use helix_model::{Id, Timestamp};
use libfuzzer_sys::fuzz_target;

const HOST: &str = "app.localhost";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Longer than the edge needs to answer anything that ends.
const PATIENCE: Duration = Duration::from_secs(5);

struct World {
    _runtime: tokio::runtime::Runtime,
    _edge: Edge,
    address: SocketAddr,
}

fuzz_target!(|bytes: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(build);
    let mut client = TcpStream::connect(world.address).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The edge may hang up before it has read all.
    let _ = client.write_all(bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let outcome = client.read_to_end(&mut answer);
    let hung = outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!hung, "neither an answer nor an end");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "an answer that is no HTTP");
});

fn build() -> World {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let backend = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let backend_address = backend.local_addr().expect("its address");
    std::thread::spawn(move || {
        for connection in backend.incoming().flatten() {
            serve(connection);
        }
    });
    let edge = runtime.block_on(start(backend_address));
    let address = edge.http_addresses()[0];
    World { _runtime: runtime, _edge: edge, address }
}

async fn start(backend: SocketAddr) -> Edge {
    let config = Config {
        http_listen: vec![([127, 0, 0, 1], 0).into()],
        https_listen: Vec::new(),
        metrics_listen: None,
        access_log: None,
        takeover: None,
        plan_file: None,
        kept_certificates: None,
        balancers: Vec::new(),
        addresses: Vec::new(),
        agents: Vec::new(),
        agents_quic: QuicPort::Off,
        region: None,
        own_threads: true,
        any_ip: AnyIp::Off,
    };
    let edge = Edge::start(config).await.expect("an edge");
    let endpoint = EndpointPlan {
        id: Id::new(Timestamp(1), 1),
        route: Route::Http { hosts: vec![HOST.to_owned()] },
        addresses: Vec::new(),
        certificate: None,
        handling: Handling::default(),
        backends: vec![Backend { instance: Id::new(Timestamp(1), 2), address: backend }],
        label: None,
    };
    let plan = EdgePlan { version: 1, endpoints: vec![endpoint], ..EdgePlan::default() };
    edge.apply(Arc::new(plan)).await;
    edge
}

/// Reads one head, checks that the edge wrote it, answers and hangs up.
fn serve(mut connection: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let lengths = text.matches("\r\ncontent-length:").count();
    let encodings = text.matches("\r\ntransfer-encoding:").count();
    assert!(lengths + encodings <= 1, "an ambiguous body went through: {text}");
    assert_eq!(text.matches("\r\nhost:").count(), 1, "not exactly one host: {text}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "a bare line end: {text}");
    let _ = connection.write_all(ANSWER);
}
