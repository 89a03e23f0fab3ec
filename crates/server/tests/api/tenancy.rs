//! Orgs, projects, apps and envs come and go; quotas and usage.

use helix_model::instance::Phase;
use serde_json::{Value, json};

use crate::world::World;

async fn made(world: &World, path: &str, body: Value, key: &str) -> Value {
    let (status, receipt) = world.post(path, &body, key).await;
    assert_eq!(status, 200, "{path}: {receipt}");
    receipt
}

#[tokio::test]
async fn each_kind_is_made_in_what_the_body_or_the_query_names() {
    let world = World::new().await;
    let org = made(&world, "/v1/orgs", json!({ "name": "acme" }), "key-org-0001").await;
    assert_eq!(
        (org["operation"].as_str(), org["subject"]["path"].as_str()),
        (Some("create_org"), Some("acme"))
    );
    made(&world, "/v1/projects?org=acme", json!({ "name": "shop" }), "key-project-1").await;
    let app = json!({ "name": "web", "parent": "acme/shop" });
    made(&world, "/v1/apps", app.clone(), "key-app-00001").await;
    let env = json!({ "name": "staging", "parent": "acme/shop/web" });
    let receipt = made(&world, "/v1/envs", env, "key-env-00001").await;
    assert_eq!(receipt["subject"]["path"], "acme/shop/web@staging");
    assert!(receipt["next"][0].as_str().unwrap().contains("--app web --env staging"), "{receipt}");
    let listed = world.get("/v1/envs?org=acme").await;
    assert_eq!(listed["items"][0]["path"], "acme/shop/web@staging");
    let shown = world.get("/v1/projects/acme%2Fdefault").await;
    assert_eq!(shown["name"], "default", "an org begins with a project");

    let (status, taken) = world.post("/v1/apps", &app, "key-app-00002").await;
    assert_eq!((status, taken["code"].as_str()), (409, Some("name_taken")));
    let (status, homeless) = world.post("/v1/apps", &json!({ "name": "x" }), "key-app-00003").await;
    assert_eq!((status, homeless["details"][0]["field"].as_str()), (400, Some("parent")));
    let (status, _) = world
        .post("/v1/apps?project=nothing&org=acme", &json!({ "name": "x" }), "key-app-00004")
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn an_env_is_destroyed_and_can_be_waited_for() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.report_all(Phase::Ready).await;
    let env = world.get("/v1/envs/production?org=default&project=default&app=shop").await;
    let id = env["id"].as_str().unwrap();

    let path = format!("/v1/envs/{id}");
    let (status, receipt) = world.delete(&path, "key-destroy-1").await;
    assert_eq!((status, receipt["operation"].as_str()), (200, Some("destroy_env")));
    assert_eq!(
        world.delete(&path, "key-destroy-1").await.1,
        receipt,
        "the same key, the same receipt"
    );
    let shown = world.get(&path).await;
    let condition = &shown["conditions"][1];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some("Destroying"), Some("destroying"))
    );
    let still =
        world.get(&format!("/v1/wait?kind=env&ref={id}&until=gone&timeout_seconds=0")).await;
    assert_eq!(still["outcome"], "timed_out");
    let never = world.get(&format!("/v1/wait?kind=env&ref={id}")).await;
    assert_eq!(never["outcome"], "failed", "it has been ready for the last time");

    let settled =
        format!("/v1/receipts/{}/wait?timeout_seconds=0", receipt["id"].as_str().unwrap());
    assert_eq!(world.get(&settled).await["outcome"], "timed_out", "what it set off goes on");

    let wait = format!("/v1/wait?kind=env&ref={id}&until=gone&timeout_seconds=30");
    let (gone, ()) = tokio::join!(world.get(&wait), world.let_go());
    assert_eq!(gone["outcome"], "satisfied");
    assert_eq!(world.get(&settled).await["outcome"], "satisfied");
    assert_eq!(world.try_get(&path).await.0, 404);
    let events = world.get("/v1/events?org=default&limit=200").await;
    let last = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["type"], "env.destroyed");
    assert_eq!(
        last["subject"]["path"], "default/default/shop@production",
        "events of it stay readable"
    );
}

#[tokio::test]
async fn what_is_not_empty_stays_unless_all_of_it_is_meant() {
    let world = World::new().await;
    made(&world, "/v1/orgs", json!({ "name": "acme" }), "key-org-0001").await;
    let app = json!({ "name": "web", "parent": "acme/default" });
    made(&world, "/v1/apps", app, "key-app-00001").await;
    let (status, problem) = world.delete("/v1/orgs/acme", "key-destroy-1").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("not_empty")));
    let (status, _) = world.delete("/v1/orgs/acme?cascade=true", "key-destroy-2").await;
    assert_eq!(status, 200);
    let wait = "/v1/wait?kind=org&ref=acme&until=gone&timeout_seconds=30";
    let (status, waited) = world.try_get(wait).await;
    assert!(status == 404 || waited["outcome"] == "satisfied", "{waited}");
    let (status, problem) = world.delete("/v1/orgs/default?cascade=true", "key-destroy-3").await;
    assert_eq!((status, problem["code"].as_str()), (412, Some("precondition_failed")));
    let (status, problem) = world.delete("/v1/instances/web-1", "key-destroy-4").await;
    assert_eq!((status, problem["code"].as_str()), (405, Some("method_not_allowed")));
}

#[tokio::test]
async fn a_quota_refuses_with_its_numbers_and_is_seen_before_it_does() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let limits = json!({ "org": "default", "limits": { "instances": 2, "memory": null } });
    made(&world, "/v1/quotas", limits, "key-quota-001").await;
    let report = world.get("/v1/quotas?org=default").await;
    let line = |dimension: &str| {
        let items = report["items"].as_array().unwrap();
        items.iter().find(|it| it["dimension"] == dimension).unwrap().clone()
    };
    let instances = line("instances");
    assert_eq!(
        (&instances["used"], &instances["limit"], &instances["percent"]),
        (&json!(1), &json!(2), &json!(50))
    );
    assert_eq!(
        (&instances["source"], &line("apps")["source"]),
        (&json!("org"), &json!("built_in"))
    );

    let scale = "/v1/envs/default%2Fdefault%2Fshop@production/scale";
    let three = json!({ "processes": { "web": 3 } });
    let (status, problem) = world.post(scale, &three, "key-scale-001").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("quota_exceeded")));
    let quota = json!({
        "org": "default", "dimension": "instances", "unit": "count",
        "limit": 2, "current_usage": 1, "requested_delta": 2,
    });
    assert_eq!(problem["quota"], quota);
    let two = json!({ "processes": { "web": 2 } });
    let receipt = made(&world, scale, two, "key-scale-002").await;
    assert_eq!(receipt["warnings"], json!(["org `default` uses 2 of 2 instances (100%)"]));

    let installation = world.get("/v1/quotas").await;
    assert_eq!(
        (&installation["org"], &installation["items"][0]["used"]),
        (&Value::Null, &Value::Null)
    );
    let (status, _) = world.post("/v1/quotas", &json!({ "limits": {} }), "key-quota-002").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn usage_is_the_sum_of_its_intervals_also_of_what_is_gone() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.report_all(Phase::Ready).await;
    let env = world.get("/v1/envs/default%2Fdefault%2Fshop@production").await;
    let id = env["id"].as_str().unwrap();
    let running = world.get("/v1/usage/intervals").await;
    assert_eq!(running["items"][0]["path"], "default/default/shop@production/web-1");
    assert!(running["items"][0]["to"].is_null(), "it still runs");
    world.delete(&format!("/v1/envs/{id}"), "key-destroy-1").await;
    let wait = format!("/v1/wait?kind=env&ref={id}&until=gone&timeout_seconds=30");
    let (gone, ()) = tokio::join!(world.get(&wait), world.let_go());
    assert_eq!(gone["outcome"], "satisfied");

    let usage = world.get("/v1/usage?org=default").await;
    let item = &usage["items"][0];
    assert_eq!(
        (item["path"].as_str(), &item["destroyed"]),
        (Some("default/default/shop@production"), &json!(true))
    );
    let told = item["instance_ms"].as_u64().unwrap();
    assert_eq!(item["memory_mib_ms"].as_u64().unwrap(), told * (256 + 16));
    for path in ["/v1/usage/intervals".to_owned(), format!("/v1/usage/intervals?env={id}")] {
        let explained = world.get(&path).await;
        assert_eq!(explained["total"], usage["total"]);
        let interval = &explained["items"][0];
        assert_eq!(interval["instance_ms"].as_u64().unwrap(), told);
        for edge in ["from", "to"] {
            let after = interval[edge]["position"].as_u64().unwrap() - 1;
            let events = world.get(&format!("/v1/events?after={after}&limit=1")).await;
            assert_eq!(events["items"][0]["type"], "instance.status_changed");
            assert_eq!(events["items"][0]["ts"], interval[edge]["at"]);
        }
    }
    let (status, _) =
        world.try_get("/v1/usage?since=2030-01-01T00:00:00Z&until=2020-01-01T00:00:00Z").await;
    assert_eq!(status, 400);
}
