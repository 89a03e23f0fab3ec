//! Streams of events: they live while nothing happens, say why they end, and go
//! on exactly where they ended.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::world::World;

/// The next line, whatever it is; `None` at the end.
pub(crate) async fn next(stream: &mut Response, rest: &mut String) -> Option<Value> {
    let reading = async {
        loop {
            if let Some((line, after)) = rest.split_once('\n') {
                let line = serde_json::from_str(line).unwrap();
                *rest = after.to_owned();
                return Some(line);
            }
            let chunk = stream.chunk().await.unwrap()?;
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("no line came")
}

#[tokio::test]
async fn a_stream_says_that_it_lives() {
    let world = World::new().await;
    let mut stream = world.follow("/v1/events?follow=true&heartbeat_seconds=1").await;
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    let beat = next(&mut stream, &mut String::new()).await.unwrap();
    assert_eq!(beat["type"], "heartbeat");
    assert!(beat["ts"].is_string(), "{beat}");
    let head = world.get("/v1/events").await["position"].clone();
    assert_eq!(beat["position"], head, "a reader may go on from a heartbeat, too");
}

#[tokio::test]
async fn a_stream_that_ends_says_why_and_nothing_is_missed_or_repeated_over_a_restart() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let mut stream = world.follow("/v1/events?follow=true&after=0").await;
    let mut rest = String::new();
    let first = next(&mut stream, &mut rest).await.expect("there is something to read");
    let closing = tokio::spawn(async move {
        let mut positions = vec![first["position"].as_u64().unwrap()];
        loop {
            let line = next(&mut stream, &mut rest).await.expect("the end comes with a word");
            match line["type"].as_str() {
                Some("end") => return (positions, line),
                _ => positions.push(line["position"].as_u64().unwrap()),
            }
        }
    });
    let world = world.restarted().await;
    let (mut positions, end) = closing.await.unwrap();
    assert_eq!(end["reason"], "server_closing");
    assert_eq!(end["position"].as_u64(), positions.last().copied());

    let last = world.deploy("other", "key-00000002").await["position"].as_u64().unwrap();
    let path = format!("/v1/events?follow=true&after={}", end["position"]);
    let (mut stream, mut rest) = (world.follow(&path).await, String::new());
    while positions.last() < Some(&last) {
        let line = next(&mut stream, &mut rest).await.unwrap();
        positions.push(line["position"].as_u64().unwrap());
    }
    let all: Vec<u64> = (1..=*positions.last().unwrap()).collect();
    assert_eq!(positions, all);
}

/// A reader that takes nothing for a while gets everything all the same.
#[tokio::test]
async fn a_slow_reader_gets_every_event() {
    let world = World::new().await;
    let mut stream = world.follow("/v1/events?follow=true&after=0").await;
    let mut last = 0;
    for number in 0..30 {
        let receipt = world.deploy(&format!("shop-{number}"), &format!("key-{number:08}")).await;
        last = receipt["position"].as_u64().unwrap();
    }
    let mut rest = String::new();
    for position in 1..=last {
        let line = next(&mut stream, &mut rest).await.unwrap();
        assert_eq!(line["position"], position);
    }
}
