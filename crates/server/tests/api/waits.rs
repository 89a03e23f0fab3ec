//! Waiting: for a condition, for what a change set off, for a position; and
//! receipts that are found again.

use helix_model::instance::Phase;

use crate::world::World;

const ENV: &str = "env&ref=default%2Fdefault%2Fshop@production";

#[tokio::test]
async fn a_receipt_can_be_waited_on_until_what_it_set_off_has_settled() {
    let world = World::new().await;
    let receipt = world.deploy("shop", "key-00000001").await;
    let id = receipt["id"].as_str().unwrap();
    let path = format!("/v1/receipts/{id}/wait?timeout_seconds=");
    let now = world.get(&format!("{path}0")).await;
    assert_eq!(now["outcome"], "timed_out", "{now}");
    assert_eq!(now["resources"][0]["kind"], "deploy");
    world.report_all(Phase::Ready).await;
    let settled = world.get(&format!("{path}30")).await;
    assert_eq!(settled["outcome"], "satisfied", "{settled}");
    let (status, problem) = world.try_get("/v1/receipts/rcpt_0/wait").await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")));
    let (status, problem) = world.try_get("/v1/receipts/rcpt_9999/wait?timeout_seconds=0").await;
    assert_eq!((status, problem["code"].as_str()), (504, Some("timed_out")));
}

#[tokio::test]
async fn a_receipt_is_found_again_by_its_key_and_the_change_by_its_id() {
    let world = World::new().await;
    let receipt = world.deploy("shop", "key-00000001").await;
    let again = world.get("/v1/receipts?key=key-00000001").await;
    assert_eq!(again, receipt);
    let change = world.get(&format!("/v1/receipts/{}", receipt["id"].as_str().unwrap())).await;
    for member in ["id", "position", "at", "actor", "request_id"] {
        assert_eq!(change[member], receipt[member], "{member}");
    }
    let events = change["events"].as_array().unwrap();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"app.created"));
    assert_eq!(types.last(), Some(&"deploy.created"));
    // The middle of a change, and what nobody was given.
    let middle = events[0]["position"].as_u64().unwrap();
    for path in [
        format!("/v1/receipts/rcpt_{middle}"),
        "/v1/receipts/rcpt_99999".to_owned(),
        "/v1/receipts/nonsense".to_owned(),
        "/v1/receipts?key=key-of-nobody".to_owned(),
    ] {
        let (status, problem) = world.try_get(&path).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{path}");
    }
}

#[tokio::test]
async fn any_condition_can_be_waited_for() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let wait = async |until: &str, seconds: u64| {
        let path = format!("/v1/wait?kind={ENV}&until={until}&timeout_seconds={seconds}");
        world.get(&path).await["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(wait("reconciling", 0).await, "satisfied");
    assert_eq!(wait("reconciling=false", 0).await, "timed_out");
    world.report_all(Phase::Ready).await;
    assert_eq!(wait("reconciling=false", 30).await, "satisfied");
    assert_eq!(wait("ready", 30).await, "satisfied");
    assert_eq!(wait("ready=false", 0).await, "timed_out");
    assert_eq!(wait("degraded=false", 0).await, "satisfied");
    assert_eq!(wait("gone", 0).await, "timed_out");
    for wrong in ["happy", "ready=maybe", "gone=false", ""] {
        let path = format!("/v1/wait?kind={ENV}&until={wrong}");
        let (status, problem) = world.try_get(&path).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_argument")), "{wrong}");
    }
}

#[tokio::test]
async fn a_position_can_be_waited_for() {
    let world = World::new().await;
    let position = world.deploy("shop", "key-00000001").await["position"].as_u64().unwrap();
    let path = format!("/v1/positions/{position}/wait");
    assert_eq!(world.get(&path).await["outcome"], "satisfied");
    let later = world.get("/v1/positions/99999/wait?timeout_seconds=0").await;
    assert_eq!(later["outcome"], "timed_out");
}

#[tokio::test]
async fn conditions_say_since_when() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.report_all(Phase::Ready).await;
    let path = format!("/v1/wait?kind={ENV}&timeout_seconds=30");
    let before = world.get(&path).await["resource"]["conditions"].clone();
    let scaled = serde_json::json!({ "processes": { "web": 1 } });
    let env = "/v1/envs/default%2Fdefault%2Fshop@production";
    world.post(&format!("{env}/scale"), &scaled, "key-00000002").await;
    let view = world.get(env).await;
    assert_eq!(view["conditions"], before, "a change that changes no condition is no transition");
    assert_ne!(view["updated_at"], before[0]["since"]);
}

#[tokio::test]
async fn patience_out_of_range_is_refused_and_not_bent() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let wait = format!("/v1/wait?kind={ENV}&");
    for (path, field) in [
        (wait.as_str(), "timeout_seconds=601"),
        ("/v1/receipts/rcpt_1/wait?", "timeout_seconds=601"),
        ("/v1/positions/1/wait?", "timeout_seconds=601"),
        ("/v1/events?follow=true&", "heartbeat_seconds=0"),
        ("/v1/events?follow=true&", "heartbeat_seconds=301"),
        ("/v1/logs?org=default&project=default&app=shop&env=production&", "heartbeat_seconds=0"),
    ] {
        let (status, problem) = world.try_get(&format!("{path}{field}")).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_argument")), "{path}");
        let named = field.split_once('=').map(|(name, _)| name);
        assert_eq!(problem["details"][0]["field"].as_str(), named, "{path}{field}: {problem}");
    }
}
