//! The HTTP API over a real socket: contracts every client relies on.
//!
//! [`World`] is the one way in: a server with a log and an image store of its
//! own, and a node whose reports the test speaks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

mod access;
mod certificates;
mod domains;
mod matrix;
mod pages;
mod people;
mod refusals;
mod secrets;
mod storage;
mod streams;
mod tenancy;
mod traffic;
mod trail;
mod tunnels;
mod versions;
mod waits;
mod walk;
mod world;

use std::time::Duration;

use helix_model::instance::Phase;
use serde_json::{Value, json};
use world::{World, deploy_body};

#[tokio::test]
async fn without_a_token_nothing_about_anyone_is_answered() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    for open in ["/v1/health", "/v1/version", "/v1/openapi.json"] {
        assert_eq!(http.get(world.url(open)).send().await.unwrap().status(), 200);
    }
    for closed in ["/v1/apps", "/v1/events", "/v1/wait?kind=app&ref=x", "/v2/"] {
        let response = http.get(world.url(closed)).send().await.unwrap();
        assert_eq!(response.status(), 401, "{closed}");
        assert!(response.headers().contains_key("x-request-id"), "{closed}");
    }
    let wrong = http.get(world.url("/v1/apps")).bearer_auth("hx_at_wrong").send().await.unwrap();
    assert_eq!(wrong.headers()["content-type"], "application/problem+json");
    let problem: Value = wrong.json().await.unwrap();
    assert_eq!(problem["code"], "unauthorized");
    assert!(problem["request_id"].as_str().unwrap().starts_with("req_"));
}

#[tokio::test]
async fn a_deploy_answers_with_a_receipt_that_can_be_waited_on() {
    let world = World::new().await;
    let receipt = world.deploy("shop", "key-00000001").await;
    assert_eq!(receipt["operation"], "deploy");
    assert_eq!(receipt["subject"]["path"], "default/default/shop@production/d1");
    assert!(receipt["next"][0].as_str().unwrap().starts_with("helix wait deploy/"));

    let path = "/v1/wait?kind=deploy&timeout_seconds=0&ref=";
    let id = receipt["subject"]["id"].as_str().unwrap();
    let waited = world.get(&format!("{path}{id}")).await;
    assert_eq!(waited["outcome"], "timed_out");

    world.report_all(Phase::Ready).await;
    let path = "/v1/wait?kind=deploy&timeout_seconds=30&ref=";
    let waited = world.get(&format!("{path}{id}")).await;
    assert_eq!(waited["outcome"], "satisfied");
}

#[tokio::test]
async fn the_same_key_gives_the_same_receipt_and_changes_nothing() {
    let world = World::new().await;
    let first = world.deploy("shop", "key-00000001").await;
    let again = world.deploy("shop", "key-00000001").await;
    assert_eq!(first, again);
    let releases = world.get("/v1/releases").await;
    assert_eq!(releases["items"].as_array().unwrap().len(), 1);

    let other = deploy_body("other", &world.image);
    let (status, problem) = world.post("/v1/deploys", &other, "key-00000001").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("idempotency_key_reuse")));
}

#[tokio::test]
async fn a_receipt_outlives_the_server() {
    let world = World::new().await;
    let first = world.deploy("shop", "key-00000001").await;
    let world = world.restarted().await;
    assert_eq!(world.deploy("shop", "key-00000001").await, first);
}

#[tokio::test]
async fn racing_requests_with_one_key_have_one_effect() {
    let world = World::new().await;
    let (a, b, c) = tokio::join!(
        world.deploy("shop", "key-00000001"),
        world.deploy("shop", "key-00000001"),
        world.deploy("shop", "key-00000001"),
    );
    assert_eq!(a, b);
    assert_eq!(b, c);
}

#[tokio::test]
async fn pages_walk_through_everything_once() {
    let world = World::new().await;
    for index in 0..7 {
        world.deploy(&format!("shop-{index}"), &format!("key-0000000{index}")).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/apps?limit=3".to_owned();
    loop {
        let page = world.get(&path).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["name"].clone()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/apps?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    let wanted: Vec<Value> = (0..7).map(|index| json!(format!("shop-{index}"))).collect();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_read_may_ask_for_a_position() {
    let world = World::new().await;
    let receipt = world.deploy("shop", "key-00000001").await;
    let position = receipt["position"].as_u64().unwrap();
    let request = world.authorized(reqwest::Method::GET, "/v1/apps/default%2Fdefault%2Fshop");
    let response = request.header("helix-wait-position", position).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let reflected = response.headers()["helix-position"].to_str().unwrap();
    assert!(reflected.parse::<u64>().unwrap() >= position);
}

#[tokio::test]
async fn mistakes_in_a_manifest_are_placed() {
    let world = World::new().await;
    let mut body = deploy_body("shop", &world.image);
    body["manifest"] =
        json!("schema_version = \"v1\"\n[processes.web]\nports = [{internal = 0}]\n");
    let (status, problem) = world.post("/v1/deploys", &body, "key-00000001").await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("manifest_invalid")));
    assert_eq!(problem["details"][0]["field"], "processes.web.ports[0].internal");
    assert_eq!(problem["details"][0]["message"], "line 3, column 11: from 1 to 65535");
}

#[tokio::test]
async fn an_image_that_is_not_there_changes_nothing() {
    let world = World::new().await;
    let missing = format!("helix.internal/default/default/shop@sha256:{}", "0".repeat(64));
    let body = deploy_body("shop", &missing);
    let (status, problem) = world.post("/v1/deploys", &body, "key-00000001").await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("image_not_found")));
    assert!(world.get("/v1/apps").await["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_any_name() {
    let world = World::new().await;
    for path in [
        "/v1/apps/nope",
        "/v1/apps/app_01J8Z3Q4V5W6X7Y8Z9A0B1C2D3",
        "/v1/cows",
        "/v1/envs/nope?app=nope",
        "/v1/nothing/at/all",
    ] {
        let (status, problem) = world.try_get(path).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{path}");
        assert!(!problem["hint"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_kind_can_be_listed_and_a_wrong_method_is_explained() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    for kind in helix_model::Kind::ALL {
        let page = world.get(&format!("/v1/{}", kind.plural())).await;
        assert!(page["items"].is_array(), "{kind}");
    }
    let (status, problem) = world.post("/v1/instances", &json!({}), "key-00000002").await;
    assert_eq!((status, problem["code"].as_str()), (405, Some("method_not_allowed")));
}

#[tokio::test]
async fn events_can_be_read_back_and_followed() {
    let world = World::new().await;
    let mut lines = world.follow("/v1/events?follow=true&after=0&app=default/default/shop").await;
    assert_eq!(lines.status(), 404, "a scope that names nothing is an error, not silence");
    lines = world.follow("/v1/events?follow=true&after=0").await;
    world.deploy("shop", "key-00000001").await;
    let mut text = String::new();
    let deadline = Duration::from_secs(20);
    while !text.contains("\"deploy.created\"") {
        let chunk = tokio::time::timeout(deadline, lines.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let types: Vec<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types[0], "installation.created");
    assert!(types.contains(&"release.created".to_owned()));

    let tail = world.get("/v1/events?limit=2&subject=app/default/default/shop").await;
    assert_eq!(tail["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_log_and_the_state_can_be_verified() {
    let world = World::new().await;
    let receipt = world.deploy("shop", "key-00000001").await;
    let verdict = world.get("/v1/audit/verify").await;
    assert_eq!(verdict["intact"], true);
    assert!(verdict["events"]["position"].as_u64() >= receipt["position"].as_u64());
    assert_eq!(verdict["events"]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(verdict["audit"]["intact"], true);
    let verdict = world.get("/v1/admin/verify-state").await;
    assert_eq!(verdict["same"], true);
}

#[tokio::test]
async fn the_plan_follows_what_is_desired() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.wait_plan(|plan| plan.instances.len() == 1).await;
    world.report_all(Phase::Ready).await;
    let scale = json!({ "processes": { "web": 3 } });
    let path = "/v1/envs/default%2Fdefault%2Fshop@production/scale";
    let (status, _) = world.post(path, &scale, "key-00000002").await;
    assert_eq!(status, 200);
    world.wait_plan(|plan| plan.instances.len() == 3).await;
}
