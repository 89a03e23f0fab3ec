//! Tunnels over the API: who has one, what tokens let in, and that nobody else sees them.

use std::sync::Arc;

use async_trait::async_trait;
use helix_control::plan::edge_plan;
use helix_model::installation::Settle;
use helix_model::plan::EdgePlan;
use helix_model::token::Owner;
use helix_model::traffic::Told;
use helix_model::tunnel::SetAnonymous;
use helix_model::{Command, Permission, Permissions, Role, edge};
use helix_server::links::EdgeLink;
use helix_tunnel::token::{Audience, Claims, TokenError, VerifyingKey, verify};
use reqwest::Method;
use serde_json::{Value, json};

use crate::people::now;
use crate::world::World;

const CREATE: &str = "/v1/tunnels";
const REFRESH: &str = "/v1/tunnels/token";

impl World {
    async fn ask(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        self.send_as(token, Method::POST, path, body).await
    }

    async fn have(&self, body: Value) -> Value {
        let (status, grant) = self.ask(self.root(), CREATE, body).await;
        assert_eq!(status, 201, "{grant}");
        grant
    }

    async fn refresh(&self, token: &Value) -> (u16, Value) {
        self.ask("", REFRESH, json!({ "recreate_token": token })).await
    }

    /// A member of the first org, with a token of theirs.
    async fn person(&self, name: &str, role: Role) -> String {
        let user = self.new_member("default", name, role).await;
        self.token_of(Owner::User(user), None).await
    }

    /// What an edge finds a token to say.
    fn at_edge(&self, token: &Value) -> Result<Claims, TokenError> {
        let state = self.engine().state();
        let plan = edge_plan(&state, state.edges.iter().next().unwrap().id);
        let keys = plan.tunnel_keys.iter();
        let keys: Vec<_> =
            keys.map(|key| VerifyingKey::from_base64url(&key.public).unwrap()).collect();
        assert_eq!(keys[0].id(), plan.tunnel_keys[0].id);
        let now_s = u64::try_from(now().0 / 1000).unwrap();
        verify(token.as_str().unwrap(), &keys, Audience::Edge, now_s)
    }
}

/// An edge that takes no agents.
struct Deaf;

#[async_trait]
impl EdgeLink for Deaf {
    fn apply(&self, _plan: EdgePlan) {}

    async fn traffic(&self) -> Option<Vec<Told>> {
        None
    }
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or("none"))
}

#[tokio::test]
async fn a_tunnel_is_had_shown_and_given_up() {
    let world = World::new().await;
    let grant = world.have(json!({ "requested_name": "demo" })).await;
    assert_eq!(grant["public_hostname"], "demo.localhost");
    assert_eq!(grant["public_url"], "https://demo.localhost:8443");
    assert_eq!(grant["candidates"][0]["edge_url"], "wss://front.localhost:8443/.helix/tunnel");
    assert_eq!(grant["candidates"][0]["supported_transport"], "wss");
    assert!(grant["edge_roots"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(grant["receipt"]["operation"], "create_tunnel");
    let claims = world.at_edge(&grant["ephemeral_token"]).unwrap();
    assert_eq!((claims.sub.as_str(), claims.generation), (grant["tunnel_id"].as_str().unwrap(), 1));
    assert_eq!(claims.exp - claims.iat, 300);
    assert_eq!(world.at_edge(&grant["recreate_token"]), Err(TokenError::Audience));
    let shown = world.get("/v1/tunnels/default%2Fdemo").await;
    assert_eq!(
        shown["desired"]["exposure"],
        json!({ "protocol": "http", "host": "demo.localhost" })
    );
    assert_eq!(shown["conditions"][1]["type"], "Connected");
    assert_eq!(shown["conditions"][1]["reason"], "no_agent");
    assert_eq!(world.get("/v1/tunnels?org=default").await["items"][0]["path"], "default/demo");
    let (status, gone) = world.delete("/v1/tunnels/default%2Fdemo", "key-00000001").await;
    assert_eq!((status, gone["operation"].as_str()), (200, Some("destroy_tunnel")), "{gone}");
    assert_eq!(world.try_get("/v1/tunnels/default%2Fdemo").await.0, 404);
    let events = world.get("/v1/events?tail=2").await;
    assert_eq!(
        events["items"][1]["event"]["type"].as_str().or(events["items"][1]["type"].as_str()),
        Some("tunnel.destroyed"),
        "{events}"
    );
}

#[tokio::test]
async fn the_same_key_is_the_same_tunnel_and_so_is_its_name() {
    let world = World::new().await;
    let body = json!({ "protocol": "tcp" });
    let (_, first) = world.post(CREATE, &body, "key-00000001").await;
    let (_, again) = world.post(CREATE, &body, "key-00000001").await;
    let (_, other) = world.post("/tunnels/create", &body, "key-00000002").await;
    assert_eq!(first["tunnel_id"], again["tunnel_id"]);
    assert_eq!(first["receipt"], again["receipt"]);
    assert_ne!(first["tunnel_id"], other["tunnel_id"]);
    assert_eq!(first["public_url"], "tcp://front.localhost:20000");
    let named = json!({ "protocol": "tcp", "requested_name": first["name"] });
    assert_eq!(world.have(named).await["tunnel_id"], first["tunnel_id"]);
}

#[tokio::test]
async fn a_token_in_the_body_counts_where_there_is_no_header() {
    let world = World::new().await;
    let mine = world.person("ann", Role::Developer).await;
    let looker = world.person("eve", Role::Readonly).await;
    let body = |token: &str| json!({ "requested_name": "demo", "management_token": token });
    let answer = world.ask("", "/tunnels/create", body(&mine)).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
    assert_eq!(answer.1["receipt"]["actor"]["id"], "ann");
    assert_eq!(code(&world.ask("", "/tunnels/create", body("hx_at_none")).await).0, 401);
    assert_eq!(code(&world.ask("", "/tunnels/create", json!({})).await).0, 401);
    assert_eq!(code(&world.ask("", "/tunnels/create", body(&looker)).await), (403, "forbidden"));
    assert_eq!(code(&world.ask(&looker, CREATE, body(&mine)).await), (403, "forbidden"));
    assert_eq!(code(&world.ask("hx_at_none", CREATE, body(&mine)).await).0, 401);
    // Elsewhere a body is no proof.
    let reserve = json!({ "management_token": mine });
    let answer = world.ask("", "/v1/tunnels/default%2Fdemo/reserve", reserve).await;
    assert_eq!(code(&answer), (401, "unauthorized"));
    let mut large = body(&mine);
    large["hostname"] = json!("x".repeat(17 * 1024));
    assert_eq!(code(&world.ask("", CREATE, large).await), (413, "payload_too_large"));
}

#[tokio::test]
async fn a_recreate_token_gets_fresh_ones_until_it_is_good_no_more() {
    let world = World::new().await;
    let grant =
        world.have(json!({ "requested_name": "demo", "recreate_token_ttl_seconds": 3600 })).await;
    let position = world.engine().state().position;
    let (status, fresh) = world.refresh(&grant["recreate_token"]).await;
    assert_eq!((status, &fresh["tunnel_id"]), (200, &grant["tunnel_id"]), "{fresh}");
    assert_ne!(fresh["ephemeral_token"], grant["ephemeral_token"]);
    assert_eq!(world.at_edge(&fresh["ephemeral_token"]).unwrap().generation, 1);
    assert_eq!(world.engine().state().position, position, "nothing was changed");
    let (status, _) =
        world.ask("", "/auth/token", json!({ "recreate_token": fresh["recreate_token"] })).await;
    assert_eq!(status, 200, "also by the other path, with the new token");
    for bad in [&grant["ephemeral_token"], &json!("a.b.c"), &json!("")] {
        assert_eq!(code(&world.refresh(bad).await), (403, "access_denied"), "{bad}");
    }
    let foreign = World::new().await.have(json!({})).await;
    assert_eq!(code(&world.refresh(&foreign["recreate_token"]).await), (403, "access_denied"));
    let (status, _) = world.ask(world.root(), "/v1/tunnels/default%2Fdemo/rotate", json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(code(&world.refresh(&fresh["recreate_token"]).await), (403, "access_denied"));
    let rotated = world.have(json!({ "requested_name": "demo" })).await;
    assert_eq!(world.at_edge(&rotated["ephemeral_token"]).unwrap().generation, 2);
    let disable = json!({ "reason": "a phish" });
    world.ask(world.root(), "/v1/tunnels/default%2Fdemo/disable", disable).await;
    let refused = world.refresh(&rotated["recreate_token"]).await;
    assert_eq!(code(&refused), (412, "tunnel_disabled"));
    assert!(refused.1["detail"].as_str().unwrap().contains("a phish"), "{}", refused.1);
    assert_eq!(world.delete("/v1/tunnels/default%2Fdemo", "key-00000001").await.0, 200);
    assert_eq!(code(&world.refresh(&rotated["recreate_token"]).await), (404, "not_found"));
}

#[tokio::test]
async fn who_guesses_tokens_or_refreshes_too_often_waits() {
    let world = World::new().await;
    let grant = world.have(json!({})).await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(world.refresh(&grant["recreate_token"]).await.0);
    }
    assert_eq!((answers[0], answers[39]), (200, 429));
    for _ in 0..25 {
        answers.push(world.refresh(&json!("a.b.c")).await.0);
    }
    assert_eq!((answers[40], answers[64]), (403, 429));
}

#[tokio::test]
async fn who_has_the_recreate_token_counts_as_the_owner() {
    let world = World::new().await;
    let (ann, bob) =
        (world.person("ann", Role::Developer).await, world.person("bob", Role::Developer).await);
    let (_, hers) = world.ask(&ann, CREATE, json!({ "requested_name": "demo" })).await;
    let plain = world.ask(&bob, CREATE, json!({ "requested_name": "demo" })).await;
    assert_eq!(code(&plain), (409, "tunnel_name_taken"));
    let shown = json!({ "recreate_token": hers["recreate_token"] });
    let (status, again) = world.ask(&bob, CREATE, shown).await;
    assert_eq!(
        (status, &again["tunnel_id"], &again["name"]),
        (201, &hers["tunnel_id"], &json!("demo"))
    );
    let desired = &world.get("/v1/tunnels/default%2Fdemo").await["desired"];
    assert_eq!(
        (&desired["owner"]["actor"]["id"], &desired["generation"]),
        (&json!("ann"), &json!(1))
    );
    let other = json!({ "recreate_token": hers["recreate_token"], "requested_name": "other" });
    assert_eq!(code(&world.ask(&bob, CREATE, other).await), (400, "invalid_argument"));
    let bad = json!({ "recreate_token": "a.b.c" });
    assert_eq!(code(&world.ask(&bob, CREATE, bad).await), (403, "access_denied"));
    world.new_org("rival").await;
    let rival = world.new_member("rival", "rita", Role::Owner).await;
    let rival = world.token_of(Owner::User(rival), None).await;
    let shown = json!({ "recreate_token": hers["recreate_token"] });
    assert_eq!(code(&world.ask(&rival, CREATE, shown).await), (403, "access_denied"));
    let taken = world.ask(&rival, CREATE, json!({ "requested_name": "demo" })).await;
    assert_eq!(code(&taken), (409, "tunnel_name_taken"));
    assert!(!taken.1.to_string().contains("default"), "{}", taken.1);
}

#[tokio::test]
async fn changes_are_the_owners_and_the_admins_and_a_lock_is_the_operators() {
    let world = World::new().await;
    let (ann, bob) =
        (world.person("ann", Role::Developer).await, world.person("bob", Role::Developer).await);
    let admin = world.person("ada", Role::Admin).await;
    world.ask(&ann, CREATE, json!({ "requested_name": "demo" })).await;
    let at = |verb: &str| format!("/v1/tunnels/default%2Fdemo{verb}");
    assert_eq!(world.ask(&bob, &at("/reserve"), json!({})).await.0, 403);
    assert_eq!(world.ask(&bob, &at("/rotate"), json!({})).await.0, 403);
    assert_eq!(world.send_as(&bob, Method::DELETE, &at(""), Value::Null).await.0, 403);
    let (status, receipt) = world.ask(&ann, &at("/reserve"), json!({})).await;
    assert_eq!((status, &receipt["operation"]), (200, &json!("reserve_tunnel")));
    assert_eq!(world.get(&at("")).await["current"]["kept_until"], Value::Null);
    let (_, receipt) = world.ask(&admin, &at("/reserve"), json!({ "reserved": false })).await;
    assert_eq!(receipt["operation"], "release_tunnel");
    let why = json!({ "reason": "a phish" });
    assert_eq!(world.ask(&ann, &at("/disable"), why.clone()).await.0, 403);
    assert_eq!(world.ask(&admin, &at("/disable"), why.clone()).await.0, 200);
    assert_eq!(world.send_as(&ann, Method::DELETE, &at(""), Value::Null).await.0, 403);
    assert_eq!(world.ask(&admin, &at("/enable"), json!({})).await.0, 200);
    assert_eq!(world.ask(world.root(), &at("/disable"), why).await.0, 200);
    assert_eq!(world.ask(&admin, &at("/enable"), json!({})).await.0, 403);
    assert_eq!(world.send_as(&admin, Method::DELETE, &at(""), Value::Null).await.0, 403);
    let refused =
        world.get(&format!("/v1/wait?kind=tunnel&ref={}&timeout_seconds=5", "default/demo")).await;
    assert_eq!(refused["outcome"], "failed", "no waiting brings it back");
    assert_eq!(world.ask(world.root(), &at("/enable"), json!({})).await.0, 200);
    let (status, taken) = world.ask(&admin, CREATE, json!({ "requested_name": "demo" })).await;
    assert_eq!(
        (status, &taken["receipt"]["desired"]["owner"]["actor"]["id"]),
        (201, &json!("ada"))
    );
    assert_eq!(world.ask(&ann, CREATE, json!({ "requested_name": "demo" })).await.0, 409);
}

#[tokio::test]
async fn tokens_are_in_nothing_that_is_kept_or_shown_later() {
    let world = World::new().await;
    let body = json!({ "requested_name": "demo", "management_token": world.root() });
    let (_, grant) = world.ask("", CREATE, body.clone()).await;
    let (_, keyed) = world.post(CREATE, &body, "key-00000001").await;
    let (_, fresh) = world.refresh(&grant["recreate_token"]).await;
    world.ask(world.root(), "/v1/tunnels/default%2Fdemo/rotate", json!({})).await;
    world.refresh(&grant["recreate_token"]).await;
    let mut texts = vec![
        world.get("/v1/events?after=0&limit=200").await.to_string(),
        world.get("/v1/audit?limit=200&all=true").await.to_string(),
        world.get("/v1/receipts?key=key-00000001").await.to_string(),
        world.get("/v1/tunnels/default%2Fdemo").await.to_string(),
        serde_json::to_string(&*world.engine().state()).unwrap(),
    ];
    texts.push(grant["receipt"].to_string());
    for secret in ["ephemeral_token", "recreate_token"] {
        for one in [&grant, &keyed, &fresh] {
            let signature = one[secret].as_str().unwrap().rsplit('.').next().unwrap();
            assert!(texts.iter().all(|text| !text.contains(signature)), "{secret}");
        }
    }
    assert!(texts.iter().all(|text| !text.contains(world.root())));
    let kept = std::fs::read_dir(world.dir().join("log")).unwrap();
    let mut shows_names = false;
    for file in kept.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        shows_names |= bytes.windows(14).any(|it| it == b"demo.localhost");
        let signature = grant["recreate_token"].as_str().unwrap().rsplit('.').next().unwrap();
        let has = bytes.windows(signature.len()).any(|it| it == signature.as_bytes());
        assert!(!has, "{}", file.display());
    }
    assert!(shows_names, "what is kept can be read at all");
}

#[tokio::test]
async fn without_an_edge_that_takes_agents_nothing_is_made() {
    let world = World::new().await;
    let front = "front".parse().unwrap();
    world.server().attach_edge(front, edge::Facts::default(), Arc::new(Deaf)).await.unwrap();
    let answer = world.ask(world.root(), CREATE, json!({})).await;
    assert_eq!(code(&answer), (503, "no_edge_for_tunnels"));
    assert_eq!(answer.1["retryable"], true);
    assert!(answer.1["hint"].as_str().unwrap().contains("helix edge"), "{}", answer.1);
    assert!(world.engine().state().tunnels.is_empty());
}

#[tokio::test]
async fn times_beyond_the_limits_are_cut_and_that_is_said() {
    let world = World::new().await;
    for (asked, kept) in [(1, 60), (3600, 3600), (99_999_999, 2_592_000)] {
        let grant = world.have(json!({ "recreate_token_ttl_seconds": asked })).await;
        let shown =
            world.get(&format!("/v1/tunnels/{}", grant["tunnel_id"].as_str().unwrap())).await;
        assert_eq!(shown["desired"]["kept_for_seconds"], kept);
        let note = grant["note"].as_str().unwrap_or_default();
        let expected = if asked == kept {
            String::new()
        } else {
            format!("recreate_token_ttl_seconds is {kept} instead of {asked}")
        };
        assert_eq!(note, expected);
    }
    for bad in [
        json!({ "requested_name": "www" }),
        json!({ "requested_name": "Demo" }),
        json!({ "port": 20000 }),
        json!({ "protocol": "udp", "hostname": "a.example" }),
        json!({ "region_hint": "x".repeat(65) }),
        json!({ "name": "demo" }),
    ] {
        assert_eq!(world.ask(world.root(), CREATE, bad.clone()).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_key_is_the_same_after_a_restart_and_under_another_seal() {
    let world = World::new().await;
    let grant = world.have(json!({ "requested_name": "demo" })).await;
    assert_eq!(world.post("/v1/admin/keys/rotate", &json!({}), "key-00000001").await.0, 200);
    assert_eq!(world.post("/v1/admin/keys/retire", &json!({}), "key-00000002").await.0, 200);
    let world = world.restarted().await;
    assert_eq!(world.engine().state().tunnel_keys.len(), 1);
    assert!(world.at_edge(&grant["ephemeral_token"]).is_ok());
    let (status, fresh) = world.refresh(&grant["recreate_token"]).await;
    assert_eq!(status, 200, "{fresh}");
    assert!(world.at_edge(&fresh["ephemeral_token"]).is_ok());
}

#[tokio::test]
async fn the_installation_vouches_for_hosts_of_tunnels_and_of_each_edge_itself() {
    let world = World::new().await;
    world.have(json!({ "requested_name": "demo" })).await;
    let of = |edge: &'static str, host: &'static str| {
        world.server().deliver_certificate(edge, host, None)
    };
    assert!(of("front", "demo.localhost").await.is_ok());
    assert!(of("front", "front.localhost").await.is_ok());
    for (edge, host) in [("front", "none.localhost"), ("other", "front.localhost")] {
        let refused = of(edge, host).await.unwrap_err();
        assert_eq!(refused.code, helix_model::Code::NotFound, "{edge} {host}");
    }
}

#[tokio::test]
async fn an_org_that_is_not_named_is_the_only_one_there_can_be() {
    let world = World::new().await;
    world.new_org("rival").await;
    let org = world.org_id("rival");
    let scopes = Some(Permissions::of(&[Permission::TunnelsWrite, Permission::TunnelsRead]));
    let service = world.token_of(Owner::Org(org), scopes).await;
    let (status, grant) = world.ask(&service, CREATE, json!({ "requested_name": "theirs" })).await;
    assert_eq!((status, &grant["receipt"]["subject"]["path"]), (201, &json!("rival/theirs")));
    let answer = world.ask(world.root(), CREATE, json!({})).await;
    assert_eq!(code(&answer), (400, "invalid_argument"));
    let (status, _) = world.ask(world.root(), "/v1/tunnels?org=rival", json!({})).await;
    assert_eq!(status, 201);
}

/// Has tunnels without a login be allowed.
async fn allow_anonymous(world: &World) {
    let allow = Settle::AnonymousTunnels(SetAnonymous { allowed: true });
    world.command(Command::Settle(allow)).await;
}

#[tokio::test]
async fn without_a_login_a_tunnel_is_had_as_it_comes_where_that_is_allowed() {
    let world = World::new().await;
    for path in [CREATE, "/tunnels/create"] {
        assert_eq!(code(&world.ask("", path, json!({})).await), (401, "unauthorized"));
    }
    allow_anonymous(&world).await;
    let (status, grant) = world.ask("", CREATE, json!({})).await;
    assert_eq!(status, 201, "{grant}");
    assert_eq!(grant["name"].as_str().unwrap().len(), 10, "{grant}");
    assert!(grant["note"].as_str().unwrap().contains("random"), "{grant}");
    let claims = world.at_edge(&grant["ephemeral_token"]).unwrap();
    assert_eq!(claims.org, world.org_id("anonymous").to_string());
    // What is chosen needs a login, and a bad one is none.
    for choice in [
        json!({ "requested_name": "demo" }),
        json!({ "hostname": "shop.example.com" }),
        json!({ "port": 20000 }),
        json!({ "protocol": "tcp" }),
    ] {
        assert_eq!(code(&world.ask("", CREATE, choice).await), (403, "anonymous_tunnel"));
    }
    let answer = world.ask("", "/v1/tunnels?org=default", json!({})).await;
    assert_eq!(code(&answer), (403, "anonymous_tunnel"));
    assert_eq!(code(&world.ask("hlx_wrong", CREATE, json!({})).await), (401, "unauthorized"));
    // Its recreate token is all that is needed for it, and for no other.
    let (status, fresh) = world.refresh(&grant["recreate_token"]).await;
    assert_eq!((status, &fresh["tunnel_id"]), (200, &grant["tunnel_id"]));
    let again = json!({ "recreate_token": fresh["recreate_token"] });
    let (status, same) = world.ask("", CREATE, again).await;
    assert_eq!((status, &same["tunnel_id"]), (201, &grant["tunnel_id"]));
    let theirs = world.have(json!({ "requested_name": "theirs" })).await;
    let claimed = json!({ "recreate_token": theirs["recreate_token"] });
    assert_eq!(code(&world.ask("", CREATE, claimed).await), (403, "access_denied"));

    // Operators see whose it is, others nothing; who names no org still means the first.
    let name = grant["name"].as_str().unwrap();
    let shown = world.get(&format!("/v1/tunnels/anonymous%2F{name}")).await;
    assert_eq!(shown["desired"]["owner"]["actor"]["id"], "anonymous", "{shown}");
    assert_eq!(shown["desired"]["kept_for_seconds"], 3600);
    let person = world.person("ann", Role::Owner).await;
    let (status, _) = world.get_as(&person, &format!("/v1/tunnels/anonymous%2F{name}")).await;
    assert_eq!(status, 404);
    let path = format!("/v1/tunnels/anonymous%2F{name}/disable");
    let (status, answer) = world.ask(world.root(), &path, json!({ "reason": "spam" })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(code(&world.refresh(&grant["recreate_token"]).await), (412, "tunnel_disabled"));
}

#[tokio::test]
async fn who_has_no_login_gets_few_tunnels_and_the_trail_says_from_where() {
    let world = World::new().await;
    allow_anonymous(&world).await;
    let mut made = 0;
    let refused = loop {
        let answer = world.ask("", CREATE, json!({})).await;
        match answer.0 {
            201 => made += 1,
            _ => break answer,
        }
        assert!(made < 10, "nothing bounds them");
    };
    assert_eq!(code(&refused), (429, "rate_limited"));
    let trail = world.get("/v1/audit?org=anonymous&operation=tunnel.created&limit=200").await;
    let created = trail["items"].as_array().unwrap();
    assert_eq!(created.len(), made, "{trail:#}");
    assert!(created.iter().all(|entry| entry["actor"]["id"] == "anonymous"), "{trail:#}");
    assert!(created.iter().all(|entry| entry["source"] == "127.0.0.1"), "{trail:#}");
}
