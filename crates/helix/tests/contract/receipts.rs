//! Receipts: one per change, the same for the same key, found again in the
//! events.

use std::process::Command;

use serde_json::{Value, json};

use crate::desk::Desk;

#[test]
fn every_mutation_answers_with_a_receipt() {
    let desk = Desk::with_app();
    let mutations: [(&[&str], &str); 4] = [
        (&["deploy"], "deploy"),
        (&["rollback"], "rollback"),
        (&["scale", "web=2"], "scale"),
        (&["deploy", "--no-wait"], "deploy"),
    ];
    let mut positions = Vec::new();
    for (words, operation) in mutations {
        let document = desk.json(words);
        let receipt = &document["receipt"];
        assert_eq!(receipt["operation"], operation, "{receipt:#}");
        for member in ["id", "at", "request_id"] {
            let text = receipt[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{words:?}: no `{member}` in {receipt:#}");
        }
        assert!(!receipt["actor"].is_null() && !receipt["desired"].is_null(), "{receipt:#}");
        assert!(!receipt["affected"].as_array().unwrap().is_empty(), "{receipt:#}");
        // What it proposes is a command that works.
        for next in receipt["next"].as_array().unwrap() {
            let words: Vec<&str> = next.as_str().unwrap().split_whitespace().collect();
            assert_eq!(words[0], "helix", "{next}");
            desk.run(&words[1..]).ok();
        }
        positions.push(receipt["position"].as_u64().unwrap());
    }
    assert!(positions.is_sorted(), "{positions:?}");
    let shown = desk.run(&["scale", "web=1"]).ok().stdout;
    assert!(shown.contains("receipt  rcpt_"), "{shown}");

    let events = desk.json(&["events", "--tail", "200"]);
    let logged: Vec<u64> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["position"].as_u64())
        .collect();
    for position in positions {
        assert!(logged.contains(&position), "{position} is not in {logged:?}");
    }
}

#[test]
fn the_same_key_is_the_same_change() {
    let desk = Desk::with_app();
    let route = "/v1/envs/default%2Fdefault%2Ftool@production/scale";
    let scale = |key: &str, count: u32| {
        let body = json!({ "processes": { "web": count } });
        post(&desk, route, &[&format!("Idempotency-Key: {key}")], &body)
    };
    let (status, first) = scale("a-key-of-ours", 2);
    assert!((200..300).contains(&status), "{status} {first:#}");
    let (again, repeated) = scale("a-key-of-ours", 2);
    assert_eq!((again, &repeated), (status, &first), "the same receipt");

    let (status, refused) = scale("a-key-of-ours", 3);
    assert_eq!((status, &refused["code"]), (409, &json!("idempotency_key_reuse")), "{refused:#}");
    assert!(!refused["hint"].as_str().unwrap().is_empty());

    let (_, other) = scale("another-key", 2);
    assert_ne!(other["id"], first["id"], "another key is another change");
    let (status, refused) = scale("short", 2);
    assert_eq!((status, &refused["code"]), (400, &json!("invalid_argument")), "{refused:#}");

    // Two at once are one change, too.
    let both: Vec<Value> = std::thread::scope(|scope| {
        let ask = || scale("at-the-same-time", 1).1;
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(both[0], both[1]);
}

/// `POST`s a document with another program than ours; status and answer.
fn post(desk: &Desk, route: &str, headers: &[&str], body: &Value) -> (u16, Value) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--request", "POST"]);
    command.arg("--header").arg(format!("Authorization: Bearer {}", desk.token()));
    for header in headers.iter().chain(&["Content-Type: application/json"]) {
        command.args(["--header", header]);
    }
    command.args(["--data", &body.to_string(), "--write-out", "\n%{http_code}"]);
    let output = command.arg(format!("{}{route}", desk.url())).output().expect("run curl");
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}
