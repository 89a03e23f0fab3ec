//! How much an endpoint lets in at a time, and where it goes.

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering;

use helix_model::manifest::{Balance, Handling};
use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, Client, get, raw};
use crate::world::{World, http, is_reset_at, only_address, soon, tcp};

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
async fn what_comes_too_fast_is_told_when_to_come_again() {
    let (world, app) = (World::new().await, App::http(1).await);
    let endpoint = http(1, "app.example", &[app.backend()]);
    let handling = Handling { max_per_second: Some(3), ..endpoint.handling };
    let plan = || vec![EndpointPlan { handling, ..endpoint.clone() }];
    world.apply(plan()).await;
    let mut client = Client::connect(world.http()).await;
    for _ in 0..3 {
        assert_eq!(client.get("app.example", "/").await.unwrap().status, 200);
    }
    // Another plan does not begin the second anew.
    world.apply(plan()).await;
    let told = client.get("app.example", "/").await.unwrap();
    assert_eq!(
        (told.status.as_u16(), &told.headers["x-helix-reason"]),
        (429, &"rate_limit".parse().unwrap())
    );
    assert_eq!(told.headers["retry-after"], "1");
    soon(async {
        while client.get("app.example", "/").await.unwrap().status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;

    let echo = App::echo(2).await;
    let endpoint = tcp(2, Ipv6Addr::LOCALHOST, 0, &[echo.backend()]);
    let handling = Handling { max_per_second: Some(1), ..endpoint.handling };
    let report = world.apply(vec![EndpointPlan { handling, ..endpoint }]).await;
    let address = only_address(&report);
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"a").await.unwrap();
    soon(first.read_exact(&mut [0])).await.unwrap();
    is_reset_at(address).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_so_and_does_not_arrive() {
    let (world, app) = (World::new().await, App::http(1).await);
    let endpoint = http(1, "app.example", &[app.backend()]);
    let (max_body_bytes, max_header_bytes) = (Some(10), Some(1_024));
    let handling = Handling { max_body_bytes, max_header_bytes, ..endpoint.handling };
    world.apply(vec![EndpointPlan { handling, ..endpoint }]).await;
    let head = "POST /echo HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n";
    let large = format!("X-Large: {}\r\n\r\n", "x".repeat(1_000));
    for (rest, status, reason) in [
        ("Content-Length: 10\r\n\r\n0123456789", "200", ""),
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", "200", ""),
        ("Content-Length: 11\r\n\r\n0123456789a", "413", "body_too_large"),
        ("Content-Length: 99999999999\r\n\r\n", "413", "body_too_large"),
        (
            "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
            "413",
            "body_too_large",
        ),
        (&large, "431", "head_too_large"),
    ] {
        let said = soon(raw(world.http(), &format!("{head}{rest}"))).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{rest}: {said}");
        assert!(said.contains(&format!("x-helix-reason: {reason}")) || reason.is_empty(), "{said}");
    }
    // The fifth had begun before it was known to be too large.
    let seen = app.seen.load(Ordering::Relaxed);
    assert!((2..=3).contains(&seen), "{seen}");
}

#[tokio::test]
async fn one_connection_too_many_is_reset() {
    let (world, app) = (World::new().await, App::echo(1).await);
    let endpoint = at_most(1, tcp(1, Ipv6Addr::LOCALHOST, 0, &[app.backend()]));
    let address = only_address(&world.apply(vec![endpoint]).await);
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"a").await.unwrap();
    soon(first.read_exact(&mut [0])).await.unwrap();
    is_reset_at(address).await;
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
