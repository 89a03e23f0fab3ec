//! Refusals that take some arranging: each is a code that scripts may meet.

use axum::Router;
use axum::routing::any;
use serde_json::{Value, json};

use crate::world::{World, deploy_body};

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read() {
    let world = World::new().await;
    let mut body = deploy_body("shop", &world.image);
    body["manifest"] = json!("#".repeat(1024 * 1024));
    let (status, problem) = world.post("/v1/deploys", &body, "key-00000001").await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("payload_too_large")), "{problem}");
}

#[tokio::test]
async fn a_registry_that_answers_with_something_else_has_no_usable_image() {
    let world = World::new().await;
    let registry = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = registry.local_addr().unwrap();
    let answer = Router::new().fallback(any(async || axum::Json(json!({ "hello": "there" }))));
    let serving = tokio::spawn(async move { axum::serve(registry, answer).await });
    let body = deploy_body("shop", &format!("{address}/shop:1"));
    let (status, problem): (u16, Value) = world.post("/v1/deploys", &body, "key-00000001").await;
    serving.abort();
    assert_eq!((status, problem["code"].as_str()), (422, Some("image_unusable")), "{problem}");
}
