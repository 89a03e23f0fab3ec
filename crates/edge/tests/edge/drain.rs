//! Draining: open work ends in peace, new work goes elsewhere, and the report
//! says exactly when nothing is left.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, get};
use crate::world::{World, http, instance, only_address, soon, tcp};

#[tokio::test]
async fn a_request_in_flight_finishes_and_only_then_is_its_instance_drained() {
    let world = World::new().await;
    let (old, new) = (App::http(1).await, App::http(2).await);
    world.apply(vec![http(1, "app.example", &[old.backend()])]).await;
    let slow = tokio::spawn(get_slow(world.http()));
    soon(async {
        while old.seen.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let report = world.apply_draining(vec![http(1, "app.example", &[new.backend()])], &[1]).await;
    assert_eq!(report.drained, []);
    for _ in 0..4 {
        assert_eq!(get(world.http(), "app.example", "/").await.body, "app 2");
    }
    assert!(!slow.is_finished());
    old.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap(), "app 1");
    world.report(|report| report.drained == [instance(1)]).await;
}

async fn get_slow(edge: std::net::SocketAddr) -> bytes::Bytes {
    get(edge, "app.example", "/slow").await.body
}

#[tokio::test]
async fn idle_connections_are_no_work_and_are_closed() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = crate::app::Client::connect(world.http()).await;
    client.get("app.example", "/").await.unwrap();
    let report = world.apply_draining(vec![http(1, "app.example", &[])], &[1]).await;
    assert!(
        report.drained == [instance(1)] || {
            // The client may have its answer a moment before the edge is done with it.
            world.report(|report| report.drained == [instance(1)]).await;
            true
        }
    );
    let answer = client.get("app.example", "/").await.unwrap();
    assert_eq!(answer.headers["x-helix-reason"], "no_backend");
}

#[tokio::test]
async fn an_instance_listed_as_ready_and_draining_gets_nothing_new() {
    let world = World::new().await;
    let (old, new) = (App::http(1).await, App::http(2).await);
    let both = vec![http(1, "app.example", &[old.backend(), new.backend()])];
    world.apply_draining(both.clone(), &[1]).await;
    for _ in 0..4 {
        assert_eq!(get(world.http(), "app.example", "/").await.body, "app 2");
    }
    // And serves again once it is no longer draining.
    world.apply(both).await;
    let bodies = [
        get(world.http(), "app.example", "/").await.body,
        get(world.http(), "app.example", "/").await.body,
    ];
    assert!(bodies.contains(&"app 1".into()), "{bodies:?}");
}

#[tokio::test]
async fn a_stream_survives_tables_that_forget_it_and_counts_until_it_ends() {
    let world = World::new().await;
    let app = App::echo(1).await;
    let endpoint = tcp(1, std::net::Ipv6Addr::LOCALHOST, 0, &[app.backend()]);
    let report = world.apply(vec![endpoint]).await;
    let edge = only_address(&report);
    let mut stream = TcpStream::connect(edge).await.unwrap();
    echo_once(&mut stream).await;

    let report = world.apply_draining(vec![], &[1]).await;
    assert_eq!(report.drained, []);
    echo_once(&mut stream).await;
    soon(async {
        while TcpStream::connect(edge).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    echo_once(&mut stream).await;
    drop(stream);
    world.report(|report| report.drained == [instance(1)]).await;
}

async fn echo_once(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn shutting_down_waits_for_open_work_and_then_closes_it() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let edge = world.http();
    let slow = tokio::spawn(get_slow(edge));
    soon(async {
        while app.seen.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let shutdown = tokio::spawn(world.edge.shutdown(crate::world::DEADLINE));
    soon(async {
        while TcpStream::connect(edge).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    app.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap(), "app 1");
    soon(shutdown).await.unwrap();
}
