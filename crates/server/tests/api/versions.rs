//! Optimistic concurrency: who changes what they have not seen is refused. And
//! versions of the program: who is too far from the server is refused.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::world::{World, deploy_body};

const ENV: &str = "/v1/envs/default%2Fdefault%2Fshop@production";

async fn version(world: &World) -> u64 {
    world.get(ENV).await["version"].as_u64().unwrap()
}

async fn scale(world: &World, count: u32, expected: u64) -> (u16, Value) {
    let body = json!({ "processes": { "web": count }, "expected_version": expected });
    world.post(&format!("{ENV}/scale"), &body, &format!("scale-{count:04}-{expected}")).await
}

#[tokio::test]
async fn a_change_of_what_one_has_seen_goes_through_and_the_next_is_told() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let seen = version(&world).await;
    let (status, receipt) = scale(&world, 3, seen).await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(scale(&world, 3, seen).await, (200, receipt), "a repeat is no conflict");

    let (status, problem) = scale(&world, 4, seen).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("version_conflict")));
    let actual = version(&world).await;
    let expected = format!("env `default/default/shop@production` is version {actual}, not {seen}");
    assert_eq!(problem["detail"], expected);
    assert_eq!(problem["details"][0]["field"], "expected_version");
    assert!(problem["hint"].as_str().unwrap().contains(&format!("--expected-version {actual}")));
    assert_eq!(world.get(ENV).await["desired"]["scale"]["web"], 3);
}

#[tokio::test]
async fn deploys_and_rollbacks_take_an_expected_version_too() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let stale = version(&world).await - 1;
    let mut deploy = deploy_body("shop", &world.image);
    deploy["expected_version"] = json!(stale);
    let rollback = json!({ "env": "default/default/shop@production", "expected_version": stale });
    for (path, body) in [("/v1/deploys", &deploy), ("/v1/rollbacks", &rollback)] {
        let (status, problem) = world.post(path, body, "key-00000002").await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("version_conflict")), "{path}");
    }
    deploy["expected_version"] = json!(version(&world).await);
    let (status, receipt) = world.post("/v1/deploys", &deploy, "key-00000003").await;
    assert_eq!(status, 200, "{receipt}");
    deploy["env"] = json!("staging");
    let (status, problem) = world.post("/v1/deploys", &deploy, "key-00000004").await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "nothing to expect");
}

#[tokio::test]
async fn a_release_is_promoted_to_the_env_one_has_seen() {
    let world = World::new().await;
    let mut release = deploy_body("shop", &world.image);
    release.as_object_mut().unwrap().remove("env");
    let (status, receipt) = world.post("/v1/releases", &release, "key-00000001").await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["subject"]["path"], "default/default/shop:v1", "{receipt:#}");
    let promote = |env: &str, expected: Option<u64>| {
        json!({ "app": "default/default/shop", "env": env, "release": "v1",
                "expected_version": expected })
    };
    let at = "/v1/promotions";
    let (status, problem) = world.post(at, &promote("production", Some(7)), "key-00000002").await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{problem}");
    let (status, receipt) = world.post(at, &promote("production", Some(0)), "key-00000003").await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["subject"]["kind"], "deploy", "{receipt:#}");
    for expected in [0, version(&world).await - 1] {
        let key = format!("key-1000000{expected}");
        let (status, problem) = world.post(at, &promote("production", Some(expected)), &key).await;
        assert_eq!((status, problem["code"].as_str()), (409, Some("version_conflict")));
    }
    let (status, receipt) = world.post(at, &promote("staging", None), "key-00000004").await;
    assert_eq!(status, 200, "another env, whatever it is: {receipt}");
    assert_eq!(world.get(ENV).await["desired"]["release"], {
        let staging = ENV.replace("production", "staging");
        world.get(&staging).await["desired"]["release"].clone()
    });
}

#[tokio::test]
async fn of_many_who_saw_the_same_version_exactly_one_changes_it() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    for round in 0..8 {
        let seen = version(&world).await;
        let counts = round * 8 + 1..=round * 8 + 8;
        let answers = join_all(counts.clone().map(|count| scale(&world, count, seen))).await;
        let won: Vec<u32> = counts
            .zip(&answers)
            .filter_map(|(count, (status, _))| (*status == 200).then_some(count))
            .collect();
        let [winner] = won[..] else { panic!("round {round}: {won:?} went through") };
        let lost = answers.iter().filter(|(_, body)| body["code"] == "version_conflict");
        assert_eq!(lost.count(), 7);
        assert_eq!(world.get(ENV).await["desired"]["scale"]["web"], winner);
    }
}

#[tokio::test]
async fn a_command_line_too_far_from_the_server_is_told_before_anything_happens() {
    let world = World::new().await;
    let ask = async |path: &str, sender: &str| {
        let body = json!({ "name": "acme" });
        let request = reqwest::Client::new().post(world.url(path)).header("user-agent", sender);
        let answer = request.bearer_auth(world.token()).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // The server of these tests is 0.0.0.
    for far in ["helix/0.3.0", "helix/1.0.0"] {
        let (status, problem) = ask("/v1/orgs", far).await;
        assert_eq!((status, problem["code"].as_str()), (412, Some("precondition_failed")));
        assert!(problem["detail"].as_str().unwrap().contains("the server 0.0.0"), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("helix version"), "{problem}");
    }
    assert_eq!(world.get("/v1/orgs").await["items"].as_array().unwrap().len(), 1);
    let version = reqwest::Client::new().get(world.url("/v1/version"));
    let version = version.header("user-agent", "helix/9.0.0").send().await.unwrap();
    assert_eq!(version.json::<Value>().await.unwrap()["version"], "0.0.0");
    // Others' programs are not held to a window, and neither are versions within it.
    assert_eq!(ask("/v1/orgs", "helix/0.2.7").await.0, 200);
    assert_eq!(ask("/v1/orgs", "curl/8.0").await.0, 409, "it is there now");
}
