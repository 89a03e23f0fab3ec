//! Tunnels: what is public here is answered by a program behind an agent.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use helix_model::plan::TunnelPlan;
use helix_model::tunnel::Exposure;
use helix_tunnel::{Config, Phase};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::agents::{HOST, Taking, attached, config, http, tunnel, until};
use crate::app::{App, Client, get};
use crate::secure::{Inside, SecureClient};
use crate::world::{is_reset_at, soon};

#[tokio::test]
async fn a_visitor_gets_the_answer_of_the_program_behind_the_agent() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let front = taking.world.http();
    let before = get(front, "demo.example", "/").await;
    assert_eq!(before.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(before.headers["x-helix-reason"], "tunnel_offline");

    let app = App::http(1).await;
    let agent = taking.agent(1, app.address).await;
    let report = taking.has(1).await;
    assert_eq!(report.tunnels[0].agent.as_ref().unwrap().version, "test");
    let Phase::Attached { reachable, .. } = agent.phases().borrow().clone() else { panic!() };
    assert_eq!(reachable[0], format!("http://demo.example:{}", front.port()));

    let mut client = Client::connect(front).await;
    for _ in 0..3 {
        let answer = client.get("demo.example", "/headers").await.unwrap();
        let headers = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(headers.contains("\"x-forwarded-for\": \"::1\""), "{headers}");
    }
    taking.world.secure_tunnels(1).await;
    for inside in [Inside::Http1, Inside::Http2] {
        let visitor = SecureClient::trusting(&taking.server.authority, inside);
        let mut open = visitor.connect(taking.world.https(), "demo.example").await.unwrap();
        assert_eq!(open.get("demo.example", "/").await.body, "app 1");
        let large = "x".repeat(2_000_000);
        assert_eq!(open.post("demo.example", "/echo", large.clone()).await.body, large);
    }
    agent.stop().await;
    taking.has(0).await;
    let after = get(front, "demo.example", "/").await;
    assert_eq!(after.headers["x-helix-reason"], "tunnel_offline");
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let app = App::http(1).await;
    let _agent = taking.agent(1, app.address).await;
    let mut stream = TcpStream::connect(taking.world.http()).await.unwrap();
    let head = "GET /upgrade HTTP/1.1\r\nHost: demo.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    for message in ["ping", "pong"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; message.len()];
        soon(stream.read_exact(&mut echoed)).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_connection_keeps_its_halves_apart_and_is_broken_off_as_it_was() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    // Nobody has the tunnel: the visitor is told by a reset.
    is_reset_at(at).await;

    let app = App::echo(1).await;
    let agent = taking.agent(1, app.address).await;
    let Phase::Attached { reachable, .. } = agent.phases().borrow().clone() else { panic!() };
    assert_eq!(reachable, [format!("[::1]:{port}")]);
    let mut visitor = TcpStream::connect(at).await.unwrap();
    let sent = vec![7; 3_000_000];
    let (mut reader, mut writer) = visitor.split();
    let sending = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (_, read) = soon(async { tokio::join!(sending, reader.read_to_end(&mut echoed)) }).await;
    read.unwrap();
    assert_eq!(echoed.len(), sent.len());

    let mut open = TcpStream::connect(at).await.unwrap();
    open.write_all(b"x").await.unwrap();
    soon(open.read_u8()).await.unwrap();
    agent.stop().await;
    assert!(soon(open.read_u8()).await.is_err(), "it was broken off, not ended");
}

#[tokio::test]
async fn the_program_is_told_where_a_visitor_comes_from_if_it_asks() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let app = App::echo(1).await;
    let asking = Config { proxy_protocol: true, ..config(taking.grants(1), app.address) };
    let _agent = attached(asking).await;
    let mut visitor = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    let mut header = [0; 52];
    visitor.write_all(b"hello").await.unwrap();
    soon(visitor.read_exact(&mut header)).await.unwrap();
    let (read, _) = helix_edge::read_header(&header).unwrap().unwrap();
    let helix_edge::Header::For(ends) = read else { panic!("{read:?}") };
    assert_eq!(ends.client, visitor.local_addr().unwrap());
}

#[tokio::test]
async fn datagrams_go_through_and_their_answers_come_back() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Udp { port })]).await;
    let program = UdpSocket::bind("[::1]:0").await.unwrap();
    let _agent = taking.agent(1, program.local_addr().unwrap()).await;
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = program.recv_from(&mut buffer).await {
            program.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let visitor = UdpSocket::bind("[::1]:0").await.unwrap();
    visitor.connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    let mut buffer = vec![0; 65_535];
    for size in [0, 1, 1200, 40_000] {
        visitor.send(&vec![1; size]).await.unwrap();
        assert_eq!(soon(visitor.recv(&mut buffer)).await.unwrap(), size);
    }
}

#[tokio::test]
async fn a_newer_agent_has_the_tunnel_and_the_older_one_ends() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let (first, second) = (App::http(1).await, App::http(2).await);
    let older = taking.agent(1, first.address).await;
    // What is open goes on where it is.
    let mut open = Client::connect(taking.world.http()).await;
    first.gate.close();
    assert_eq!(open.get("demo.example", "/").await.unwrap().body, "app 1");
    let _newer = taking.agent(1, second.address).await;
    let phase = until(&older, |phase| matches!(phase, Phase::Ended { .. })).await;
    assert_eq!(phase, Phase::Ended { why: "another agent has the tunnel now".to_owned() });
    assert_eq!(get(taking.world.http(), "demo.example", "/").await.body, "app 2");
}

#[tokio::test]
async fn what_is_taken_out_of_the_plan_or_taken_back_serves_nobody() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let app = App::http(1).await;
    let agent = taking.agent(1, app.address).await;
    let later = TunnelPlan { generation: 2, ..http(1, "demo.example") };
    taking.apply(vec![later]).await;
    // Its tokens are of before.
    until(
        &agent,
        |phase| matches!(phase, Phase::Waiting { why, .. } if why.contains("taken back")),
    )
    .await;
    taking.apply(Vec::new()).await;
    until(
        &agent,
        |phase| matches!(phase, Phase::Waiting { why, .. } if why.contains("no such tunnel")),
    )
    .await;
    assert_eq!(get(taking.world.http(), "demo.example", "/").await.status, StatusCode::NOT_FOUND);
}

/// What is answered to who asks for the door like this.
async fn knock(taking: &Taking, path: &str, headers: &str) -> (String, String) {
    let visitor = SecureClient::trusting(&taking.server.authority, Inside::Http1);
    let mut stream = visitor.raw(taking.world.https(), HOST).await;
    let handshake = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{handshake}{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    let reason = answer.lines().find_map(|line| line.strip_prefix("x-helix-reason: "));
    let status = answer.split(' ').nth(1).unwrap();
    (status.to_owned(), reason.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn only_a_good_token_opens_the_door_and_only_once() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    taking.world.secure_tunnels(1).await;
    let path = "/.helix/tunnel";
    let refused = |reason: &str| ("401".to_owned(), reason.to_owned());
    let let_in = ("101".to_owned(), String::new());
    assert_eq!(knock(&taking, path, "").await, refused("agent_no_token"));
    let good = taking.token(1, 300);
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    assert_eq!(knock(&taking, path, &bearer(&good)).await, let_in);
    assert_eq!(knock(&taking, path, &bearer(&good)).await, refused("agent_token_used"));
    let offered = format!("sec-websocket-protocol: nb_token|{}\r\n", taking.token(1, 300));
    assert_eq!(knock(&taking, path, &offered).await, let_in);
    let asked = format!("{path}?nb_token={}", taking.token(1, 300));
    assert_eq!(knock(&taking, &asked, "").await, let_in);

    let foreign = Taking::new(Vec::new()).await.token(1, 300);
    for token in [foreign.as_str(), "nonsense"] {
        assert_eq!(knock(&taking, path, &bearer(token)).await, refused("agent_token_invalid"));
    }
}

#[tokio::test]
async fn a_token_of_the_past_or_for_another_tunnel_lets_nobody_in() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    taking.world.secure_tunnels(1).await;
    let bearer = |token: String| format!("authorization: Bearer {token}\r\n");
    let path = "/.helix/tunnel";
    let (status, reason) = knock(&taking, path, &bearer(taking.token(1, 0))).await;
    assert_eq!((status.as_str(), reason.as_str()), ("401", "agent_token_expired"));
    let (status, reason) = knock(&taking, path, &bearer(taking.token(2, 300))).await;
    assert_eq!((status.as_str(), reason.as_str()), ("404", "agent_no_tunnel"));
    // The name of the door is nobody's app, and nothing but the door.
    let (status, reason) = knock(&taking, "/", "").await;
    assert_eq!((status.as_str(), reason.as_str()), ("404", "unknown_host"));
    let plain = get(taking.world.http(), HOST, path).await;
    assert_eq!(plain.headers["x-helix-reason"], "agent_upgrade");
}

#[tokio::test]
async fn an_agent_may_know_of_its_tunnel_sooner_than_the_edge() {
    let other = http(2, "other.example");
    let taking = Taking::new(vec![other.clone()]).await;
    taking.world.secure_tunnels(1).await;
    let bearer = format!("authorization: Bearer {}\r\n", taking.token(1, 300));
    let heard_of = async {
        taking.world.counts(|counts| counts.http_requests == 1).await;
        taking.apply(vec![other, http(1, "demo.example")]).await;
    };
    let (let_in, ()) = tokio::join!(knock(&taking, "/.helix/tunnel", &bearer), heard_of);
    assert_eq!(let_in, ("101".to_owned(), String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_visitors_are_not_held_up_by_one_that_takes_all_it_can() {
    const SLOW: usize = 500;
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let app = App::echo(1).await;
    let _agent = taking.agent(1, app.address).await;
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(TcpStream::connect(at).await.unwrap());
    }
    // As much as goes, both ways, for as long as the others take.
    let (mut reader, mut writer) = TcpStream::connect(at).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        let piece = vec![7; 256 * 1024];
        while writer.write_all(&piece).await.is_ok() {}
    });
    let echoed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&echoed);
    let reading = tokio::spawn(async move {
        let mut piece = vec![0; 256 * 1024];
        while let Ok(length) = reader.read(&mut piece).await {
            counted.fetch_add(length, Ordering::Relaxed);
        }
    });
    for round in 0..3_u8 {
        let before = echoed.load(Ordering::Relaxed);
        let turns = slow.iter_mut().map(|visitor| async move {
            visitor.write_all(&[round]).await.unwrap();
            assert_eq!(soon(visitor.read_u8()).await.unwrap(), round);
        });
        futures::future::join_all(turns).await;
        soon(async {
            while echoed.load(Ordering::Relaxed) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    sending.abort();
    reading.abort();
}
