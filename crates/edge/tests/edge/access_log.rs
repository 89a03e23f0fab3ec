//! A line for all that has ended, and nothing in it that is nobody's business.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use helix_edge::{AccessLogConfig, Clients, LogTarget};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::app::{App, Client, get, raw};
use crate::world::{World, http, instance, only_address, soon, tcp, udp};

struct Log {
    folder: tempfile::TempDir,
}

impl Log {
    fn new() -> Log {
        Log { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    async fn world(&self, clients: Clients) -> World {
        World::writing(AccessLogConfig { to: LogTarget::File(self.path()), clients }).await
    }

    /// Waits until so many lines are in a file, and reads them.
    async fn lines(path: &Path, count: usize) -> Vec<Value> {
        soon(async {
            loop {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                // One that is being written has no end yet.
                let lines: Vec<_> =
                    text.split_inclusive('\n').filter(|it| it.ends_with('\n')).collect();
                if lines.len() >= count {
                    return lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

#[tokio::test]
async fn a_request_is_told_without_its_query_and_headers() {
    let log = Log::new();
    let (world, app) = (log.world(Clients::Whole).await, App::http(1).await);
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let request = http::Request::post("/echo?token=sesame&b=c")
        .header("host", "app.example")
        .header("authorization", "Bearer sesame")
        .header("x-request-id", "abc-1");
    let mut client = Client::connect(world.http()).await;
    client.send(request.body(http_body_util::Full::from("four!")).unwrap()).await.unwrap();
    let [line] = &Log::lines(&log.path(), 1).await[..] else { panic!("not one line") };
    assert!(!line.to_string().contains("sesame"), "{line:#}");
    let mut line = line.clone();
    let time = line["time"].take();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    assert!(line["duration_ms"].take().as_f64().unwrap() > 0.0);
    assert!(line["endpoint_id"].take().as_str().unwrap().starts_with("end_"));
    let expected = json!({
        "time": null, "duration_ms": null, "endpoint_id": null,
        "endpoint": "endpoint-1", "env": "production", "app": "app", "protocol": "http",
        "client": "::1", "method": "POST", "host": "app.example", "path": "/echo",
        "status": 200, "received_bytes": 5, "sent_bytes": 5,
        "instance": instance(1).to_string(), "request_id": "abc-1",
    });
    assert_eq!(line, expected);
}

#[tokio::test]
async fn what_the_edge_answers_itself_says_why() {
    let log = Log::new();
    let world = log.world(Clients::Masked).await;
    world.apply(vec![http(1, "none.example", &[])]).await;
    get(world.http(), "none.example", "/a").await;
    get(world.http(), "unknown.example", "/b").await;
    let sent =
        "GET http://user:sesame@c.example/c?d HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n";
    raw(world.http(), sent).await;
    let lines = Log::lines(&log.path(), 3).await;
    let told =
        |line: &Value| (line["path"].clone(), line["status"].clone(), line["reason"].clone());
    assert_eq!(told(&lines[0]), (json!("/a"), json!(503), json!("no_backend")));
    assert_eq!(told(&lines[1]), (json!("/b"), json!(404), json!("unknown_host")));
    assert_eq!(lines[1]["endpoint"], Value::Null);
    assert_eq!(told(&lines[2]), (json!("/c"), json!(400), json!("bad_host")));
    assert_eq!((&lines[2]["host"], &lines[2]["client"]), (&json!("c.example"), &json!("::")));
}

#[tokio::test]
async fn connections_and_sessions_are_told_when_they_end() {
    let log = Log::new();
    let (world, app) = (log.world(Clients::Whole).await, App::echo(1).await);
    let address =
        only_address(&world.apply(vec![tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()])]).await);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    soon(stream.read_exact(&mut [0; 5])).await.unwrap();
    drop(stream);
    let lines = Log::lines(&log.path(), 1).await;
    let line = &lines[0];
    assert_eq!((&line["protocol"], &line["endpoint"]), (&json!("tcp"), &json!("endpoint-1")));
    assert_eq!((&line["received_bytes"], &line["sent_bytes"]), (&json!(5), &json!(5)));
    assert_eq!(
        (&line["instance"], &line["reason"]),
        (&json!(instance(1).to_string()), &Value::Null)
    );
    let backend = UdpSocket::bind("[::1]:0").await.unwrap();
    let endpoint = udp(2, Ipv6Addr::LOCALHOST, 0, &[(2, backend.local_addr().unwrap())]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let client = UdpSocket::bind("[::1]:0").await.unwrap();
    client.send_to(b"abc", address).await.unwrap();
    soon(backend.recv_from(&mut [0; 9])).await.unwrap();
    world.apply(Vec::new()).await;
    let lines = Log::lines(&log.path(), 2).await;
    assert_eq!((&lines[1]["protocol"], &lines[1]["received_bytes"]), (&json!("udp"), &json!(3)));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_written_anew() {
    let log = Log::new();
    let (world, app) = (log.world(Clients::Masked).await, App::http(1).await);
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    get(world.http(), "app.example", "/before").await;
    Log::lines(&log.path(), 1).await;
    let moved = log.folder.path().join("access.log.1");
    // At a signal, and without one.
    for round in ["asked", "noticed"] {
        std::fs::rename(log.path(), &moved).unwrap();
        if round == "asked" {
            world.edge.reopen_access_log();
        }
        soon(async {
            while !log.path().exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        get(world.http(), "app.example", &format!("/{round}")).await;
        let lines = Log::lines(&log.path(), 1).await;
        assert_eq!(lines[0]["path"], format!("/{round}"));
        assert_eq!(Log::lines(&moved, 1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing_and_what_is_lost_is_counted() {
    let log = Log::new();
    nix::unistd::mkfifo(&log.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Somebody holds it open and does not read, as a log shipper that hangs.
    let mut options = std::fs::OpenOptions::new();
    let reader = options.read(true).write(true).open(log.path()).unwrap();
    let (world, app) = (log.world(Clients::Masked).await, App::http(1).await);
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let asked = 17_500;
    let mut client = Client::connect(world.http()).await;
    let asking = async {
        for _ in 0..asked {
            assert_eq!(client.get("app.example", "/").await.unwrap().status, 200);
        }
    };
    tokio::time::timeout(crate::world::DEADLINE * 4, asking).await.expect("it is held up");
    let metrics = get(world.edge.metrics_address().unwrap(), "m", "/metrics").await.body;
    let text = String::from_utf8(metrics.to_vec()).unwrap();
    let dropped =
        text.lines().find_map(|it| it.strip_prefix("helix_edge_access_log_dropped_total "));
    let dropped: usize = dropped.unwrap().parse().unwrap();
    assert!(dropped > 0 && dropped < asked, "{dropped}");
    // Nor does it hold up the end.
    soon(world.edge.shutdown(Duration::ZERO)).await;
    drop(reader);
}
