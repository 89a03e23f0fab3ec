//! The audit trail: changes and attempts, for who may read them.

use std::time::Duration;

use helix_model::token::Owner;
use helix_model::{Permission, Permissions, Role};
use reqwest::Method;
use serde_json::Value;

use crate::world::World;

/// The newest lines, once one of them is of this operation.
async fn lines_with(world: &World, operation: &str, decision: &str) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let page = world.get("/v1/audit?limit=200").await;
        let items = page["items"].as_array().unwrap().clone();
        if items.iter().any(|it| it["operation"] == operation && it["decision"] == decision) {
            return items;
        }
        assert!(tokio::time::Instant::now() < deadline, "no {operation} in {items:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_change_a_login_and_a_refusal_are_all_in_the_trail() {
    let world = World::new().await;
    world.user_with_password("alice", "correct-horse").await;
    let token = world.login("alice", "correct-horse").await;
    assert_eq!(world.get_as(&token, "/v1/nodes").await.0, 403);
    let lines = lines_with(&world, "list_resources", "deny").await;
    let find = |operation: &str| lines.iter().find(|it| it["operation"] == operation).unwrap();
    let refused = find("list_resources");
    assert_eq!(refused["actor"]["id"], "alice");
    assert_eq!(refused["source"], "127.0.0.1");
    assert_eq!(refused["reason"], "forbidden");
    assert!(!refused["request_id"].as_str().unwrap().is_empty());
    let login = find("approve_login");
    assert_eq!((login["decision"].as_str(), login["log"].as_str()), (Some("allow"), Some("audit")));
    let made = find("token.created");
    assert_eq!(
        (made["actor"]["id"].as_str(), made["log"].as_str()),
        (Some("alice"), Some("events"))
    );
    assert_eq!(made["source"], "127.0.0.1");
    let times: Vec<&str> = lines.iter().map(|it| it["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
}

#[tokio::test]
async fn refusals_that_are_alike_are_counted_on_one_line() {
    let world = World::new().await;
    for _ in 0..50 {
        assert_eq!(world.get_as("", "/v1/apps").await.0, 401);
    }
    let lines = lines_with(&world, "list_apps", "deny").await;
    let counts: Vec<u64> = lines
        .iter()
        .filter(|it| it["reason"] == "no_token")
        .map(|it| it["count"].as_u64().unwrap_or(1))
        .collect();
    assert!(counts.len() < 20, "{counts:?}");
}

/// Which log a line is in, and where.
fn place(line: &Value) -> (String, u64) {
    (line["log"].to_string(), line["position"].as_u64().unwrap())
}

#[tokio::test]
async fn an_org_reads_its_own_trail_and_pages_and_export_agree() {
    let world = World::new().await;
    world.new_org("rival").await;
    world.deploy("shop", "key-00000001").await;
    let rival = Owner::Org(world.org_id("rival"));
    let scopes = Permissions::of(&[Permission::AuditRead]);
    let rival = world.token_of(rival, Some(scopes)).await;
    let (status, page) = world.get_as(&rival, "/v1/audit?all=true").await;
    assert_eq!(status, 200);
    for line in page["items"].as_array().unwrap() {
        assert!(line["target"].as_str().unwrap().starts_with("rival"), "{line}");
    }
    let (status, _) = world.get_as(&rival, "/v1/audit?org=default").await;
    assert_eq!(status, 404);
    let boss = world.new_member("default", "boss", Role::Developer).await;
    let boss = world.token_of(Owner::User(boss), None).await;
    assert_eq!(world.get_as(&boss, "/v1/audit").await.0, 403);

    let mut paged = Vec::new();
    let mut path = "/v1/audit?all=true&limit=3".to_owned();
    loop {
        let page = world.get(&path).await;
        paged.extend(page["items"].as_array().unwrap().iter().map(place));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/audit?all=true&limit=3&cursor={cursor}"),
            None => break,
        }
    }
    let export = world.authorized(Method::GET, "/v1/audit/export?all=true").send().await.unwrap();
    let text = export.text().await.unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap()["reason"], "complete", "a trail says when it is whole");
    // More may have come since, never less.
    let exported: Vec<_> = lines.iter().map(place).collect();
    assert!(paged.len() > 5 && paged.iter().all(|line| exported.contains(line)), "{paged:?}");
    let once: std::collections::BTreeSet<_> = paged.iter().collect();
    assert_eq!(once.len(), paged.len(), "{paged:?}");
    assert_eq!(lines[0]["operation"], "installation.created");
}
