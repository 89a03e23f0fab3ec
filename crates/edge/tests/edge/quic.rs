//! Tunnels whose agents come over QUIC, and agents that choose between it and TLS.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use helix_model::plan::EdgeReport;
use helix_model::tunnel::{Exposure, Transport};
use helix_tunnel::{
    Agent, Choice, Config, DialError, Grant, Grants, Phase, ProbeError, Transport as Over, measure,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::agents::{Taking, attached, config, http, tunnel, until};
use crate::app::{App, get};
use crate::lossy::Lossy;
use crate::relay::Slow;
use crate::secure::{Inside, SecureClient};
use crate::tunnel::free_port;
use crate::world::{DEADLINE, soon};

/// All packets, in a hundred.
const ALL: u64 = 100;

/// An agent that comes over QUIC and by nothing else.
async fn over_quic(taking: &Taking, at: SocketAddr, to: SocketAddr) -> Agent {
    let grants = taking.grants_by(1, vec![(Over::Quic, at)]);
    attached(Config { transport: Choice::Only(Over::Quic), ..config(grants, to) }).await
}

fn transport(report: &EdgeReport) -> Option<Transport> {
    report.tunnels[0].agent.as_ref().map(|agent| agent.transport)
}

#[tokio::test]
async fn requests_are_answered_by_an_agent_over_quic() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    taking.world.secure_tunnels(1).await;
    let urls = taking.world.edge.agents();
    assert!(urls.iter().any(|url| url.transport == Transport::Quic), "{urls:?}");
    let app = App::http(1).await;
    let agent = over_quic(&taking, taking.world.https(), app.address).await;
    assert_eq!(transport(&taking.has(1).await), Some(Transport::Quic));
    for _ in 0..3 {
        assert_eq!(get(taking.world.http(), "demo.example", "/").await.body, "app 1");
    }
    for inside in [Inside::Http1, Inside::Http2] {
        let visitor = SecureClient::trusting(&taking.server.authority, inside);
        let mut open = visitor.connect(taking.world.https(), "demo.example").await.unwrap();
        let large = "x".repeat(2_000_000);
        assert_eq!(open.post("demo.example", "/echo", large.clone()).await.body, large);
    }
    agent.stop().await;
    taking.has(0).await;
}

#[tokio::test]
async fn connections_go_whole_through_a_network_that_loses_packets() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let lossy = Lossy::start(taking.world.https()).await;
    let app = App::echo(1).await;
    let _agent = over_quic(&taking, lossy.at, app.address).await;
    lossy.lose(5);
    let mut visitor = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    let sent: Vec<u8> = (0..400_000_u32).map(|it| (it % 251) as u8).collect();
    let (mut reader, mut writer) = visitor.split();
    let sending = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (_, read) = soon(async { tokio::join!(sending, reader.read_to_end(&mut echoed)) }).await;
    read.unwrap();
    assert!(echoed == sent, "{} of {}", echoed.len(), sent.len());
}

#[tokio::test]
async fn of_datagrams_some_are_lost_with_their_packets_and_none_is_another() {
    const WANTED: usize = 100;
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Udp { port })]).await;
    let program = UdpSocket::bind("[::1]:0").await.unwrap();
    let to = program.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = program.recv_from(&mut buffer).await {
            program.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let lossy = Lossy::start(taking.world.https()).await;
    let agent = over_quic(&taking, lossy.at, to).await;
    lossy.lose(20);
    let visitor = UdpSocket::bind("[::1]:0").await.unwrap();
    visitor.connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    let (mut sent, mut came) = (0_u32, std::collections::BTreeSet::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut buffer = [0; 2000];
    soon(async {
        while came.len() < WANTED {
            tokio::select! {
                _ = ticks.tick() => {
                    let datagram = [sent.to_be_bytes().as_slice(), &[7; 500]].concat();
                    visitor.send(&datagram).await.unwrap();
                    sent += 1;
                }
                length = visitor.recv(&mut buffer) => {
                    let datagram = &buffer[..length.unwrap()];
                    assert_eq!(&datagram[4..], [7; 500]);
                    let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                    assert!(number < sent && came.insert(number), "{number} was not sent, or once");
                }
            }
        }
    })
    .await;
    // One in five each way: of a hundred 64 come back.
    assert!((WANTED as u32 + 10..WANTED as u32 * 3).contains(&sent), "{sent} were sent");
    let phase = agent.phases().borrow().clone();
    assert!(matches!(phase, Phase::Attached { .. }), "{phase:?}");
}

/// Why the way over a transport cannot be had with a grant, if it cannot.
async fn refused(taking: &Taking, grant: &Grant, over: Over) -> Option<(u16, String)> {
    let at = taking.world.https();
    let candidates = grant.candidates.iter().find(|it| it.transport() == Some(over));
    let candidate = candidates.unwrap_or_else(|| panic!("no way over {over} to {at}"));
    match soon(measure(grant, candidate, None, "test")).await {
        Ok(measured) => {
            assert!(measured.figures.up > 0.0 && measured.figures.down > 0.0, "{measured:?}");
            None
        }
        Err(ProbeError::Dial(DialError::Refused { status, reason, .. })) => {
            Some((status.as_u16(), reason))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn only_a_good_token_lets_in_over_quic_and_once_over_each_transport() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    taking.world.secure_tunnels(1).await;
    let ways = vec![taking.way(Over::Wss), taking.way(Over::Quic)];
    let grants = taking.grants_by(1, ways.clone());
    let good = grants.grant().await.unwrap();
    assert_eq!(refused(&taking, &good, Over::Quic).await, None);
    assert_eq!(refused(&taking, &good, Over::Wss).await, None);
    let used = Some((401, "agent_token_used".to_owned()));
    assert_eq!(refused(&taking, &good, Over::Quic).await, used);
    assert_eq!(refused(&taking, &good, Over::Wss).await, used);
    // Who only measured has taken nothing from anybody.
    taking.has(0).await;

    let with = |token: String| Grant { token, ..good.clone() };
    let foreign = Taking::new(Vec::new()).await.token(1, 300);
    for (token, status, reason) in [
        (foreign, 401, "agent_token_invalid"),
        ("nonsense".to_owned(), 401, "agent_token_invalid"),
        ("x".repeat(3000), 401, "agent_token_invalid"),
        (taking.token(1, 0), 401, "agent_token_expired"),
        (taking.token(2, 300), 404, "agent_no_tunnel"),
    ] {
        let told = refused(&taking, &with(token), Over::Quic).await;
        assert_eq!(told, Some((status, reason.to_owned())));
    }
}

/// Waits until an agent is attached over this.
async fn comes_over(agent: &Agent, over: Over) {
    let is_over =
        |phase: &Phase| matches!(phase, Phase::Attached { transport, .. } if *transport == over);
    until(agent, is_over).await;
}

/// A connection to an echo, in use.
async fn in_use(port: u16) -> TcpStream {
    let mut visitor = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    echoes(&mut visitor).await;
    visitor
}

async fn echoes(visitor: &mut TcpStream) {
    visitor.write_all(b"x").await.unwrap();
    assert_eq!(soon(visitor.read_u8()).await.unwrap(), b'x');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_moves_to_the_way_that_carries_more_and_cuts_nobody_off() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let slow = Slow::start(taking.world.https()).await;
    let app = App::echo(1).await;
    let ways = vec![(Over::Wss, slow.at), taking.way(Over::Quic)];
    let agent = attached(config(taking.grants_by(1, ways), app.address)).await;
    comes_over(&agent, Over::Wss).await;
    let mut before = in_use(port).await;
    comes_over(&agent, Over::Quic).await;
    taking.world.report(|report| transport(report) == Some(Transport::Quic)).await;
    let mut after = in_use(port).await;
    for _ in 0..3 {
        echoes(&mut before).await;
        echoes(&mut after).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_moves_away_from_udp_where_that_carries_less() {
    let port = free_port();
    let taking = Taking::new(vec![tunnel(1, Exposure::Tcp { port })]).await;
    let lossy = Lossy::start(taking.world.https()).await;
    let app = App::echo(1).await;
    let ways = vec![(Over::Quic, lossy.at), taking.way(Over::Wss)];
    let agent = attached(config(taking.grants_by(1, ways), app.address)).await;
    comes_over(&agent, Over::Quic).await;
    lossy.lose(20);
    let mut before = in_use(port).await;
    comes_over(&agent, Over::Wss).await;
    echoes(&mut before).await;
    in_use(port).await;
}

#[tokio::test]
async fn where_udp_is_blocked_tls_serves() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let lossy = Lossy::start(taking.world.https()).await;
    lossy.lose(ALL);
    let app = App::http(1).await;
    let ways = vec![(Over::Quic, lossy.at), taking.way(Over::Wss)];
    let agent = attached(config(taking.grants_by(1, ways), app.address)).await;
    comes_over(&agent, Over::Wss).await;
    assert_eq!(get(taking.world.http(), "demo.example", "/").await.body, "app 1");
}

#[tokio::test]
async fn quic_that_falls_silent_is_left_for_tls() {
    // Before the link itself would be given up.
    const LEFT_WITHIN: Duration = Duration::from_secs(40);
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let lossy = Lossy::start(taking.world.https()).await;
    let app = App::http(1).await;
    let ways = vec![(Over::Quic, lossy.at), taking.way(Over::Wss)];
    let agent = attached(config(taking.grants_by(1, ways), app.address)).await;
    comes_over(&agent, Over::Quic).await;
    lossy.lose(ALL);
    let mut phases = agent.phases();
    let is_over_tls = |phase: &Phase| matches!(phase, Phase::Attached { transport: Over::Wss, .. });
    let left = tokio::time::timeout(LEFT_WITHIN, phases.wait_for(is_over_tls)).await;
    left.expect("it was not left").unwrap();
    assert_eq!(get(taking.world.http(), "demo.example", "/").await.body, "app 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_over_quic_comes_to_the_edge_that_took_its_port_over() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("takeover.sock");
    let tunnels = || vec![http(1, "demo.example")];
    let old = Taking::at(&socket, tunnels()).await;
    let app = App::http(1).await;
    let _agent = over_quic(&old, old.world.https(), app.address).await;
    old.has(1).await;
    let new = old.next(&socket, tunnels()).await;
    assert_eq!(new.world.https(), old.world.https());
    soon(old.world.edge.handed_over()).await;
    let ending = tokio::spawn(old.world.edge.shutdown(DEADLINE));
    assert_eq!(transport(&new.has(1).await), Some(Transport::Quic));
    assert_eq!(get(new.world.http(), "demo.example", "/").await.body, "app 1");
    soon(ending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_would_measure_at_once_some_are_told_to_come_again() {
    let taking = Taking::new(vec![http(1, "demo.example")]).await;
    let slow = Slow::start(taking.world.https()).await;
    let grants = taking.grants_by(1, vec![(Over::Wss, slow.at)]);
    let measuring = (0..16).map(|_| async {
        let grant = grants.grant().await.unwrap();
        measure(&grant, &grant.candidates[0], None, "test").await
    });
    let outcomes = soon(futures::future::join_all(measuring)).await;
    let is_busy = |error: &ProbeError| matches!(error, ProbeError::Dial(DialError::Busy { .. }));
    let busy = outcomes.iter().filter(|it| it.as_ref().is_err_and(is_busy)).count();
    let measured = outcomes.iter().filter(|it| it.is_ok()).count();
    assert!(busy > 0 && measured > 0 && busy + measured == 16, "{outcomes:?}");
    // Their places are free again.
    let grant = grants.grant().await.unwrap();
    measure(&grant, &grant.candidates[0], None, "test").await.unwrap();
}
