//! Instances die; clients do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::{App, Client, get};
use crate::world::{World, http, soon};

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_one_instance_is_killed_and_another_added() {
    let world = World::new().await;
    let mut apps = vec![App::http(1).await, App::http(2).await, App::http(3).await];
    world.apply(vec![http(1, "app.example", &backends(&apps))]).await;

    let answered = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(load(world.http(), Arc::clone(&answered), Arc::clone(&done))))
        .collect();
    let reached = async |count| {
        let target = answered.load(Ordering::Relaxed) + count;
        soon(async {
            while answered.load(Ordering::Relaxed) < target {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    reached(500).await;
    drop(apps.remove(0));
    reached(500).await;
    let added = App::http(4).await;
    let mut plan = backends(&apps);
    plan.push(added.backend());
    world.apply(vec![http(1, "app.example", &plan)]).await;
    reached(1_000).await;
    done.store(true, Ordering::Relaxed);
    for task in load {
        soon(task).await.unwrap();
    }
    assert!(added.seen.load(Ordering::Relaxed) > 100);
    assert!(world.edge.stats().http_retries > 0);
}

async fn load(edge: std::net::SocketAddr, answered: Arc<AtomicUsize>, done: Arc<AtomicBool>) {
    let mut client = Client::connect(edge).await;
    while !done.load(Ordering::Relaxed) {
        let answer = client.get("app.example", "/").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn backends(apps: &[App]) -> Vec<(u128, std::net::SocketAddr)> {
    apps.iter().map(App::backend).collect()
}

/// An app that takes a request and closes without answering.
async fn rude(number: u128) -> App {
    App::tcp(number, |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_elsewhere_and_nothing_else() {
    let world = World::new().await;
    let (rude, kind) = (rude(1).await, App::http(2).await);
    world.apply(vec![http(1, "app.example", &[rude.backend(), kind.backend()])]).await;
    for _ in 0..4 {
        assert_eq!(get(world.http(), "app.example", "/").await.body, "app 2");
    }
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let post = "POST /echo HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\
                    Content-Length: 2\r\n\r\nhi";
        statuses.push(crate::app::raw(world.http(), post).await[9..12].to_owned());
    }
    statuses.sort();
    assert_eq!(statuses, ["200", "502"]);
}

#[tokio::test]
async fn a_connection_the_app_closed_meanwhile_is_replaced() {
    let world = World::new().await;
    // Answers one request with keep-alive, then closes anyway when asked again.
    let app = App::tcp(1, |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = Client::connect(world.http()).await;
    for _ in 0..5 {
        assert_eq!(client.get("app.example", "/").await.unwrap().body, "ok");
    }
}
