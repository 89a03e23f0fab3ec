//! The PROXY protocol: what apps are told of their clients, and what is believed of load
//! balancers.

use std::net::{Ipv6Addr, SocketAddr};

use helix_model::manifest::{Handling, ProxyProtocol};
use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::app::{App, raw};
use crate::world::{World, http, only_address, soon, tcp, udp};

fn told(endpoint: EndpointPlan) -> EndpointPlan {
    let proxy_protocol = Some(ProxyProtocol::V2);
    let handling = Handling { proxy_protocol, ..endpoint.handling };
    EndpointPlan { handling, ..endpoint }
}

/// The header for a connection over IPv6, byte for byte.
fn header(family: u8, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V6(client), SocketAddr::V6(server)) = (client, server) else {
        panic!("{client} and {server} are not both of IPv6")
    };
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[0x21, family, 0, 36],
        &client.ip().octets(),
        &server.ip().octets(),
        &client.port().to_be_bytes(),
        &server.port().to_be_bytes(),
    ]
    .concat()
}

#[tokio::test]
async fn an_app_is_told_whose_a_connection_is_before_the_first_byte() {
    let (world, app) = (World::new().await, App::echo(1).await);
    let plain = tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]);
    let address = only_address(&world.apply(vec![plain.clone()]).await);
    let echo = |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let own = stream.local_addr().unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).await.unwrap();
        (own, echoed)
    };
    assert_eq!(soon(echo(address)).await.1, b"hello", "nobody asked for a header");

    world.apply(vec![told(plain)]).await;
    let (own, echoed) = soon(echo(address)).await;
    assert_eq!(echoed, [&header(0x21, own, address)[..], b"hello"].concat());
}

#[tokio::test]
async fn each_datagram_says_whose_it_is() {
    let world = World::new().await;
    let app = UdpSocket::bind("[::1]:0").await.unwrap();
    let endpoint = udp(1, Ipv6Addr::LOCALHOST, 0, &[(1, app.local_addr().unwrap())]);
    let address = only_address(&world.apply(vec![told(endpoint)]).await);
    let client = UdpSocket::bind("[::1]:0").await.unwrap();
    for text in ["one", "two"] {
        client.send_to(text.as_bytes(), address).await.unwrap();
        let mut buffer = [0; 100];
        let (length, _) = soon(app.recv_from(&mut buffer)).await.unwrap();
        let own = client.local_addr().unwrap();
        assert_eq!(buffer[..length], [&header(0x22, own, address)[..], text.as_bytes()].concat());
    }
}

const REQUEST: &str = "GET /headers HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn what_a_listed_balancer_says_goes_on_to_the_app() {
    let app = App::http(1).await;
    let world = World::behind(&["::1/128"]).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let line = "PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n";
    let said = soon(raw(world.http(), &format!("{line}{REQUEST}"))).await;
    assert!(said.contains(r#""x-forwarded-for": "192.0.2.9""#), "{said}");
    // Its own, such as a health check.
    let said = soon(raw(world.http(), &format!("PROXY UNKNOWN\r\n{REQUEST}"))).await;
    assert!(said.contains(r#""x-forwarded-for": "::1""#), "{said}");
    // It must say something, and in time.
    assert_eq!(soon(raw(world.http(), REQUEST)).await, "");
    let mut silent = TcpStream::connect(world.http()).await.unwrap();
    let ended = soon(silent.read(&mut [0; 8])).await;
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    world.counts(|stats| stats.proxy_refused == 2).await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let app = App::http(1).await;
    let world = World::behind(&["192.0.2.0/24"]).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let line = "PROXY TCP4 192.0.2.9 198.51.100.1 4711 80\r\n";
    let said = soon(raw(world.http(), &format!("{line}{REQUEST}"))).await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    let said = soon(raw(world.http(), REQUEST)).await;
    assert!(said.contains(r#""x-forwarded-for": "::1""#), "{said}");
}

#[tokio::test]
async fn the_clients_address_survives_a_chain_of_edges() {
    let app = App::echo(1).await;
    let inner = World::behind(&["::1", "127.0.0.1"]).await;
    let endpoint = told(tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]));
    let second = only_address(&inner.apply(vec![endpoint]).await);
    let outer = World::new().await;
    let endpoint = told(tcp(1, Ipv6Addr::LOCALHOST, 0, &[(1, second)]));
    let first = only_address(&outer.apply(vec![endpoint]).await);
    let mut stream = TcpStream::connect(first).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = Vec::new();
    soon(stream.read_to_end(&mut echoed)).await.unwrap();
    let expected = header(0x21, stream.local_addr().unwrap(), first);
    assert_eq!(echoed, [&expected[..], b"hello"].concat());
}
