//! Connections that change protocol become tunnels.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::App;
use crate::world::{World, http, instance, soon};

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_and_counts_as_work() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let head = "GET /upgrade HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: echo"), "{answer}");

    // Bytes that no request head may contain.
    for message in ["ping\n\n", "content-length: 1\r\ncontent-length: 1\r\n\r\n"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; message.len()];
        soon(stream.read_exact(&mut echoed)).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
    let report = world.apply_draining(vec![http(1, "app.example", &[])], &[1]).await;
    assert_eq!(report.drained, []);
    drop(stream);
    world.report(|report| report.drained == [instance(1)]).await;
}
