//! Users, members, tokens and logins over a real socket.

use std::time::{Duration, Instant};

use helix_model::token::Owner;
use helix_model::{Permission, Permissions, Role};
use reqwest::Method;
use serde_json::json;

use crate::world::World;

const PASSWORD: &str = "correct-horse";

#[tokio::test]
async fn a_login_gives_a_token_that_is_worth_nothing_a_second_after_it_was_revoked() {
    let world = World::new().await;
    world.user_with_password("alice", PASSWORD).await;
    let token = world.login("alice", PASSWORD).await;
    let (status, who) = world.get_as(&token, "/v1/auth/whoami").await;
    assert_eq!((status, who["actor"]["id"].as_str()), (200, Some("alice")));
    assert_eq!(who["token"], "laptop");

    let (status, receipt) =
        world.send_as(&token, Method::DELETE, "/v1/tokens/self", json!({})).await;
    assert_eq!(status, 200, "{receipt}");
    let revoked = Instant::now();
    let (status, problem) = world.get_as(&token, "/v1/auth/whoami").await;
    assert_eq!((status, problem["detail"].as_str()), (401, Some("the token was revoked")));
    assert!(revoked.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_program_waits_until_somebody_answers_and_its_code_works_once() {
    let world = World::new().await;
    world.user_with_password("alice", PASSWORD).await;
    let start = |client: &str| json!({ "client": client });
    let post = |path: &'static str, body| world.send_as("", Method::POST, path, body);
    let (_, started) = post("/v1/auth/device/start", start("<b>ci</b>")).await;
    let poll = json!({ "device_code": started["device_code"] });
    let (status, problem) = post("/v1/auth/device/token", poll.clone()).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("authorization_pending")));
    let (_, problem) = post("/v1/auth/device/token", poll.clone()).await;
    assert_eq!(problem["code"], "slow_down");

    let code = started["user_code"].as_str().unwrap();
    let page = reqwest::get(world.url(&format!("/device?code={code}"))).await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let html = page.text().await.unwrap();
    assert!(html.contains("&lt;b&gt;ci&lt;/b&gt;") && !html.contains("<script"), "{html}");

    let form = format!("code={code}&name=alice&password=wrong-horse&verdict=approve");
    assert_eq!(world.post_form("/device", &form).await.status(), 403);
    let form = format!("code={code}&name=alice&password={PASSWORD}&verdict=approve");
    assert_eq!(world.post_form("/device", &form).await.status(), 200);
    let (status, _) = post("/v1/auth/device/token", poll.clone()).await;
    assert_eq!(status, 200);
    let (_, problem) = post("/v1/auth/device/token", poll).await;
    assert_eq!(problem["code"], "expired_token");

    let (_, started) = post("/v1/auth/device/start", start("other")).await;
    let code = started["user_code"].as_str().unwrap();
    let form = format!("code={code}&name=alice&password={PASSWORD}&verdict=deny");
    assert_eq!(world.post_form("/device", &form).await.status(), 200);
    let poll = json!({ "device_code": started["device_code"] });
    let (status, problem) = post("/v1/auth/device/token", poll).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("access_denied")));
}

#[tokio::test]
async fn a_password_is_guessed_slowly_and_a_setup_code_works_once() {
    let world = World::new().await;
    let (_, made) = world.post("/v1/users", &json!({ "name": "alice" }), "make-user-1").await;
    let code = made["setup_code"].as_str().unwrap();
    let choose =
        |password: &str| json!({ "user": "alice", "setup_code": code, "password": password });
    let path = "/v1/auth/setup";
    let (status, problem) = world.send_as("", Method::POST, path, choose("short")).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_argument")));
    let (status, _) = world.send_as("", Method::POST, path, choose(PASSWORD)).await;
    assert_eq!(status, 200);
    let mut refused = 0;
    loop {
        let (status, problem) = world.send_as("", Method::POST, path, choose(PASSWORD)).await;
        if status == 429 {
            assert!(problem["retry_after_seconds"].as_u64().is_some_and(|it| it <= 60));
            break;
        }
        assert_eq!((status, problem["code"].as_str()), (403, Some("access_denied")));
        refused += 1;
        assert!(refused < 100, "guessing is never slowed down");
    }
    let everything = world.get("/v1/events?after=0&limit=200").await.to_string();
    assert!(!everything.contains("argon2") && !everything.contains(PASSWORD));
}

#[tokio::test]
async fn an_org_keeps_an_owner_and_only_owners_make_owners() {
    let world = World::new().await;
    let boss = world.new_member("default", "boss", Role::Owner).await;
    let admin = world.new_member("default", "admin", Role::Admin).await;
    let admin = world.token_of(Owner::User(admin), None).await;
    let boss = world.token_of(Owner::User(boss), None).await;
    let set = |user: &str, role: &str| json!({ "org": "default", "user": user, "role": role });
    let (status, problem) =
        world.send_as(&admin, Method::POST, "/v1/members", set("admin", "owner")).await;
    assert_eq!((status, problem["details"][0]["message"].as_str()), (403, Some("orgs:own")));
    let (status, problem) =
        world.send_as(&boss, Method::POST, "/v1/members", set("boss", "admin")).await;
    assert_eq!((status, problem["code"].as_str()), (412, Some("precondition_failed")));
    let (status, _) =
        world.send_as(&boss, Method::POST, "/v1/members", set("admin", "owner")).await;
    assert_eq!(status, 200);
    let (status, _) =
        world.send_as(&boss, Method::DELETE, "/v1/members/default%2Fboss", json!({})).await;
    assert_eq!(status, 200);
    let (status, _) = world.get_as(&boss, "/v1/orgs/default").await;
    assert_eq!(status, 403, "who is a member nowhere reads nothing");
}

#[tokio::test]
async fn a_token_never_hands_out_more_than_it_has() {
    let world = World::new().await;
    let admin = world.new_member("default", "admin", Role::Admin).await;
    let all = world.token_of(Owner::User(admin), None).await;
    let narrow = Permissions::of(&[Permission::AppsRead, Permission::OrgsAdmin]);
    let narrow = world.token_of(Owner::User(admin), Some(narrow)).await;
    let service = |scope: &str, name: &str| json!({ "name": name, "service": true, "org": "default", "scopes": [scope] });
    let make = |token, body| world.send_as(token, Method::POST, "/v1/tokens", body);
    assert_eq!(make(&all, service("deploys:write", "ci")).await.0, 200);
    assert_eq!(make(&all, service("orgs:own", "x")).await.0, 403);
    assert_eq!(make(&narrow, service("apps:read", "y")).await.0, 200);
    assert_eq!(make(&narrow, service("deploys:write", "z")).await.0, 403);
    assert_eq!(make(&narrow, json!({ "name": "wide" })).await.0, 403);
    let (status, made) = make(&all, json!({ "name": "mine", "scopes": ["apps:read"] })).await;
    assert_eq!(status, 200, "{made}");
    let mine = made["token"].as_str().unwrap();
    assert_eq!(world.get_as(mine, "/v1/apps").await.0, 200);
    let (status, problem) = world.get_as(mine, "/v1/nodes").await;
    assert_eq!((status, problem["details"][0]["message"].as_str()), (403, Some("nodes:admin")));
    assert!(!made["receipt"].to_string().contains(mine), "a receipt is kept, a token is not");
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let world = World::new().await;
    let user = world.new_member("default", "alice", Role::Developer).await;
    let token = world.token_of(Owner::User(user), None).await;
    let mut lines =
        world.request_as(&token, Method::GET, "/v1/events?follow=true").send().await.unwrap();
    assert_eq!(lines.status(), 200);
    let (status, _) = world.send_as(&token, Method::DELETE, "/v1/tokens/self", json!({})).await;
    assert_eq!(status, 200);
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while lines.chunk().await.unwrap_or_default().is_some() {}
    });
    ended.await.expect("the stream outlived its token");
}

#[tokio::test]
async fn who_asks_too_often_is_told_how_long_to_wait() {
    let world = World::new().await;
    let user = world.new_member("default", "alice", Role::Developer).await;
    let token = world.token_of(Owner::User(user), None).await;
    let first = world.request_as(&token, Method::GET, "/v1/auth/whoami").send().await.unwrap();
    let limit: u32 = first.headers()["x-ratelimit-limit"].to_str().unwrap().parse().unwrap();
    assert!(first.headers().contains_key("x-ratelimit-remaining"));
    let rollback = json!({ "env": "none" });
    let mut last = (0, json!(null));
    for _ in 0..=limit {
        last = world.send_as(&token, Method::POST, "/v1/rollbacks", rollback.clone()).await;
        if last.0 == 429 {
            break;
        }
    }
    assert_eq!((last.0, last.1["code"].as_str()), (429, Some("rate_limited")));
    assert!(last.1["detail"].as_str().unwrap().contains("changes of this token"));
    assert_eq!(
        world.get_as(&token, "/v1/auth/whoami").await.0,
        200,
        "reads have a limit of their own"
    );
}
