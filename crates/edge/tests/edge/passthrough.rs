//! TLS endpoints: chosen by the name a client sends, and never decrypted. Behind them is
//! another edge, whose authority the first one does not have.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use helix_model::endpoint::OwnPort;
use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, raw};
use crate::secure::{Inside, SecureClient};
use crate::tls::{Server, serving};
use crate::world::{World, http, only_address, soon, tls};

/// Port 0: any free one.
const OWN: OwnPort = OwnPort { address: Ipv6Addr::LOCALHOST, listen_port: 0 };

/// An app that speaks TLS for these hosts, each of which answers with its own name.
struct Inner {
    server: Server,
    world: World,
    _apps: Vec<App>,
}

impl Inner {
    async fn with(hosts: &[&str]) -> Inner {
        let server = Server::new();
        let mut apps = Vec::new();
        for number in 1..=hosts.len() {
            apps.push(App::http(number as u128).await);
        }
        let endpoints = hosts.iter().zip(&apps);
        let endpoints = endpoints.map(|(host, app)| http(app.number, host, &[app.backend()]));
        let world = serving(&server, endpoints.collect()).await;
        Inner { server, world, _apps: apps }
    }

    fn endpoint(&self, number: u128, host: &str, own: Option<OwnPort>) -> EndpointPlan {
        tls(number, host, own, &[(number, self.world.https())])
    }

    async fn says(&self, address: SocketAddr, host: &str, inside: Inside) -> String {
        let client = SecureClient::trusting(&self.server.authority, inside);
        let mut open = client.connect(address, host).await.unwrap();
        String::from_utf8_lossy(&open.get(host, "/").await.body).into_owned()
    }
}

#[tokio::test]
async fn the_shared_port_passes_some_hosts_on_and_decrypts_the_others() {
    let inner = Inner::with(&["db.example", "mail.example"]).await;
    let (outer, own) = (Server::new(), App::http(9).await);
    let world = serving(&outer, vec![http(9, "www.example", &[own.backend()])]).await;
    let passed = vec![
        http(9, "www.example", &[own.backend()]),
        inner.endpoint(1, "db.example", None),
        inner.endpoint(2, "mail.example", None),
    ];
    let report = world.apply(passed).await;
    let port = world.https().port();
    assert_eq!(report.endpoints[1].reachable, [format!("db.example:{port}")]);

    assert_eq!(inner.says(world.https(), "db.example", Inside::Http2).await, "app 1");
    assert_eq!(inner.says(world.https(), "Mail.Example", Inside::Http1).await, "app 2");
    let client = SecureClient::trusting(&outer.authority, Inside::Http2);
    let mut open = client.connect(world.https(), "www.example").await.unwrap();
    assert_eq!(open.get("www.example", "/").await.body, "app 9");
    let stats = world.edge.stats();
    assert_eq!((stats.tls_connections, stats.tcp_connections), (1, 2));
    assert_eq!(stats.hello_named, 3);
}

#[tokio::test]
async fn a_port_of_its_own_is_shared_by_names() {
    let inner = Inner::with(&["a.example", "b.example"]).await;
    let world = World::new().await;
    let both =
        vec![inner.endpoint(1, "a.example", Some(OWN)), inner.endpoint(2, "b.example", Some(OWN))];
    let report = world.apply(both).await;
    let address: SocketAddr = report.endpoints[0].reachable[0].parse().unwrap();
    assert_eq!(report.endpoints[0].reachable, report.endpoints[1].reachable);
    assert_eq!(inner.says(address, "a.example", Inside::Http1).await, "app 1");
    assert_eq!(inner.says(address, "b.example", Inside::Http1).await, "app 2");

    // A name that is not there is refused in the words of TLS.
    let client = SecureClient::trusting(&inner.server.authority, Inside::Http1);
    let Err(error) = client.connect(address, "c.example").await else { panic!("it is served") };
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    world.counts(|stats| stats.hello_unknown == 1).await;
    // What is no TLS is cut off.
    assert_eq!(soon(raw(address, "GET / HTTP/1.1\r\n\r\n")).await, "");
    world.counts(|stats| stats.hello_not_tls == 1).await;
}

/// The least that is a hello, for no host.
fn unnamed() -> Vec<u8> {
    let body = [&[3, 3][..], &[1; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn a_client_that_names_no_host_gets_what_is_there_alone() {
    let app = App::echo(1).await;
    let world = World::new().await;
    let alone = tls(1, "a.example", Some(OWN), &[app.backend()]);
    let address = only_address(&world.apply(vec![alone.clone()]).await);
    let mut stream = TcpStream::connect(address).await.unwrap();
    // In three pieces: what was read to decide is sent on with the rest.
    let hello = unnamed();
    for piece in [&hello[..3], &hello[3..20], &hello[20..], b"and more"] {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    let mut echoed = Vec::new();
    soon(stream.read_to_end(&mut echoed)).await.unwrap();
    assert_eq!(echoed, [&hello[..], b"and more"].concat());

    let other = tls(2, "b.example", Some(OWN), &[app.backend()]);
    world.apply(vec![alone, other]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 112]);
}

#[tokio::test]
async fn who_says_nothing_is_cut_off() {
    let app = App::echo(1).await;
    let world = World::new().await;
    let endpoint = tls(1, "a.example", Some(OWN), &[app.backend()]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&unnamed()[..10]).await.unwrap();
    let ended = soon(silent.read(&mut [0; 8])).await;
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    world.counts(|stats| stats.hello_late == 1).await;
    drop(Arc::new(app));
}
