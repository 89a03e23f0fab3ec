//! Requests that two parsers could read differently, and clients that waste
//! connections, are turned away.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::app::{App, get, raw};
use crate::world::{World, http, soon};

/// Sends a request and expects it refused with this status.
async fn refused(head: &str, status: u16) {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let answer = soon(raw(world.http(), head)).await;
    let head = &head[..head.len().min(160)];
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
    assert_eq!(app.seen.load(std::sync::atomic::Ordering::Relaxed), 0, "{head:?}");
}

#[tokio::test]
async fn smuggling_is_refused() {
    for head in [
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : app.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.example\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: app.example\n\n",
        "GET / HTTP/1.1\r\nHost: app.example\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.example\r\nHost: app.example\r\n\r\n",
    ] {
        let head = head.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n", 1);
        refused(&head, 400).await;
    }
}

#[tokio::test]
async fn what_cannot_be_routed_or_understood_is_refused() {
    refused("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400).await;
    refused(
        "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n",
        405,
    )
    .await;
    refused(
        "POST / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\
         Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    )
    .await;
    let large = "x".repeat(70_000);
    refused(&format!("GET / HTTP/1.1\r\nHost: app.example\r\nX: {large}\r\n\r\n"), 431).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_ends_the_connection() {
    let world = World::on_the_tests_clock().await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: app").await.unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(9) && waited < Duration::from_secs(20), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn resting_between_requests_is_allowed_for_longer() {
    let world = World::on_the_tests_clock().await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        assert!(client.read(&mut answer).await.unwrap() > 0);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_body_may_contain_what_a_head_may_not() {
    let world = World::on_the_tests_clock().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let twice = "POST /echo HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\n\r\na\n\nb\n\
                 GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    let answer = raw(world.http(), twice).await;
    assert!(answer.contains("a\n\nb\n") && answer.ends_with("app 1"), "{answer}");
    assert_eq!(get(world.http(), "app.example", "/").await.body, "app 1");
}
