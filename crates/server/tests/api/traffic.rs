//! What goes through endpoints is told to those whose they are.

use helix_model::Role;
use serde_json::json;

use crate::streams::next;
use crate::world::World;
use helix_model::token::Owner;

/// How many endpoints the app of the tests has.
async fn endpoints(world: &World) -> usize {
    world.get("/v1/endpoints?org=default").await["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_second_is_told_in_rates() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let line = world.get("/v1/traffic?org=default").await;
    assert_eq!((&line["type"], &line["edges"]), (&json!("traffic"), &json!(1)), "{line:#}");
    let items = line["items"].as_array().unwrap();
    assert_eq!(items.len(), endpoints(&world).await);
    let interval_ms = line["interval_ms"].as_f64().unwrap();
    for item in items {
        assert!(item["path"].as_str().unwrap().starts_with("default/default/shop@production/"));
        let begun = item["per_second"].as_f64().unwrap() * interval_ms / 1_000.0;
        assert!((begun - 10.0).abs() < 0.1, "{line:#}");
        let ratio =
            item["errors_per_second"].as_f64().unwrap() / item["per_second"].as_f64().unwrap();
        assert!((ratio - 0.1).abs() < 0.01, "{line:#}");
        assert_eq!(item["p50_ms"], 0.5);
    }
    let one = world.get("/v1/traffic?org=default&limit=1").await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    assert_eq!(one["omitted"].as_u64().unwrap(), items.len() as u64 - 1);
    let (status, problem) = world.try_get("/v1/traffic?limit=0").await;
    assert_eq!((status, &problem["details"][0]["field"]), (400, &json!("limit")), "{problem:#}");
    let (status, _) = world.try_get("/v1/traffic?org=default&app=none").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn seconds_follow_one_another_and_the_log_knows_nothing_of_it() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    // Nothing more happens until the node says how its instance is.
    world.wait_plan(|plan| !plan.instances.is_empty()).await;
    let mut stream = world.follow("/v1/traffic?follow=true").await;
    let mut rest = String::new();
    let head = world.get("/v1/events").await["position"].clone();
    for _ in 0..2 {
        let line = next(&mut stream, &mut rest).await.unwrap();
        assert_eq!(line["type"], "traffic");
        assert!(!line["items"].as_array().unwrap().is_empty(), "{line:#}");
    }
    assert_eq!(world.get("/v1/events").await["position"], head);
}

#[tokio::test]
async fn another_org_learns_nothing() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.new_org("rival").await;
    let rival = world.new_member("rival", "rival-owner", Role::Owner).await;
    let rival = world.token_of(Owner::User(rival), None).await;
    let (status, line) = world.get_as(&rival, "/v1/traffic").await;
    assert_eq!(
        (status, &line["items"], &line["omitted"]),
        (200, &json!([]), &json!(0)),
        "{line:#}"
    );
    let (status, _) = world.get_as(&rival, "/v1/traffic?org=default").await;
    assert_eq!(status, 404);
    let (status, told) = world.get_as(&rival, "/v1/traffic/counters").await;
    assert_eq!((status, &told["items"][0]["endpoints"]), (200, &json!([])), "{told:#}");
    let told = world.get("/v1/traffic/counters").await;
    assert_eq!(told["items"][0]["endpoints"].as_array().unwrap().len(), endpoints(&world).await);
}
