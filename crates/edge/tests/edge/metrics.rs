//! What Prometheus is told, read back as it reads it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::app::{App, Client, get, raw};
use crate::world::{DEADLINE, World, http, is_reset_at, only_address, soon, tcp, udp};

/// Every series and its value.
type Series = BTreeMap<String, f64>;

async fn scrape(world: &World) -> String {
    let answer = get(world.edge.metrics_address().unwrap(), "metrics", "/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn read(text: &str) -> Series {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    let all: Vec<_> = series.collect();
    let told: Series = all.iter().cloned().collect();
    assert_eq!(all.len(), told.len(), "a series is told twice");
    told
}

/// Waits until a series has this value.
async fn becomes(world: &World, name: &str, value: f64) -> Series {
    let waiting = async {
        loop {
            let told = read(&scrape(world).await);
            if told.get(name) == Some(&value) {
                return told;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(told) => told,
        Err(_) => panic!("{name} does not become {value}: {}", scrape(world).await),
    }
}

/// The series of an endpoint of the tests, with more labels.
fn of(metric: &str, endpoint: u128, protocol: &str, more: &str) -> String {
    let id = helix_model::Id::<helix_model::Endpoint>::new(helix_model::Timestamp(1), endpoint);
    format!(
        "helix_edge_{metric}{{endpoint=\"endpoint-{endpoint}\",endpoint_id=\"{id}\",env=\"production\",app=\"app\",protocol=\"{protocol}\"{more}}}"
    )
}

#[tokio::test]
async fn requests_are_counted_by_what_came_of_them() {
    let (world, app) = (World::new().await, App::http(1).await);
    let plan = || vec![http(1, "app.example", &[app.backend()]), http(2, "none.example", &[])];
    world.apply(plan()).await;
    let mut client = Client::connect(world.http()).await;
    let echo = http::Request::post("/echo").header("host", "app.example");
    let echo = echo.body(http_body_util::Full::from("four")).unwrap();
    assert_eq!(client.send(echo).await.unwrap().body, "four");
    assert_eq!(client.get("app.example", "/").await.unwrap().body, "app 1");
    get(world.http(), "none.example", "/").await;
    get(world.http(), "unknown.example", "/").await;

    let told = becomes(&world, &of("requests_total", 1, "http", ",code=\"2xx\""), 2.0).await;
    assert_eq!(told[&of("received_bytes_total", 1, "http", "")], 4.0);
    assert_eq!(told[&of("sent_bytes_total", 1, "http", "")], 9.0);
    assert_eq!(told[&of("backends", 1, "http", "")], 1.0);
    assert_eq!(told[&of("duration_seconds_count", 1, "http", "")], 2.0);
    assert_eq!(told[&of("duration_seconds_bucket", 1, "http", ",le=\"+Inf\"")], 2.0);
    assert_eq!(told[&of("requests_total", 2, "http", ",code=\"5xx\"")], 1.0);
    assert_eq!(told[&of("refused_total", 2, "http", ",reason=\"no_backend\"")], 1.0);
    assert_eq!(told["helix_edge_unrouted_requests_total"], 1.0);
    assert_eq!(told["helix_edge_plan_version"], 1.0);

    // What is under way is open, and a client that goes away has aborted it.
    let (waiting, open) = (
        raw(world.http(), "GET /slow HTTP/1.1\r\nHost: app.example\r\n\r\n"),
        of("open", 1, "http", ""),
    );
    let waiting = tokio::spawn(waiting);
    becomes(&world, &open, 1.0).await;
    // Another plan comes, and counting goes on.
    world.apply(plan()).await;
    let told = becomes(&world, &open, 1.0).await;
    assert_eq!(told[&of("begun_total", 1, "http", "")], 3.0);
    waiting.abort();
    let told = becomes(&world, &open, 0.0).await;
    assert_eq!(told[&of("requests_total", 1, "http", ",code=\"aborted\"")], 1.0);
}

#[tokio::test]
async fn what_a_websocket_carries_is_counted_while_it_is_open() {
    let (world, app) = (World::new().await, App::http(1).await);
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let head = "GET /upgrade HTTP/1.1\r\nHost: app.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(soon(stream.read_u8()).await.unwrap());
    }
    stream.write_all(b"hello").await.unwrap();
    soon(stream.read_exact(&mut [0; 5])).await.unwrap();
    let told = becomes(&world, &of("sent_bytes_total", 1, "http", ""), 5.0).await;
    assert_eq!(told[&of("received_bytes_total", 1, "http", "")], 5.0);
    assert_eq!(told[&of("open", 1, "http", "")], 1.0);
    drop(stream);
    becomes(&world, &of("requests_total", 1, "http", ",code=\"1xx\""), 1.0).await;
}

#[tokio::test]
async fn connections_and_sessions_are_counted() {
    let (world, app) = (World::new().await, App::echo(1).await);
    let endpoint = || tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]);
    let address = only_address(&world.apply(vec![endpoint()]).await);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    soon(stream.read_exact(&mut [0; 5])).await.unwrap();
    let told = becomes(&world, &of("sent_bytes_total", 1, "tcp", ""), 5.0).await;
    assert_eq!(told[&of("received_bytes_total", 1, "tcp", "")], 5.0);
    assert_eq!(told[&of("open", 1, "tcp", "")], 1.0);
    drop(stream);
    let told = becomes(&world, &of("duration_seconds_count", 1, "tcp", ""), 1.0).await;
    assert_eq!(told[&of("broken_off_total", 1, "tcp", "")], 0.0);
    world.apply(vec![tcp(1, Ipv6Addr::LOCALHOST, 0, &[])]).await;
    is_reset_at(address).await;
    becomes(&world, &of("refused_total", 1, "tcp", ",reason=\"no_backend\""), 1.0).await;

    let backend = UdpSocket::bind("[::1]:0").await.unwrap();
    let endpoint = udp(2, Ipv6Addr::LOCALHOST, 0, &[(2, backend.local_addr().unwrap())]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let client = UdpSocket::bind("[::1]:0").await.unwrap();
    client.send_to(b"abc", address).await.unwrap();
    let (_, from) = soon(backend.recv_from(&mut [0; 9])).await.unwrap();
    backend.send_to(b"abcdef", from).await.unwrap();
    // Either is counted after it was passed on, and not by the same thread.
    becomes(&world, &of("received_bytes_total", 2, "udp", ""), 3.0).await;
    let told = becomes(&world, &of("sent_bytes_total", 2, "udp", ""), 6.0).await;
    assert_eq!(told[&of("received_bytes_total", 2, "udp", "")], 3.0);
    assert_eq!(told[&of("open", 2, "udp", "")], 1.0);
    assert!(!told.keys().any(|name| name.contains("endpoint-1")), "it is gone");
}

#[tokio::test]
async fn more_endpoints_than_series_are_told_as_one() {
    let (world, app) = (World::new().await, App::http(1).await);
    let host = |number: u128| format!("app-{number}.example");
    let all = |numbers: std::ops::RangeInclusive<u128>| {
        numbers.map(|number| http(number, &host(number), &[app.backend()])).collect()
    };
    world.apply(all(1..=1_002)).await;
    for number in [1, 1_001, 1_002] {
        get(world.http(), &host(number), "/").await;
    }
    let other = "{endpoint=\"other\",endpoint_id=\"\",env=\"\",app=\"\",protocol=\"other\"";
    let counted = format!("helix_edge_requests_total{other},code=\"2xx\"}}");
    let told = becomes(&world, &counted, 2.0).await;
    assert_eq!(told[&of("requests_total", 1, "http", ",code=\"2xx\"")], 1.0);
    assert_eq!(told[&format!("helix_edge_backends{other}}}")], 2.0);
    // They are gone, and what went through them is still told.
    world.apply(all(1..=1_000)).await;
    let told = read(&scrape(&world).await);
    assert_eq!(told[&counted], 2.0);
    world.counts(|stats| stats.http_requests == 3).await;
    assert!(told.len() < 50_000, "{} series", told.len());
}

#[tokio::test]
async fn there_is_nothing_else_to_ask_for() {
    let world = World::new().await;
    let address = world.edge.metrics_address().unwrap();
    assert_eq!(get(address, "metrics", "/").await.status, StatusCode::NOT_FOUND);
    let said = raw(address, "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 405 ") && said.contains("allow: GET, HEAD\r\n"), "{said}");
}

#[tokio::test]
async fn prometheus_itself_finds_nothing_to_say_about_it() {
    let (world, app) = (World::new().await, App::http(1).await);
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    get(world.http(), "app.example", "/").await;
    let text = scrape(&world).await;
    assert_eq!(linted(&text), "");
    assert_ne!(linted("# TYPE a_total counter\na_total{b=\"c\"} 1\na_total{b=\"c\"} 2\n"), "");
}

/// What Prometheus's own program has to say about metrics.
fn linted(text: &str) -> String {
    let mut promtool = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.success(), said.is_empty());
    String::from_utf8(said).unwrap()
}

/// On the path, or where `cargo xtask test` unpacked it.
fn promtool() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_exe().unwrap();
    let unpacked = here.ancestors().map(|folder: &Path| folder.join("xtask/packages/usr/bin"));
    std::env::split_paths(&path)
        .chain(unpacked)
        .map(|folder| folder.join("promtool"))
        .find(|program| program.exists())
        .expect("promtool is missing: run `cargo xtask test --only packages`")
}
