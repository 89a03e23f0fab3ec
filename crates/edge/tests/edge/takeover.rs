//! A new process takes over what listens, and nobody is turned away.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use crate::app::{App, get};
use crate::world::{World, http, only_address, soon, tcp, udp};

/// Asks over a connection of its own each time, until told to stop; how often it was
/// answered.
async fn ask_on(address: SocketAddr, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).await.expect("refused");
        let request = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.expect("broken off");
        assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_turned_away_while_one_edge_replaces_another_and_that_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("takeover.sock");
    let app = App::http(1).await;
    let plan = || vec![http(1, "app.example", &[app.backend()])];
    let mut world = World::at(&socket, false).await;
    world.apply(plan()).await;
    let address = world.http();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..8)
        .map(|_| tokio::spawn(ask_on(address, Arc::clone(&stop), Arc::clone(&answered))))
        .collect();
    for _ in 0..5 {
        let before = answered.load(Ordering::Relaxed);
        let next = World::started_with(&socket, plan()).await;
        assert_eq!(next.http(), address);
        soon(world.edge.handed_over()).await;
        world.edge.shutdown(crate::world::DEADLINE).await;
        world = next;
        soon(async {
            while answered.load(Ordering::Relaxed) < before + 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert!(world.edge.stats().http_requests > 0, "the new one serves");
    }
    stop.store(true, Ordering::Relaxed);
    for asking in load {
        soon(asking).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_open_goes_on_and_ports_go_over() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("takeover.sock");
    let (app, web) = (App::echo(1).await, App::http(2).await);
    let backend = UdpSocket::bind("[::1]:0").await.unwrap();
    let udp_backend = (3, backend.local_addr().unwrap());
    let plan = || -> Vec<EndpointPlan> {
        vec![
            tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]),
            http(2, "app.example", &[web.backend()]),
            udp(3, Ipv6Addr::LOCALHOST, 0, &[udp_backend]),
        ]
    };
    let old = World::at(&socket, false).await;
    let report = old.apply(plan()).await;
    let place =
        |number: usize| -> SocketAddr { report.endpoints[number].reachable[0].parse().unwrap() };
    let mut open = TcpStream::connect(place(0)).await.unwrap();
    let slow_at = old.http();
    let slow = tokio::spawn(async move { get(slow_at, "app.example", "/slow").await.body });
    soon(async {
        while web.seen.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let new = World::started_with(&socket, plan()).await;
    soon(old.edge.handed_over()).await;
    let ending = tokio::spawn(old.edge.shutdown(crate::world::DEADLINE));

    // The same ports, in the new one.
    let client = UdpSocket::bind("[::1]:0").await.unwrap();
    client.send_to(b"abc", place(2)).await.unwrap();
    soon(backend.recv_from(&mut [0; 9])).await.unwrap();
    new.counts(|stats| stats.udp_sessions == 1).await;
    let mut fresh = TcpStream::connect(place(0)).await.unwrap();
    fresh.write_all(b"new").await.unwrap();
    soon(fresh.read_exact(&mut [0; 3])).await.unwrap();
    new.counts(|stats| stats.tcp_connections == 1).await;
    // What was open in the old one goes on there.
    open.write_all(b"old").await.unwrap();
    soon(open.read_exact(&mut [0; 3])).await.unwrap();
    web.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap(), "app 2");
    assert!(!ending.is_finished(), "a connection is open");
    drop(open);
    soon(ending).await.unwrap();
}

#[tokio::test]
async fn who_goes_away_in_the_middle_has_changed_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("takeover.sock");
    let app = App::echo(1).await;
    let world = World::at(&socket, false).await;
    let address =
        only_address(&world.apply(vec![tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()])]).await);
    // Three shared listeners, the port and the end.
    for acknowledged in [0, 1, 5] {
        let mut taker = UnixStream::connect(&socket).await.unwrap();
        for _ in 0..acknowledged {
            if soon(taker.read(&mut [0; 512])).await.unwrap() == 0 {
                break;
            }
            if taker.write_all(b"A").await.is_err() {
                break;
            }
        }
        drop(taker);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        soon(stream.read_exact(&mut [0; 5])).await.unwrap();
    }
    let next = World::at(&socket, true).await;
    soon(world.edge.handed_over()).await;
    assert_eq!(next.http(), world.http());
}

#[tokio::test]
async fn without_an_edge_to_take_over_one_starts_as_usual() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("takeover.sock");
    let world = World::at(&socket, true).await;
    world.edge.shutdown(Duration::ZERO).await;
    // It left its socket behind, at which nobody is.
    let again = World::at(&socket, true).await;
    assert_ne!(again.http().port(), 0);
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's");
}
