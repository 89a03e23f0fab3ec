//! What is kept of requests, and sent again.

use bytes::Bytes;
use helix_tunnel::inspect::{KEPT_BODY_BYTES_MAX, KEPT_REQUESTS_MAX};
use http::StatusCode;

use crate::world::{Program, World, get, options, request};

const SECRETS: [(&str, &str); 5] = [
    ("authorization", "Bearer sesame"),
    ("cookie", "session=sesame"),
    ("x-api-key", "sesame"),
    ("proxy-authorization", "Basic sesame"),
    ("x-visible", "open"),
];

#[tokio::test]
async fn a_request_is_shown_without_what_lets_somebody_in_and_replayed_with_it() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let page = world.page().await;
    let answer = world.visitor().await.send(get("/headers?a=b", &SECRETS)).await;
    assert!(answer.body.contains("cookie: session=sesame"), "the program gets all of it");

    let list = page.list(|list| list.len() == 1 && list[0]["state"] == "done").await;
    let summary = &list[0];
    assert_eq!(summary["path"], "/headers?a=b");
    assert_eq!(summary["client"], "192.0.2.7");
    assert_eq!(summary["status"], 200);
    assert_eq!(summary["response_bytes"], answer.body.len());
    let details = page.get("/api/requests/1").await;
    let (sent, received) = (&details["request"]["headers"], &details["response"]["headers"]);
    for headers in [sent, received] {
        assert!(!headers.to_string().contains("sesame"), "{headers}");
        assert!(headers.to_string().contains("[redacted, "), "{headers}");
    }
    assert!(sent.to_string().contains("open"));

    let replayed = page.ask("POST", "/api/requests/1/replay", &[]).await;
    assert_eq!((replayed.status, replayed.json()["id"].as_u64()), (StatusCode::ACCEPTED, Some(2)));
    let list = page.list(|list| list.len() == 2 && list[0]["state"] == "done").await;
    assert_eq!((&list[0]["id"], &list[0]["replay_of"]), (&2.into(), &1.into()));
    let again = page.get("/api/requests/2").await;
    // The program says what it was sent, and that is what came the first time.
    assert_eq!(again["response"]["body"], details["response"]["body"]);
}

#[tokio::test]
async fn a_body_is_replayed_when_all_of_it_is_kept_and_not_otherwise() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let page = world.page().await;
    let mut visitor = world.visitor().await;
    let all = Bytes::from(vec![b'a'; KEPT_BODY_BYTES_MAX]);
    let longer = Bytes::from(vec![b'a'; KEPT_BODY_BYTES_MAX + 1]);
    for body in [&all, &longer] {
        let sent = request("POST", "/echo", &[], body.clone());
        assert_eq!(visitor.send(sent).await.body.as_bytes(), body);
    }
    let replayed = page.ask("POST", "/api/requests/1/replay", &[]).await;
    assert_eq!(replayed.status, StatusCode::ACCEPTED);
    let refused = page.ask("POST", "/api/requests/2/replay", &[]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.json()["code"], "body_cut");
    let cut = page.get("/api/requests/2").await;
    assert_eq!(cut["request"]["body"]["cut"], true);
    assert_eq!(cut["request"]["body"]["bytes"], KEPT_BODY_BYTES_MAX + 1);

    let list = page.list(|list| list.len() == 3 && list[0]["state"] == "done").await;
    assert_eq!(list[0]["response_bytes"], KEPT_BODY_BYTES_MAX);
    for none in ["/api/requests/9/replay", "/api/requests/x/replay"] {
        assert_eq!(page.ask("POST", none, &[]).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_oldest_requests_make_room() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let page = world.page().await;
    let mut visitor = world.visitor().await;
    for number in 0..=KEPT_REQUESTS_MAX {
        visitor.get(&format!("/{number}")).await;
    }
    let list = page.list(|list| list[0]["path"] == format!("/{KEPT_REQUESTS_MAX}")).await;
    assert_eq!(list.len(), KEPT_REQUESTS_MAX);
    assert_eq!(list[KEPT_REQUESTS_MAX - 1]["path"], "/1");
    assert_eq!(page.ask("GET", "/api/requests/1", &[]).await.status, StatusCode::NOT_FOUND);
}
