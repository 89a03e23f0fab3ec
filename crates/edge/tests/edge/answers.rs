//! What an app answers reaches the client as the answer that it is, or not as one at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::app::{App, raw};
use crate::world::{World, http, soon};

/// An app that answers whatever it is asked with these bytes, in pieces of this size, and
/// closes.
async fn saying(bytes: &'static [u8], piece: usize) -> App {
    App::tcp(1, move |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.set_nodelay(true);
        for piece in bytes.chunks(piece) {
            let _ = stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// What a client of this version reads of it, the edge's own lines left out.
async fn answered(bytes: &'static [u8], piece: usize, ask: &str) -> String {
    let world = World::new().await;
    let app = saying(bytes, piece).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let answer = soon(raw(world.http(), ask)).await;
    let own = ["date: ", "x-request-id: "];
    let is_own = |line: &&str| own.iter().any(|name| line.starts_with(name));
    answer.split_inclusive("\r\n").filter(|line| !is_own(line)).collect()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn each_way_to_say_where_an_answer_ends_is_understood() {
    let length: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let chunked: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
    let until_close: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nhello";
    let hinted: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let simple: &[u8] = b"HTTP/1.0 200 OK\nContent-Length: 5\n\nhello";
    for bytes in [length, chunked, until_close, hinted, simple] {
        for piece in [1, 7, bytes.len()] {
            let old = "GET / HTTP/1.0\r\nHost: app.example\r\n\r\n";
            let answer = answered(bytes, piece, old).await;
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        }
        let answer = answered(bytes, bytes.len(), GET).await;
        let is_known = [length, hinted, simple].contains(&bytes);
        assert_eq!(answer.contains("content-length: 5\r\n"), is_known, "{answer}");
        assert_eq!(answer.contains("transfer-encoding: chunked\r\n"), !is_known, "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_none() {
    for bytes in [
        b"SSH-2.0-OpenSSH_9.2\r\n" as &[u8],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length",
        b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"",
    ] {
        let answer = answered(bytes, 4096, GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{:?}: {answer}", bytes.escape_ascii());
        assert!(answer.contains("x-helix-reason: backend_closed\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello" as &[u8],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    ] {
        let answer = answered(bytes, 4096, GET).await;
        let is_short = answer.contains("content-length: 50") || !answer.ends_with("0\r\n\r\n");
        assert!(is_short, "{answer}");
    }
}

#[tokio::test]
async fn trailers_reach_those_who_take_them_and_no_length_among_them() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\r\n\
        5\r\nhello\r\n0\r\nSum: 1\r\nContent-Length: 7\r\n\r\n";
    let taking =
        "GET / HTTP/1.1\r\nHost: app.example\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n";
    let answer = answered(bytes, 4096, taking).await;
    assert!(answer.ends_with("5\r\nhello\r\n0\r\nsum: 1\r\n\r\n"), "{answer}");
    assert!(answered(bytes, 4096, GET).await.ends_with("5\r\nhello\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_name_of_its_own_for_a_status_is_kept() {
    let bytes = b"HTTP/1.1 299 Almost Right\r\nContent-Length: 0\r\n\r\n";
    assert!(answered(bytes, 4096, GET).await.starts_with("HTTP/1.1 299 Almost Right\r\n"));
}

#[tokio::test]
async fn no_body_is_added_to_an_answer_that_has_none() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let ask = "HEAD / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    let answer = answered(bytes, 4096, ask).await;
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let bytes = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n";
    let answer = answered(bytes, 4096, GET).await;
    assert_eq!(answer, "HTTP/1.1 304 Not Modified\r\netag: x\r\nconnection: close\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_has_ended_is_read() {
    let world = World::new().await;
    let app = App::tcp(1, |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
        let _ = stream.write_all(answer).await;
        // Until whoever sends has seen it.
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 100000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&[b'x'; 200_000]).await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 Too Large\r\n"), "{answer}");
    assert!(answer.contains("connection: close") || answer.ends_with("no!"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let world = World::new().await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let app = App::tcp(1, move |mut stream| {
        let ended = ended.clone();
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            ended.send("asked").unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            ended.send("gone").unwrap();
        }
    })
    .await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").await.unwrap();
    assert_eq!(soon(ends.recv()).await, Some("asked"));
    drop(client);
    assert_eq!(soon(ends.recv()).await, Some("gone"));
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_turn_whatever_their_bodies() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut sent = String::new();
    for number in 0..50 {
        let body = format!("body {number}").repeat(number);
        let head = "POST /echo HTTP/1.1\r\nHost: app.example\r\n";
        sent += &match number % 2 {
            0 => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            _ => format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        };
    }
    sent += GET;
    let answer = soon(raw(world.http(), &sent)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 51, "{answer}");
    let last = answer.find(&"body 49".repeat(49)).expect("the last body");
    assert!(answer.find(&"body 48".repeat(48)).unwrap() < last && answer.ends_with("app 1"));
}

#[tokio::test]
async fn an_event_arrives_when_it_is_sent() {
    let world = World::new().await;
    let (next, waits) = mpsc::unbounded_channel::<()>();
    let waits = Arc::new(Mutex::new(waits));
    let app = App::tcp(1, move |mut stream| {
        let waits = Arc::clone(&waits);
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head).await;
            while waits.lock().await.recv().await.is_some() {
                let _ = stream.write_all(b"data: x\n\n").await;
            }
        }
    })
    .await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(client.read_u8()).await.unwrap());
    }
    for _ in 0..3 {
        next.send(()).unwrap();
        let mut event = [0; "9\r\ndata: x\n\n\r\n".len()];
        soon(client.read_exact(&mut event)).await.unwrap();
        assert_eq!(&event, b"9\r\ndata: x\n\n\r\n");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_a_head() {
    let world = World::on_the_tests_clock().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = TcpStream::connect(world.http()).await.unwrap();
    for byte in GET.bytes() {
        client.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("app 1"), "{answer}");
}
