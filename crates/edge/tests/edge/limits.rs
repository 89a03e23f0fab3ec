//! How much an endpoint lets in at a time, and where it goes.

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering;

use helix_model::manifest::{Balance, Handling};
use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, get, raw};
use crate::world::{World, http, only_address, soon, tcp};

fn at_most(max: u32, endpoint: EndpointPlan) -> EndpointPlan {
    let handling = Handling { max_connections: Some(max), ..endpoint.handling };
    EndpointPlan { handling, ..endpoint }
}

#[tokio::test]
async fn one_request_too_many_is_told_and_the_next_is_served() {
    let (world, app) = (World::new().await, App::http(1).await);
    let plan = || vec![at_most(1, http(1, "app.example", &[app.backend()]))];
    world.apply(plan()).await;
    let address = world.http();
    let slow = tokio::spawn(async move { get(address, "app.example", "/slow").await.body });
    soon(async {
        while app.seen.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Another plan comes, and what is open goes on counting.
    world.apply(plan()).await;
    let request = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    let said = soon(raw(address, request)).await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(said.contains("x-helix-reason: max_connections\r\nretry-after: "), "{said}");
    app.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap(), "app 1");
    assert_eq!(soon(get(address, "app.example", "/")).await.body, "app 1");
}

#[tokio::test]
async fn one_connection_too_many_is_reset() {
    let (world, app) = (World::new().await, App::echo(1).await);
    let endpoint = at_most(1, tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]));
    let address = only_address(&world.apply(vec![endpoint]).await);
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"a").await.unwrap();
    soon(first.read_exact(&mut [0])).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(soon(second.read(&mut [0])).await.is_err());
    drop(first);
    soon(async {
        while world.edge.stats().tcp_connections_open > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_all(b"b").await.unwrap();
    soon(third.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn a_busy_instance_is_left_alone_while_others_are_idle() {
    let (world, one, two) = (World::new().await, App::http(1).await, App::http(2).await);
    let endpoint = http(1, "app.example", &[one.backend(), two.backend()]);
    let handling = Handling { balance: Balance::LeastConnections, ..endpoint.handling };
    world.apply(vec![EndpointPlan { handling, ..endpoint }]).await;
    let address = world.http();
    let slow = tokio::spawn(async move { get(address, "app.example", "/slow").await.body });
    let seen = |app: &App| app.seen.load(Ordering::Relaxed);
    soon(async {
        while seen(&one) + seen(&two) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (busy, idle) = if seen(&one) == 1 { (&one, &two) } else { (&two, &one) };
    for _ in 0..5 {
        let said = soon(get(address, "app.example", "/")).await.body;
        assert_eq!(said, format!("app {}", idle.number).as_str());
    }
    busy.gate.add_permits(1);
    assert_eq!(soon(slow).await.unwrap(), format!("app {}", busy.number).as_str());
}
