//! Pages: each id once, whatever the size of a page and whatever comes meanwhile.

use std::collections::BTreeSet;

use helix_model::Kind;
use serde_json::Value;

use crate::world::World;

/// The values of one member over all pages, in order.
async fn walk(world: &World, path: &str, limit: usize, member: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("{path}limit={limit}{cursor}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{path}");
        seen.extend(items.iter().map(|item| item[member].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn every_list_can_be_walked_in_small_steps() {
    let world = World::new().await;
    for app in ["one", "two", "three"] {
        world.deploy(app, &format!("key-{app:0>8}")).await;
    }
    for kind in Kind::ALL {
        let path = format!("/v1/{}?", kind.plural());
        let whole = walk(&world, &path, 200, "id").await;
        assert!(!whole.is_empty() || kind == Kind::Endpoint || !created(kind), "{kind}");
        for limit in 1..=3 {
            assert_eq!(walk(&world, &path, limit, "id").await, whole, "{kind} by {limit}");
        }
    }
    let whole = walk(&world, "/v1/events?after=0&", 200, "position").await;
    assert!(whole.len() > 10);
    for limit in 1..=3 {
        let steps = walk_events(&world, limit).await;
        assert_eq!(steps[..whole.len()], whole[..], "by {limit}");
    }
}

/// What a deploy makes.
fn created(kind: Kind) -> bool {
    matches!(kind, Kind::App | Kind::Env | Kind::Release | Kind::Deploy)
}

async fn walk_events(world: &World, limit: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut page = world.get(&format!("/v1/events?after=0&limit={limit}")).await;
    loop {
        seen.extend(page["items"].as_array().unwrap().iter().map(|it| it["position"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            return seen;
        };
        page = world.get(&format!("/v1/events?limit={limit}&cursor={cursor}")).await;
    }
}

#[tokio::test]
async fn what_comes_while_one_walks_moves_nothing() {
    let world = World::new().await;
    for app in ["one", "two", "three"] {
        world.deploy(app, &format!("key-{app:0>8}")).await;
    }
    let first = world.get("/v1/apps?limit=2").await;
    world.deploy("four", "key-0000four").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&format!("/v1/apps?limit=2&cursor={cursor}")).await;
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let seen = [names(&first), names(&second)].concat();
    assert_eq!(seen, ["one", "two", "three", "four"]);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
}

#[tokio::test]
async fn a_cursor_is_for_its_own_list() {
    let world = World::new().await;
    for app in ["one", "two"] {
        world.deploy(app, &format!("key-{app:0>8}")).await;
    }
    let apps = world.get("/v1/apps?limit=1").await;
    let cursor = apps["next_cursor"].as_str().unwrap();
    let id = apps["items"][0]["id"].as_str().unwrap();
    for path in [
        format!("/v1/envs?cursor={cursor}"),
        format!("/v1/events?cursor={cursor}"),
        format!("/v1/apps?cursor={id}"),
        "/v1/apps?cursor=".to_owned(),
        "/v1/apps?limit=0".to_owned(),
        "/v1/events?limit=201".to_owned(),
    ] {
        let (status, problem) = world.try_get(&path).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_argument")), "{path}");
        assert!(problem["details"][0]["field"].is_string(), "{path}: {problem}");
    }
}
