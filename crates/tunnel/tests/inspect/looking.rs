//! The local page, and who may look at it.

use std::net::SocketAddr;

use helix_tunnel::inspect::{Page, PageError};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::world::{Program, World, get, options, soon};

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere_and_nothing_inline() {
    let program = Program::start().await;
    let page = World::new(options(&program)).page().await;
    for (path, content_type) in
        [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]
    {
        let part = page.ask("GET", path, &[]).await;
        assert_eq!(part.status, StatusCode::OK, "{path}");
        assert!(part.headers["content-type"].to_str().unwrap().starts_with(content_type));
        let policy = part.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!part.body.contains("://"), "{path} names another place");
        assert!(!part.body.contains("innerHTML"), "{path} makes markup of text");
    }
    let html = page.ask("GET", "/", &[]).await.body;
    assert!(!html.contains(" on") || !html.contains("onclick="), "no inline handlers");
    assert!(!html.contains("<style") && html.matches("<script").count() == 1);
}

#[tokio::test]
async fn pages_of_other_origins_get_nothing() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    world.visitor().await.get("/").await;
    let page = world.page().await;
    let api = "/api/requests";
    let rebound = [("host", "evil.example:4040")];
    for path in ["/", api, "/api/requests/1", "/page.js"] {
        assert_eq!(page.ask("GET", path, &rebound).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    for foreign in [("origin", "https://evil.example"), ("sec-fetch-site", "same-site")] {
        let replay = page.ask("POST", "/api/requests/1/replay", &[foreign]).await;
        assert_eq!(replay.status, StatusCode::FORBIDDEN);
        assert_eq!(page.ask("GET", api, &[foreign]).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(page.list(|list| list[0]["state"] == "done").await.len(), 1, "nothing was sent");
    let own = format!("http://{}", page.address);
    let replay = page.ask("POST", "/api/requests/1/replay", &[("origin", &own)]).await;
    assert_eq!(replay.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn who_follows_sees_what_was_and_what_comes() {
    let program = Program::start().await;
    let world = World::new(options(&program));
    let page = world.page().await;
    let mut visitor = world.visitor().await;
    visitor.get("/before").await;
    page.list(|list| list[0]["state"] == "done").await;
    let host = page.address.to_string();
    let mut client = page.client().await;
    let following = get("/api/requests?follow=true", &[("host", &host)]);
    let mut body = client.start(following).await.into_body();
    let mut told = Vec::new();
    while !told.iter().any(|(path, state)| path == "/after" && state == "done") {
        if told.is_empty() {
            visitor.get("/after").await;
        }
        let piece = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        for line in String::from_utf8(piece.to_vec()).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["type"], "request");
            assert!(line["ts"].as_str().unwrap().ends_with('Z'));
            let text = |name: &str| line["request"][name].as_str().unwrap().to_owned();
            told.push((text("path"), text("state")));
        }
    }
    assert_eq!(told[0], ("/before".to_owned(), "done".to_owned()));
}

#[tokio::test]
async fn the_page_is_on_this_machine_alone_and_finds_a_port() {
    for everywhere in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4040"] {
        let everywhere: SocketAddr = everywhere.parse().unwrap();
        let refused = Page::bind(everywhere).await.unwrap_err();
        assert!(matches!(refused, PageError::NotLoopback(_)), "{refused}");
    }
    let (first, second) = (Page::bind_usual().await.unwrap(), Page::bind_usual().await.unwrap());
    assert!(first.address().port() >= 4040);
    assert!(second.address().port() > first.address().port() && second.address().port() < 4050);
}
