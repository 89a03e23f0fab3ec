//! What goes through an inspector comes out as it went in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use helix_tunnel::inspect::Options;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{PIECE_BYTES, Program, World, get, options, request, soon};

#[tokio::test]
async fn requests_reach_the_program_over_a_connection_that_is_kept() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    for _ in 0..2 {
        let mut visitor = world.visitor().await;
        for _ in 0..3 {
            assert_eq!(visitor.get("/a%20b?c=d").await.body, "hello from /a%20b");
        }
    }
    let large = "ä".repeat(1_000_000);
    let sent = request("POST", "/echo", &[], Bytes::from(large.clone()));
    assert_eq!(world.visitor().await.send(sent).await.body, large);
    assert_eq!(program.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_program_sees_the_host_that_was_asked_for_or_the_one_it_wants() {
    let program = Program::start().await;
    let asked_for = World::new(options(&program)).visitor().await.get("/headers").await;
    assert!(asked_for.body.contains("host: demo.example\n"), "{}", asked_for.body);

    let host = Some(HeaderValue::from_static("localhost:3000"));
    let world = World::new(Options { host, ..options(&program) });
    let wanted = world.visitor().await.get("/headers").await;
    assert!(wanted.body.contains("host: localhost:3000\n"), "{}", wanted.body);
}

#[tokio::test]
async fn a_body_without_end_is_never_far_ahead_of_who_reads_it() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let mut visitor = world.visitor().await;
    let mut body = visitor.start(get("/large", &[])).await.into_body();
    let (mut read, total) = (0, 64 << 20);
    while read < total {
        let frame = soon(body.frame()).await.unwrap().unwrap();
        read += frame.into_data().unwrap().len();
        let sent = program.pieces.load(Ordering::Relaxed) * PIECE_BYTES;
        let ahead = sent.saturating_sub(read);
        // Windows and buffers of sockets, and none that grows.
        assert!(ahead < 16 << 20, "{ahead} bytes are somewhere in between");
    }
}

#[tokio::test]
async fn a_connection_that_becomes_another_protocol_goes_through() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let mut stream = world.stream();
    let head = "GET /upgrade HTTP/1.1\r\nHost: demo.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    for message in ["ping", "pong"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; message.len()];
        soon(stream.read_exact(&mut echoed)).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
    let list = world.page().await.list(|list| list.len() == 1).await;
    assert_eq!((&list[0]["status"], &list[0]["state"]), (&101.into(), &"open".into()));
    drop(stream);
    let list = world.page().await.list(|list| list[0]["state"] != "open").await;
    assert_eq!(list[0]["state"], "done");
}

#[tokio::test]
async fn a_visitor_is_told_when_the_program_is_not_there_but_not_where_it_is_not() {
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let program = Program::start().await;
    let world = World::new(Options { to: gone.to_string(), ..options(&program) });
    let answer = world.visitor().await.get("/").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers["x-helix-reason"], "tunnel_target_down");
    assert_eq!(answer.body, "the program behind this tunnel does not answer\n");
    let list = world.page().await.list(|list| list[0]["state"] == "failed").await;
    assert_eq!(list[0]["status"], 502);
    let error = list[0]["error"].as_str().unwrap();
    assert!(error.starts_with("127.0.0.1:1 does not answer: Connection refused"), "{error}");
}
