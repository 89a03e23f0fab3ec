//! Who may come in.

use std::sync::atomic::Ordering;

use helix_tunnel::inspect::{AllowList, BasicAuth, Options};
use http::StatusCode;

use crate::world::{Program, World, get, options};

#[tokio::test]
async fn a_visitor_without_the_password_does_not_reach_the_program() {
    let program = Program::start().await;
    let policy = BasicAuth::new("ada:lovelace").unwrap();
    let world = World::new(Options { policies: vec![Box::new(policy)], ..options(&program) });
    let mut visitor = world.visitor().await;
    let refused = visitor.get("/headers").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(refused.headers["x-helix-reason"], "tunnel_login_required");
    assert_eq!(program.connections.load(Ordering::Relaxed), 0);

    // `ada:lovelace`.
    let login = ("authorization", "Basic YWRhOmxvdmVsYWNl");
    let answer = visitor.send(get("/headers", &[login])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.body.contains("authorization"), "it is not the program's: {}", answer.body);
    let list = world.page().await.list(|list| list.len() == 2).await;
    assert_eq!((&list[1]["status"], &list[0]["status"]), (&401.into(), &200.into()));
}

#[tokio::test]
async fn a_visitor_from_another_network_does_not_reach_the_program() {
    let program = Program::start().await;
    let policy = AllowList { networks: vec!["192.0.2.0/24".parse().unwrap()] };
    let world = World::new(Options { policies: vec![Box::new(policy)], ..options(&program) });
    let mut visitor = world.visitor().await;
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    for from in ["198.51.100.1", "192.0.2.7, 198.51.100.1", "unknown"] {
        let refused = visitor.send(get("/", &[("x-forwarded-for", from)])).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{from}");
        assert_eq!(refused.headers["x-helix-reason"], "tunnel_not_allowed");
    }
}
