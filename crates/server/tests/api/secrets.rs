//! Secrets over the API: what can be changed, and that no value comes back.

use std::time::Duration;

use helix_model::bundle;
use helix_model::instance::Phase;
use helix_model::{Permission, Permissions, Role, token::Owner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

const PATH: &str = "/v1/envs/default%2Fdefault%2Fshop@production/secrets";
const VALUE: &str = "pl4nted-0b5f8e";

impl World {
    async fn change(&self, body: Value) -> (u16, Value) {
        self.send_as(self.root(), Method::PATCH, PATH, body).await
    }

    async fn step(&self, step: &str, body: Value) -> (u16, Value) {
        self.send_as(self.root(), Method::POST, &format!("{PATH}/{step}"), body).await
    }

    /// Ids of the sealed records of secrets.
    async fn records(&self) -> Vec<String> {
        let url = format!("sqlite://{}?mode=ro", self.dir().join("log/log.db").display());
        let pool = sqlx::sqlite::SqlitePool::connect(&url).await.unwrap();
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT id FROM sealed WHERE id LIKE 'secrets/%' ORDER BY id")
                .fetch_all(&pool)
                .await
                .unwrap();
        rows.into_iter().map(|(id,)| id).collect()
    }

    async fn records_become(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.records().await.len() != count {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", self.records().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_change_is_a_new_version_of_which_all_but_the_values_is_shown() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.report_all(Phase::Ready).await;
    let before = world.get(PATH).await;
    assert_eq!((&before["desired"], &before["version"]), (&Value::Null, &Value::Null));
    let file = format!("# HELIX_SECRETS_V1\nB=base64:AAEC\nC={VALUE}\n");
    let (status, receipt) = world.change(json!({ "values": { "A": VALUE }, "file": file })).await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["operation"], "set_secrets");
    let kinds: Vec<&str> = receipt["affected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["bundle", "deploy"]);
    world.report_all(Phase::Ready).await;
    let (status, receipt) = world.change(json!({ "unset": ["C"] })).await;
    assert_eq!(status, 200, "{receipt}");
    let now = world.get(PATH).await;
    assert_eq!(now["desired"], 2);
    assert_eq!(now["versions"][0]["keys"], json!({ "A": VALUE.len(), "B": 3 }));
    assert_eq!(now["versions"][1]["keys"], json!({ "A": VALUE.len(), "B": 3, "C": VALUE.len() }));
    let (status, receipt) = world.step("rollback", json!({})).await;
    assert_eq!(status, 200, "{receipt}");
    let back = world.get(PATH).await;
    assert_eq!(back["versions"][0]["restored_from"], 1);
    assert_eq!(back["versions"][0]["hash"], now["versions"][1]["hash"]);
    assert_eq!(world.records().await.len(), 3);
    for shown in [
        back,
        receipt,
        world.get("/v1/bundles").await,
        world.get("/v1/events?after=0&limit=200").await,
        world.get("/v1/audit?limit=200&all=true").await,
    ] {
        assert!(!shown.to_string().contains(VALUE));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_without_a_word_of_what_was_sent() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let refused = [
        json!({ "values": VALUE }),
        json!({ "values": { VALUE: "x" } }),
        json!({ "values": { "A": [VALUE] } }),
        json!({ VALUE: true }),
        json!({ "file": VALUE }),
        json!({ "file": format!("# HELIX_SECRETS_V1\n{VALUE}\n") }),
        json!({ "file": format!("# HELIX_SECRETS_V1\n{VALUE}=x\n") }),
        json!({ "file": format!("# HELIX_SECRETS_V1\nA=base64:{VALUE}\n") }),
        json!({ "unset": [VALUE] }),
        json!({ "unset": ["A"] }),
        json!({}),
    ];
    for body in refused {
        let (status, problem) = world.change(body.clone()).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("invalid_argument")), "{body}");
        assert!(!problem.to_string().contains(VALUE), "{problem}");
    }
    let big = "x".repeat(70_000);
    let (_, problem) = world.change(json!({ "values": { "BIG": big } })).await;
    assert!(problem["detail"].as_str().unwrap().starts_with("`BIG` has 70000 bytes"), "{problem}");
    let (status, problem) = world.change(json!({ "values": { "A": "x".repeat(2 << 20) } })).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("payload_too_large")), "{problem}");
    assert_eq!(world.records().await, Vec::<String>::new());
    assert_eq!(world.get(PATH).await["versions"], json!([]));
}

#[tokio::test]
async fn a_repeat_under_one_key_is_one_change_and_nothing_kept_of_it_can_be_guessed_at() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let send = async |body: Value| {
        let request = world.authorized(Method::PATCH, PATH).header("idempotency-key", "again-0001");
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (_, first) = send(json!({ "values": { "A": VALUE } })).await;
    let (_, again) = send(json!({ "values": { "A": VALUE } })).await;
    assert_eq!(first, again);
    let (status, other) = send(json!({ "values": { "A": "another" } })).await;
    assert_eq!((status, other["code"].as_str()), (409, Some("idempotency_key_reuse")));
    assert_eq!(world.get(PATH).await["desired"], 1);
    world.records_become(1).await;
    // The same would not make sense a second time; its receipt still does.
    let unset = async || {
        let request = world.authorized(Method::PATCH, PATH).header("idempotency-key", "again-0002");
        let response = request.json(&json!({ "unset": ["A"] })).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(unset().await, unset().await);
    // A plain hash of the request would stand in the log's database.
    let body = serde_json::to_vec(&json!({ "values": { "A": VALUE } })).unwrap();
    let plain = <sha2::Sha256 as sha2::Digest>::digest(&body);
    let stored = world.engine().log().receipts("", 100).await.unwrap();
    assert!(stored.iter().all(|it| it.request_hash[..] != plain[..]));
}

#[tokio::test]
async fn writers_that_race_lose_no_key() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let keys: Vec<String> = (0..6).map(|number| format!("K{number}")).collect();
    let writes = keys.iter().map(|key| world.change(json!({ "values": { key: VALUE } })));
    for (status, answer) in futures::future::join_all(writes).await {
        assert_eq!(status, 200, "{answer}");
    }
    let now = world.get(PATH).await;
    assert_eq!(now["versions"][0]["keys"].as_object().unwrap().len(), keys.len());
    world.records_become(now["versions"].as_array().unwrap().len()).await;
}

#[tokio::test]
async fn values_go_when_their_version_does() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.report_all(Phase::Ready).await;
    for number in 0..bundle::VERSIONS_KEPT + 3 {
        let (status, _) = world.change(json!({ "values": { "A": format!("v{number}") } })).await;
        assert_eq!(status, 200);
        world.report_all(Phase::Ready).await;
    }
    let kept = world.get(PATH).await["versions"].as_array().unwrap().len();
    world.records_become(kept).await;
    let (status, _) = world.change(json!({ "values": { "A": "waits" }, "stage": true })).await;
    assert_eq!(status, 200);
    let (status, _) = world.step("discard", json!({})).await;
    assert_eq!(status, 200);
    let kept = world.get(PATH).await["versions"].as_array().unwrap().len();
    world.records_become(kept).await;
    let (status, _) =
        world.delete("/v1/envs/default%2Fdefault%2Fshop@production", "destroy-1").await;
    assert_eq!(status, 200);
    world.let_go().await;
    world.records_become(0).await;
}

#[tokio::test]
async fn secrets_survive_a_restart_and_a_rotation_of_keys_and_stale_changes_are_refused() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.change(json!({ "values": { "A": VALUE, "B": "b" } })).await;
    let (status, _) = world.post("/v1/admin/keys/rotate", &Value::Null, "rotate-01").await;
    assert_eq!(status, 200);
    let world = world.restarted().await;
    let version = world.get(PATH).await["version"].as_u64().unwrap();
    let (status, problem) =
        world.change(json!({ "unset": ["B"], "expected_version": version - 1 })).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("version_conflict")), "{problem}");
    let (status, _) = world.change(json!({ "unset": ["B"], "expected_version": version })).await;
    assert_eq!(status, 200);
    let now = world.get(PATH).await;
    assert_eq!(now["versions"][0]["keys"], json!({ "A": VALUE.len() }));
}

#[tokio::test]
async fn secrets_move_with_an_export_and_open_with_the_same_key_file() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.change(json!({ "values": { "A": VALUE, "B": "b" } })).await;
    let export = world.authorized(Method::GET, "/v1/admin/export").send().await.unwrap();
    let file = world.dir().join("installation.helix");
    std::fs::write(&file, export.bytes().await.unwrap()).unwrap();
    let world = world
        .restarted_after(|dir| async move {
            let other = dir.join("other");
            let file = dir.join("installation.helix");
            helix_server::Storage::import_directory(&other, &file).await.unwrap();
            for name in ["log", "audit"] {
                std::fs::remove_dir_all(dir.join(name)).unwrap();
                std::fs::rename(other.join(name), dir.join(name)).unwrap();
            }
        })
        .await;
    let hash = world.get(PATH).await["versions"][0]["hash"].clone();
    let (status, answer) = world.change(json!({ "unset": ["B"] })).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = world.change(json!({ "values": { "B": "b" } })).await;
    assert_eq!(status, 200, "{answer}");
    let now = world.get(PATH).await;
    assert_eq!(now["versions"][0]["keys"], json!({ "A": VALUE.len(), "B": 1 }));
    assert_eq!(now["versions"][0]["hash"], hash, "hashes stay comparable");
}

#[tokio::test]
async fn seeing_names_changing_values_and_deploying_are_three_rights() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    let tenant = Owner::Org(world.org_id("default"));
    let only =
        async |permission| world.token_of(tenant, Some(Permissions::of(&[permission]))).await;
    let reader = only(Permission::SecretsReadMetadata).await;
    let deployer = only(Permission::DeploysWrite).await;
    let body = || json!({ "values": { "A": VALUE } });
    for token in [&reader, &deployer] {
        assert_eq!(world.send_as(token, Method::PATCH, PATH, body()).await.0, 403);
    }
    assert_eq!(world.get_as(&deployer, PATH).await.0, 403);
    let writer = only(Permission::SecretsWrite).await;
    assert_eq!(world.send_as(&writer, Method::PATCH, PATH, body()).await.0, 200);
    assert_eq!(world.get_as(&writer, PATH).await.0, 403);
    assert_eq!(world.get_as(&reader, PATH).await.0, 200);
    let page = world.get_as(&reader, "/v1/bundles").await.1;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    world.new_org("rival").await;
    let rival = world.new_member("rival", "rival-owner", Role::Owner).await;
    let rival = world.token_of(Owner::User(rival), None).await;
    assert_eq!(world.get_as(&rival, PATH).await.0, 404);
    assert_eq!(world.send_as(&rival, Method::PATCH, PATH, body()).await.0, 404);
}

#[tokio::test]
async fn only_the_node_an_instance_is_on_is_given_its_secrets() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.change(json!({ "values": { "A": VALUE } })).await;
    world.wait_plan(|plan| plan.instances.iter().any(|it| it.secrets.is_some())).await;
    let state = world.engine().state();
    let instance = state.instances.iter().find(|it| it.spec.secrets.is_some()).unwrap();
    let pin = instance.spec.secrets.unwrap();
    let (here, stale) = world.attachments();
    let file = world.server().deliver_secrets(&here, instance.id, pin.id).await.unwrap();
    assert_eq!(file.as_slice(), format!("# HELIX_SECRETS_V1\nA={VALUE}\n").as_bytes());
    let other = state.instances.iter().find(|it| it.spec.secrets.is_none());
    for (to, id, version) in [
        (&stale, instance.id, pin.id),
        (&here, helix_model::Id::new(helix_model::Timestamp(1), 1), pin.id),
        (
            &here,
            other.map_or(instance.id, |it| it.id),
            bundle::VersionId::new(helix_model::Timestamp(1), 1),
        ),
    ] {
        let refused = world.server().deliver_secrets(to, id, version).await.unwrap_err();
        assert_eq!(refused.code, helix_model::Code::NotFound);
        assert!(!refused.detail.contains(VALUE));
    }
    let lines = world.get("/v1/audit?limit=200&all=true&operation=deliver_secrets").await;
    let decisions: Vec<&str> = lines["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["decision"].as_str().unwrap())
        .collect();
    assert!(decisions.contains(&"allow"), "{lines}");
}
