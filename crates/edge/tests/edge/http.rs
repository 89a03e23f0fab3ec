//! Requests find their app by host name and pass through unharmed.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, Client, get, raw};
use crate::world::{World, http, soon};

#[tokio::test]
async fn requests_find_their_app_by_host() {
    let world = World::new().await;
    let (one, two) = (App::http(1).await, App::http(2).await);
    let report = world
        .apply(vec![
            http(1, "one.example", &[one.backend()]),
            http(2, "two.example", &[two.backend()]),
        ])
        .await;
    let port = world.http().port();
    assert_eq!(report.endpoints[0].reachable, [format!("http://one.example:{port}")]);
    for (host, body) in
        [("one.example", "app 1"), ("ONE.example:8080", "app 1"), ("two.example.", "app 2")]
    {
        assert_eq!(get(world.http(), host, "/").await.body, body, "{host}");
    }
    let absolute =
        "GET http://two.example/ HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n";
    assert!(raw(world.http(), absolute).await.ends_with("app 2"));
    let stats = world.edge.stats();
    assert_eq!((stats.http_requests, stats.http_refused), (4, 0));
}

#[tokio::test]
async fn an_unknown_host_is_told_so_and_nothing_about_others() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "secret.example", &[app.backend()])]).await;
    let answer = get(world.http(), "other.example", "/").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("no app here is called other.example"), "{text}");
    assert!(text.contains("helix endpoints list") && !text.contains("secret"), "{text}");
    let head = raw(world.http(), "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn without_a_ready_instance_the_edge_fails_fast_and_says_why() {
    let world = World::new().await;
    world.apply(vec![http(1, "app.example", &[])]).await;
    let answer = get(world.http(), "app.example", "/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["x-helix-reason"], "no_backend");
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");

    let gone = App::http(1).await.backend();
    world.apply(vec![http(1, "app.example", &[gone])]).await;
    let answer = soon(async {
        loop {
            let answer = get(world.http(), "app.example", "/").await;
            if answer.status != StatusCode::OK {
                return answer;
            }
        }
    });
    assert_eq!(answer.await.headers["x-helix-reason"], "backend_unreachable");
}

#[tokio::test]
async fn an_app_sees_who_asked_and_not_what_they_claim() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let request = Request::get("/headers")
        .header(header::HOST, "app.example")
        .header("x-forwarded-for", "10.9.8.7")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    let mut client = Client::connect(world.http()).await;
    let answer = client.send(request.body(Full::default()).unwrap()).await.unwrap();
    let seen = String::from_utf8(answer.body.to_vec()).unwrap();
    for part in [
        r#""host": "app.example""#,
        r#""x-forwarded-for": "::1""#,
        r#""x-forwarded-proto": "http""#,
        r#""forwarded": "for=\"[::1]\";host=\"app.example\";proto=http""#,
    ] {
        assert!(seen.contains(part), "{part} not in {seen}");
    }
    assert!(!seen.contains("x-hop") && !seen.contains("10.9.8.7"), "{seen}");
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert!(seen.contains(id), "{seen}");
}

#[tokio::test]
async fn bodies_pass_in_both_framings_and_connections_are_reused() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut client = Client::connect(world.http()).await;
    let body = Bytes::from((0..3_000_000_u32).map(|it| it as u8).collect::<Vec<_>>());
    for _ in 0..3 {
        let request = Request::post("/echo").header(header::HOST, "app.example");
        let request = request.body(Full::from(body.clone())).unwrap();
        let answer = soon(client.send(request)).await.unwrap();
        assert!(answer.body == body);
    }
    let chunked = "POST /echo HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = raw(world.http(), chunked).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("abc"), "{answer}");
}

#[tokio::test]
async fn an_old_client_and_one_that_waits_for_permission_are_served() {
    let world = World::new().await;
    let app = App::http(1).await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let old = raw(world.http(), "GET / HTTP/1.0\r\nHost: app.example\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("app 1"), "{old}");

    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: app.example\r\nExpect: 100-continue\r\n\
                Content-Length: 5\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut permission = [0; 25];
    soon(stream.read_exact(&mut permission)).await.unwrap();
    assert_eq!(&permission, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_the_app_and_gets_everything() {
    let world = World::new().await;
    // Sends without a length, so only the end of the connection ends it.
    let app = App::tcp(1, |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = stream.write_all(&vec![b'x'; 20_000_000]).await;
    })
    .await;
    world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut received, mut piece) = (0, vec![0; 10_007]);
    loop {
        let count = soon(stream.read(&mut piece)).await.unwrap();
        if count == 0 {
            break;
        }
        received += piece[..count].iter().filter(|byte| **byte == b'x').count();
        tokio::task::yield_now().await;
    }
    // One more is in the name of the request id header.
    assert_eq!(received, 20_000_001);
}

#[tokio::test]
async fn a_wildcard_serves_one_level_below_and_an_own_name_comes_before_it() {
    let (own, any) = (App::http(1).await, App::http(2).await);
    let world = World::new().await;
    let wildcard = http(2, "*.shop.example", &[any.backend()]);
    world.apply(vec![wildcard, http(1, "www.shop.example", &[own.backend()])]).await;
    for (host, body) in
        [("www.shop.example", "app 1"), ("a.shop.example", "app 2"), ("A.SHOP.example", "app 2")]
    {
        assert_eq!(get(world.http(), host, "/").await.body, body, "{host}");
    }
    for host in ["shop.example", "a.b.shop.example", "shop.example.a", "*.shop.example"] {
        let status = get(world.http(), host, "/").await.status.as_u16();
        assert!(matches!(status, 400 | 404), "{host}: {status}");
    }
}
