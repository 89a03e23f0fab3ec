//! What an operator can prove and change: chains, state, keys, retention.

use std::path::Path;
use std::sync::Arc;

use helix_log::{Batch, NewEntry, Position};
use helix_model::{Actor, Command, node};
use helix_server::{Keep, Origin};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::world::World;

/// Somebody with a SQLite prompt and no respect.
async fn meddle(database: &Path, statements: &str) {
    let url = format!("sqlite://{}", database.display());
    let mut prompt = sqlx::SqliteConnection::connect(&url).await.unwrap();
    prompt.execute(statements).await.unwrap();
    prompt.close().await.unwrap();
}

async fn audit(world: &World, count: u64) {
    let entry = |number: u64| NewEntry { at_ms: 1000, payload: number.to_string().into_bytes() };
    let log = &world.storage().audit;
    let expected = log.head().await.unwrap().position;
    let batch = Batch::of_entries(expected, (0..count).map(entry).collect());
    log.append(batch).await.unwrap();
}

#[tokio::test]
async fn an_event_that_was_changed_is_named() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let statements = "DROP TRIGGER events_are_never_changed;
        UPDATE events SET at_ms = at_ms - 1 WHERE position = 3";
    let tampering = |dir: std::path::PathBuf| async move {
        meddle(&dir.join("log/log.db"), statements).await;
    };
    let world = world.restarted_after(tampering).await;
    let verdict = world.get("/v1/audit/verify").await;
    assert_eq!((&verdict["intact"], &verdict["events"]["intact"]), (&json!(false), &json!(false)));
    assert_eq!(verdict["events"]["position"], 3);
    let message = verdict["events"]["message"].as_str().unwrap();
    assert!(message.starts_with("entry 3 or one before it was changed"), "{message}");
    assert_eq!(verdict["audit"]["intact"], true);
}

#[tokio::test]
async fn an_entry_of_the_audit_log_that_was_removed_is_named() {
    let world = World::new().await;
    audit(&world, 20).await;
    let position = world.storage().audit.head().await.unwrap().position.0 - 5;
    let statements = format!(
        "DROP TRIGGER events_are_never_removed; DELETE FROM events WHERE position = {position}"
    );
    let tampering = |dir: std::path::PathBuf| async move {
        meddle(&dir.join("audit/log.db"), &statements).await;
    };
    let world = world.restarted_after(tampering).await;
    let verdict = world.get("/v1/audit/verify").await;
    assert_eq!((&verdict["intact"], &verdict["events"]["intact"]), (&json!(false), &json!(true)));
    assert_eq!(verdict["audit"]["position"], position);
}

#[tokio::test]
async fn a_rotation_can_be_repeated_and_leaves_one_key() {
    let world = World::new().await;
    let sealed = Arc::clone(&world.storage().sealed);
    for number in 0..5 {
        sealed.put(&format!("secret{number}"), b"hunter2", b"").await.unwrap();
    }
    let (first, _) = sealed.key_ids();
    let (status, changed) = world.post("/v1/admin/keys/rotate", &json!({}), "key-00000001").await;
    assert_eq!(status, 200, "{changed}");
    // The record that tells key files apart and the keys of the authority and of tunnels are
    // three more.
    assert_eq!((&changed["rewrapped"], &changed["retired"]), (&json!(8), &json!([first])));
    assert_eq!(changed["kept"], json!([]));

    // As if a rotation had been killed after its first step.
    let half = helix_log::MasterKey::generate().unwrap();
    sealed.rotate(half.clone()).await.unwrap();
    let (_, changed) = world.post("/v1/admin/keys/rotate", &json!({}), "key-00000002").await;
    assert_eq!(changed["retired"].as_array().unwrap().len(), 2, "{changed}");
    assert_ne!(changed["active"], half.id());
    let opened = sealed.get("secret3", b"").await.unwrap().unwrap();
    assert_eq!(opened.expose(), b"hunter2");
    let (status, changed) = world.post("/v1/admin/keys/retire", &json!({}), "key-00000003").await;
    assert_eq!((status, &changed["retired"]), (200, &json!([])));
}

#[tokio::test]
async fn two_rotations_do_not_meet() {
    let world = World::new().await;
    let ttl = std::time::Duration::from_secs(60);
    let lease = world.storage().leases.acquire("keys", "another", ttl).await.unwrap().unwrap();
    let (status, problem) = world.post("/v1/admin/keys/rotate", &json!({}), "key-00000001").await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    world.storage().leases.release(&lease).await.unwrap();
    let (status, _) = world.post("/v1/admin/keys/rotate", &json!({}), "key-00000001").await;
    assert_eq!(status, 200);
}

fn connect(cpus: u32) -> (Command, Origin) {
    let facts = node::Facts {
        version: "0".to_owned(),
        cpus,
        memory_bytes: 1 << 30,
        isolation: "process".to_owned(),
        isolation_reason: "pretended".to_owned(),
        isolation_advice: None,
        volumes: None,
    };
    let origin = Origin {
        actor: Actor::System("test".to_owned()),
        request_id: "req_test".to_owned(),
        source: None,
        idempotency: None,
        precondition: None,
    };
    let connect = node::Connect { name: "there".parse().unwrap(), facts, replica: None };
    (Command::ConnectNode(connect), origin)
}

#[tokio::test]
async fn history_that_went_to_the_archive_reads_as_before() {
    let forever = World::new().await;
    let shown = forever.get("/v1/admin/retention").await;
    assert_eq!(shown["keep_events_seconds"], json!(null));
    let (_, done) = forever.post("/v1/admin/retention", &json!({}), "key-00000001").await;
    assert_eq!(done["events_archived"], 0);

    let nothing = Some(std::time::Duration::ZERO);
    let world = World::keeping(Keep { events: nothing, audit: nothing }).await;
    let first_page = world.get("/v1/events?after=0&limit=20").await;
    let engine = world.engine().clone();
    let submitted = (0..10_100).map(|turn| {
        let (command, origin) = connect(turn);
        engine.submit(command, origin)
    });
    for receipt in futures::future::join_all(submitted).await {
        receipt.unwrap();
    }
    drop(engine);
    audit(&world, 10_000).await;
    audit(&world, 100).await;
    let (status, done) = world.post("/v1/admin/retention", &json!({}), "key-00000001").await;
    assert_eq!((status, &done["events_archived"]), (200, &json!(10_000)), "{done}");
    assert_eq!(done["audit_archived"], 10_000);
    assert_eq!(world.get("/v1/admin/retention").await["events_archived"], 10_000);

    let world = world.restarted().await;
    let items = |page: &serde_json::Value| page["items"][0].clone();
    assert_eq!(items(&world.get("/v1/events?after=0&limit=20").await), items(&first_page));
    let mut response = world.follow("/v1/events?follow=true&after=9990").await;
    let mut seen = Vec::new();
    while seen.iter().filter(|byte| **byte == b'\n').count() < 20 {
        seen.extend_from_slice(&response.chunk().await.unwrap().unwrap());
    }
    let text = String::from_utf8(seen).unwrap();
    for position in [9_991, 10_000, 10_001, 10_010] {
        assert!(text.contains(&format!("\"position\":{position}")), "{position}: {text}");
    }
    let verdict = world.get("/v1/audit/verify").await;
    assert_eq!(verdict["intact"], true, "{verdict}");
    assert_eq!(world.get("/v1/admin/verify-state").await["same"], true);
    let read = world.storage().log.read(Position::ZERO, 1).await.unwrap();
    assert_eq!(read[0].position, Position(1));

    // A damaged segment is damage of the log.
    let archive = world.dir().join("archive");
    let segment = std::fs::read_dir(&archive).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let verdict = world.get("/v1/audit/verify").await;
    assert_eq!((&verdict["intact"], &verdict["audit"]["intact"]), (&json!(false), &json!(true)));
    assert_eq!(verdict["events"]["position"], 1);
}

#[tokio::test]
async fn what_an_operator_does_takes_a_token() {
    let world = World::new().await;
    for (method, path) in [
        (Method::GET, "/v1/admin/retention"),
        (Method::POST, "/v1/admin/retention"),
        (Method::POST, "/v1/admin/keys/rotate"),
        (Method::POST, "/v1/admin/keys/retire"),
    ] {
        let request = reqwest::Client::new().request(method, world.url(path));
        assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
    }
}
