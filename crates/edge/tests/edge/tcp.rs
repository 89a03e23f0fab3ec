//! TCP endpoints pass bytes on exactly as they came.

use std::net::Ipv6Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::world::{World, is_reset_at, only_address, soon, tcp};

async fn edge_before(world: &World, apps: &[&App]) -> std::net::SocketAddr {
    let backends: Vec<_> = apps.iter().map(|app| app.backend()).collect();
    let report = world.apply(vec![tcp(1, Ipv6Addr::LOCALHOST, 0, &backends)]).await;
    only_address(&report)
}

/// The byte at a position of a stream that repeats only after 16 MiB.
fn byte_at(position: usize) -> u8 {
    (position.wrapping_mul(0x9e37_79b1) >> 16) as u8
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_byte_for_byte_both_ways_at_once() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let world = World::new().await;
    let app = App::echo(1).await;
    let stream = TcpStream::connect(edge_before(&world, &[&app]).await).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while sent < TOTAL {
            // Pieces of odd sizes, small and large, so that both ways of
            // passing on and the change between them are used.
            let piece = (sent % 300_007 + 1).min(TOTAL - sent);
            let bytes: Vec<u8> = (sent..sent + piece).map(byte_at).collect();
            writer.write_all(&bytes).await.unwrap();
            sent += piece;
        }
        writer.shutdown().await.unwrap();
    });
    let receiving = async {
        let mut received = 0;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = reader.read(&mut buffer).await.unwrap();
            if count == 0 {
                return received;
            }
            for (offset, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, byte_at(received + offset), "at {}", received + offset);
            }
            received += count;
        }
    };
    let received = tokio::time::timeout(crate::world::DEADLINE * 3, receiving).await.unwrap();
    assert_eq!(received, TOTAL);
    soon(sending).await.unwrap();
    let stats = world.edge.stats();
    assert_eq!(stats.tcp_bytes, 2 * TOTAL as u64);
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let world = World::new().await;
    // Answers only after the client has finished sending.
    let app = App::tcp(1, |mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
    })
    .await;
    let mut stream = TcpStream::connect(edge_before(&world, &[&app]).await).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "5 bytes");
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let world = World::new().await;
    let app = App::tcp(1, |mut stream| async move {
        let bytes: Vec<u8> = (0..8_000_000).map(byte_at).collect();
        let _ = stream.write_all(&bytes).await;
    })
    .await;
    let mut stream = TcpStream::connect(edge_before(&world, &[&app]).await).await.unwrap();
    let mut all = Vec::new();
    let mut piece = vec![0; 10_007];
    loop {
        let count = soon(stream.read(&mut piece)).await.unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&piece[..count]);
        tokio::task::yield_now().await;
    }
    assert!(all.len() == 8_000_000 && all.iter().enumerate().all(|(at, it)| *it == byte_at(at)));
}

#[tokio::test]
async fn an_unreachable_instance_is_passed_over_and_none_at_all_is_a_reset() {
    let world = World::new().await;
    let (gone, app) = (App::echo(1).await.backend(), App::echo(2).await);
    let endpoint = |backends: &[_]| vec![tcp(1, Ipv6Addr::LOCALHOST, 0, backends)];
    let edge = only_address(&world.apply(endpoint(&[gone, app.backend()])).await);
    for _ in 0..4 {
        let mut stream = TcpStream::connect(edge).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        soon(stream.read_exact(&mut [0; 4])).await.unwrap();
    }
    world.apply(endpoint(&[])).await;
    is_reset_at(edge).await;
    world.counts(|stats| stats.tcp_refused == 1).await;
}

#[tokio::test]
async fn a_broken_connection_breaks_on_the_other_side_too() {
    let world = World::new().await;
    let app = App::tcp(1, |mut stream| async move {
        let _ = stream.read(&mut [0; 4]).await;
        let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    })
    .await;
    let mut stream = TcpStream::connect(edge_before(&world, &[&app]).await).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let error = soon(stream.read(&mut [0; 4])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_port_in_use_is_reported_and_taken_once_free() {
    let world = World::new().await;
    let app = App::echo(1).await;
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let port = other.local_addr().unwrap().port();
    let report = world.apply(vec![tcp(1, Ipv6Addr::LOCALHOST, port, &[app.backend()])]).await;
    let problem = report.endpoints[0].problem.clone().unwrap();
    assert!(problem.starts_with(&format!("port {port} on ::1 is used by another program")));
    assert!(report.endpoints[0].reachable.is_empty());
    drop(other);
    let report = world.report(|report| report.endpoints[0].problem.is_none()).await;
    assert_eq!(report.endpoints[0].reachable, [format!("[::1]:{port}")]);
}

#[tokio::test]
async fn an_address_passes_from_one_endpoint_to_another_without_a_gap() {
    let world = World::new().await;
    let name = |name: &'static [u8; 1]| {
        move |mut stream: TcpStream| async move {
            let _ = stream.write_all(name).await;
        }
    };
    let (one, two) = (App::tcp(1, name(b"1")).await, App::tcp(2, name(b"2")).await);
    let probe = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    for (endpoint, app, expected) in [(1, &one, b'1'), (2, &two, b'2')] {
        let plan = vec![tcp(endpoint, Ipv6Addr::LOCALHOST, port, &[app.backend()])];
        let edge = only_address(&world.apply(plan).await);
        let mut stream = TcpStream::connect(edge).await.unwrap();
        assert_eq!(soon(stream.read_u8()).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn an_instance_is_asked_whether_it_is_still_there_once_a_connection_lasts() {
    let world = World::new().await;
    let app = App::echo(1).await;
    let mut stream = TcpStream::connect(edge_before(&world, &[&app]).await).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    soon(stream.read_exact(&mut [0; 4])).await.unwrap();
    // What the kernel waits for next on the connection from the edge.
    let to_app = format!("dport = :{}", app.backend().1.port());
    let waited_for = || {
        let listed = std::process::Command::new("ss").args(["-tnoH", &to_app]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    soon(async {
        while !waited_for().contains("timer:(keepalive,") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream.write_all(b"ping").await.unwrap();
    soon(stream.read_exact(&mut [0; 4])).await.unwrap();
}
