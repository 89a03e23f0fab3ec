//! Every route against every kind of caller, from the table of routes.
//!
//! The tenant is the org `default` with the app `shop`; `rival` is another org,
//! whose owner has every right there and must not see a trace of the first. A
//! new route has no request here and fails the test; the snapshot shows in
//! review what it lets whom do.

use std::fmt::Write as _;

use expect_test::expect_file;
use helix_model::token::Owner;
use helix_model::{
    Actor, Command, Id, Org, Permission, Permissions, Role, Timestamp, User, token, tunnel, volume,
};
use helix_server::{ROUTES, Route, Rule};
use reqwest::Method;
use serde_json::{Value, json};

use crate::people::now;
use crate::world::{World, deploy_body};

const SCOPE: &str = "org=default&project=default&app=shop&env=production";

struct Callers {
    named: Vec<(&'static str, String)>,
    scoped: Vec<(Permission, String)>,
}

/// A request that asks for something of the tenant, and changes nothing that
/// the next one needs.
fn request(route: &Route, receipt: &str) -> Option<(String, Value)> {
    let path = |path: &str| Some((path.to_owned(), Value::Null));
    let with = |path: &str, body: Value| Some((path.to_owned(), body));
    let missing = format!("helix.internal/default/default/shop@sha256:{}", "0".repeat(64));
    match route.operation {
        "list_events" | "list_deploys" | "list_releases" => {
            path(&format!("{}?org=default", route.path))
        }
        "read_logs" => path(&format!("/v1/logs?{SCOPE}")),
        "wait" => path("/v1/wait?kind=app&ref=default/default/shop&timeout_seconds=0"),
        "deploy" => with(route.path, deploy_body("shop", &missing)),
        "create_release" => with(route.path, {
            let mut body = deploy_body("shop", &missing);
            body.as_object_mut()?.remove("env");
            body
        }),
        // Expects that there is no such env, so that nothing is deployed.
        "promote" => with(
            "/v1/promotions?org=default&project=default",
            json!({ "app": "shop", "env": "production", "release": "v1", "expected_version": 0 }),
        ),
        "rollback" => with(route.path, json!({ "env": "default/default/shop@production" })),
        "scale" => with(
            "/v1/envs/default%2Fdefault%2Fshop@production/scale",
            json!({ "processes": { "none": 1 } }),
        ),
        // There are no addresses to be had.
        "set_ipv4" => {
            with("/v1/envs/default%2Fdefault%2Fshop@production/ipv4", json!({ "enabled": true }))
        }
        "configure" => with(
            "/v1/envs/default%2Fdefault%2Fshop@production/config",
            json!({ "processes": { "none": {} } }),
        ),
        "expose_endpoint" => with(
            "/v1/envs/default%2Fdefault%2Fshop@production/endpoints",
            json!({ "endpoint": { "process": "none" } }),
        ),
        "unexpose_endpoint" => path("/v1/envs/default%2Fdefault%2Fshop@production/endpoints/none"),
        "show_secrets" => path("/v1/envs/default%2Fdefault%2Fshop@production/secrets"),
        "set_secrets" => with(
            "/v1/envs/default%2Fdefault%2Fshop@production/secrets",
            json!({ "unset": ["NONE"] }),
        ),
        "rollback_secrets" => with(
            "/v1/envs/default%2Fdefault%2Fshop@production/secrets/rollback",
            json!({ "to": "no number" }),
        ),
        "apply_secrets" | "discard_secrets" | "confirm_no_secrets" => {
            let step = route.path.rsplit('/').next()?;
            let body = json!({ "expected_version": 1 });
            with(&format!("/v1/envs/default%2Fdefault%2Fshop@production/secrets/{step}"), body)
        }
        "exec" => path(&format!("/v1/instances/-/exec?{SCOPE}")),
        "create_exec_token" => {
            with(&format!("/v1/instances/-/exec/tokens?{SCOPE}"), json!({ "command": ["true"] }))
        }
        "list_resources" => path("/v1/releases?org=default"),
        "describe_resource" => path("/v1/releases/default%2Fdefault%2Fshop:v1"),
        "list_orgs"
        | "list_projects"
        | "list_apps"
        | "list_envs"
        | "list_volumes"
        | "list_snapshots"
        | "list_certificates"
        | "list_domains"
        | "list_tunnels"
        | "show_quotas"
        | "list_registries"
        | "show_policy"
        | "show_traffic"
        | "show_traffic_counters"
        | "show_usage"
        | "list_usage_intervals" => path(&format!("{}?org=default", route.path)),
        "describe_org" | "destroy_org" => path("/v1/orgs/default"),
        "describe_project" | "destroy_project" => path("/v1/projects/default%2Fdefault"),
        "describe_app" => path("/v1/apps/default%2Fdefault%2Fshop"),
        "describe_env" => path("/v1/envs/default%2Fdefault%2Fshop@production"),
        // Of a version nobody has seen, so that nothing is destroyed.
        "destroy_app" => path("/v1/apps/default%2Fdefault%2Fshop?expected_version=1"),
        "destroy_env" => path("/v1/envs/default%2Fdefault%2Fshop@production?expected_version=1"),
        "set_node_availability" => {
            with("/v1/nodes/none/availability", json!({ "availability": "active" }))
        }
        "describe_node" | "destroy_node" => path("/v1/nodes/none"),
        "describe_edge" | "destroy_edge" => path("/v1/edges/none"),
        "create_org" => with(route.path, json!({ "name": "default" })),
        "create_project" => with("/v1/projects?org=default", json!({ "name": "default" })),
        "create_app" => with("/v1/apps?org=default&project=default", json!({ "name": "shop" })),
        "create_env" => {
            with("/v1/envs?org=default&project=default&app=shop", json!({ "name": "production" }))
        }
        // It has no data yet.
        "create_snapshot" => with("/v1/snapshots?org=default", json!({ "volume": "default/data" })),
        "describe_snapshot" | "destroy_snapshot" => path("/v1/snapshots/default%2Fnone"),
        "create_volume" => {
            with("/v1/volumes?org=default", json!({ "name": "none", "size_bytes": 1 }))
        }
        // Smaller than it may be.
        "set_volume_backups" => with("/v1/volumes/default%2Fdata/backups", json!({})),
        "resize_volume" => with("/v1/volumes/default%2Fdata/resize", json!({ "size_bytes": 1 })),
        "describe_volume" => path("/v1/volumes/default%2Fdata"),
        "destroy_volume" => path("/v1/volumes/default%2Fdata?expected_version=1"),
        // Of no use, so that nothing is changed.
        "add_certificate" => {
            with("/v1/certificates?org=default", json!({ "certificate": "none", "key": "none" }))
        }
        "describe_certificate" | "destroy_certificate" => path("/v1/certificates/default%2Fnone"),
        "add_domain" => with("/v1/domains?org=default", json!({ "domain": "shop.example" })),
        // An operator has vouched for it, so that nothing hangs on DNS.
        "verify_domain" => with("/v1/domains/default%2Fshop-example/verify", Value::Null),
        "vouch_for_domain" => with("/v1/domains/default%2Fshop-example/vouch", Value::Null),
        "describe_domain" => path("/v1/domains/default%2Fshop-example"),
        "destroy_domain" => path("/v1/domains/default%2Fshop-example?expected_version=1"),
        // Of no use, so that nothing is made.
        "create_tunnel" | "create_tunnel_plainly" => {
            with(&format!("{}?org=default", route.path), json!({ "port": 1 }))
        }
        "describe_tunnel" => path("/v1/tunnels/default%2Fdemo"),
        "destroy_tunnel" => path("/v1/tunnels/default%2Fdemo?expected_version=1"),
        "disable_tunnel" => with("/v1/tunnels/default%2Fdemo/disable", json!({ "reason": "" })),
        "reserve_tunnel" | "enable_tunnel" | "rotate_tunnel" => {
            let step = route.path.rsplit('/').next()?;
            let body = json!({ "expected_version": 1 });
            with(&format!("/v1/tunnels/default%2Fdemo/{step}"), body)
        }
        "set_registry" => with(
            "/v1/registries?org=default",
            json!({ "host": "no host", "username": "u", "password": "p" }),
        ),
        "remove_registry" => path("/v1/registries/none.example?org=default"),
        "set_policy" => with("/v1/policy?org=default", json!({})),
        "set_quotas" => with(route.path, json!({ "org": "default", "limits": {} })),
        "find_receipt" => path("/v1/receipts?key=key-00000001"),
        "read_receipt" => path(&format!("/v1/receipts/{receipt}")),
        "wait_receipt" => path(&format!("/v1/receipts/{receipt}/wait?timeout_seconds=0")),
        "wait_position" => path("/v1/positions/1/wait?timeout_seconds=0"),
        "export" | "rotate_keys" | "retire_keys" | "retention" | "run_retention" => {
            path(route.path)
        }
        // Refused behind the rule, because it does not ask for a WebSocket.
        "link" => path(route.path),
        "verify_log" | "verify_state" | "whoami" | "list_users" | "list_members"
        | "list_tokens" | "list_replicas" | "show_authority" => path(route.path),
        "list_audit" | "export_audit" => path(&format!("{}?org=default", route.path)),
        "change_password" => with(route.path, json!({ "current": "x", "new": "y" })),
        "create_user" => with(route.path, json!({ "name": "again", "email": "nowhere" })),
        "describe_user" => path("/v1/users/boss"),
        "new_setup_code" => with("/v1/users/boss/setup", Value::Null),
        "set_user_operator" => with("/v1/users/boss/operator", json!({ "operator": false })),
        // The last owner stays, whoever asks.
        "remove_user" => path("/v1/users/boss"),
        "set_member" => {
            with(route.path, json!({ "org": "default", "user": "looker", "role": "readonly" }))
        }
        "describe_member" => path("/v1/members/default%2Fboss"),
        "remove_member" => path("/v1/members/default%2Fboss"),
        "create_token" => with(
            route.path,
            json!({ "name": "made", "service": true, "org": "default", "scopes": ["apps:read"] }),
        ),
        "describe_token" => path("/v1/tokens/default%2Fkeeper"),
        "revoke_token" => path("/v1/tokens/default%2Fkeeper"),
        "registry_root" | "registry_ping" => path(route.path),
        "registry_pull" => path("/v2/default/default/shop/tags/list"),
        "registry_upload" => with("/v2/default/default/shop/blobs/uploads/", Value::Null),
        "registry_append" | "registry_put" | "registry_cancel" => {
            path("/v2/default/default/shop/blobs/uploads/none")
        }
        _ => None,
    }
}

/// What an answer says about the right to it.
fn verdict(status: u16, operation: &str, body: &Value) -> char {
    // An upload that does not exist is found missing behind the registry's rule.
    let unknown_upload = body["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN";
    match status {
        401 | 429 => 'U',
        403 => 'F',
        404 if unknown_upload => '+',
        404 => '-',
        500.. => panic!("{operation}: {status} {body}"),
        _ => '+',
    }
}

async fn callers(world: &World) -> Callers {
    world.new_org("rival").await;
    let mut named = vec![("none", String::new()), ("unknown", "hx_at_unknown".to_owned())];
    let tenant = Owner::Org(world.org_id("default"));
    let expired = world.token_until(tenant, Some(everything()), Timestamp(now().0 + 50)).await;
    named.push(("expired", expired));
    let revoked = world.token_of(tenant, Some(everything())).await;
    let state = world.engine().state();
    let last = state.tokens.iter().last().unwrap().id;
    world.command(Command::RevokeToken(last)).await;
    named.push(("revoked", revoked));
    let rival = world.new_member("rival", "rival-owner", Role::Owner).await;
    named.push(("rival", world.token_of(Owner::User(rival), None).await));
    let users = [
        ("readonly", "looker", Role::Readonly),
        ("developer", "maker", Role::Developer),
        ("admin", "keeper", Role::Admin),
        ("owner", "boss", Role::Owner),
    ];
    for (label, user, role) in users {
        let user = world.new_member("default", user, role).await;
        named.push((label, world.token_of(Owner::User(user), None).await));
    }
    named.push(("operator", world.root().to_owned()));
    let mut scoped = Vec::new();
    for permission in Permission::ALL {
        if *permission != Permission::NodesAdmin {
            let scopes = Permissions::of(&[*permission]);
            scoped.push((*permission, world.token_of(tenant, Some(scopes)).await));
        }
    }
    while now().0 < state.tokens.iter().next().map_or(0, |it| it.spec.expires_at.0) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Callers { named, scoped }
}

/// All that a service token may have.
fn everything() -> Permissions {
    Permission::ALL.iter().copied().filter(|it| *it != Permission::NodesAdmin).collect()
}

/// Asks, and again when the org has asked for too much in all: this test alone does.
async fn ask(world: &World, receipt: &str, route: &Route, token: &str) -> char {
    loop {
        let (status, body) = ask_once(world, receipt, route, token).await;
        let detail = body["detail"].as_str().or(body["errors"][0]["message"].as_str());
        if status != 429 || !detail.is_some_and(|detail| detail.contains("of the org")) {
            return verdict(status, route.operation, &body);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn ask_once(world: &World, receipt: &str, route: &Route, token: &str) -> (u16, Value) {
    if route.operation == "revoke_token" {
        keep(world).await;
    }
    let (path, body) = request(route, receipt)
        .unwrap_or_else(|| panic!("say in matrix.rs how to ask for `{}`", route.operation));
    let mut asked = world.request_as(token, route.method.clone(), &path);
    if !body.is_null() {
        asked = asked.json(&body);
    }
    if route.operation == "exec" {
        asked = asked
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    let response = asked.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

/// A tunnel whose owner is gone, so that it is the whole org's.
fn demo(org: Id<Org>) -> Command {
    let gone: Id<User> = Id::new(Timestamp(1), 1);
    let owner = tunnel::Owner { actor: Actor::User("gone".to_owned()), id: Some(gone.any()) };
    Command::ChangeTunnel(Box::new(tunnel::Ask::Create(tunnel::Create {
        org,
        owner,
        may_take_over: false,
        protocol: tunnel::Protocol::Http,
        name: "demo".parse().ok(),
        hostname: None,
        port: None,
        kept_for_seconds: 3600,
    })))
}

/// Makes the token that the next request may revoke.
async fn keep(world: &World) {
    let org = world.org_id("default");
    let name = "keeper".parse().unwrap();
    let state = world.engine().state();
    if state.tokens.named(Some(org.any()), &name).is_some() {
        return;
    }
    let spec = helix_model::Token {
        owner: Owner::Org(org),
        scopes: Some(Permissions::of(&[Permission::AppsRead])),
        org: None,
        expires_at: Timestamp(now().0 + 1_000_000),
    };
    let hash = helix_server::Token::fresh().hash().model();
    world.command(Command::CreateToken(token::Create { name, spec, hash })).await;
}

#[tokio::test]
async fn each_route_lets_in_whom_it_should_and_shows_other_tenants_nothing() {
    let world = World::new().await;
    let deployed = world.deploy("shop", "key-00000001").await;
    let receipt = deployed["id"].as_str().unwrap();
    let callers = callers(&world).await;
    keep(&world).await;
    let (org, name) = (world.org_id("default"), "data".parse().unwrap());
    let create = volume::Create { org, name, size_bytes: 1 << 30, node: None, source: None };
    world.command(Command::CreateVolume(create)).await;
    let id = world.add_domain("shop.example").await;
    world.command(Command::VouchForDomain(id)).await;
    world.command(demo(org)).await;
    let mut table = String::from(
        "# + let in, F forbidden, - not found, U unauthorized (or made to wait for it)\n# one letter each for: ",
    );
    let labels: Vec<_> = callers.named.iter().map(|(label, _)| *label).collect();
    writeln!(table, "{}; then the scopes that let a service token in", labels.join(" ")).unwrap();
    for route in ROUTES.iter().filter(|route| route.rule != Rule::Open) {
        let mut letters = String::new();
        for (label, token) in &callers.named {
            let letter = ask(&world, receipt, route, token).await;
            if ["none", "unknown", "expired", "revoked"].contains(label) {
                assert_eq!(letter, 'U', "{} as {label}", route.operation);
            }
            letters.push(letter);
        }
        let mut scopes = Vec::new();
        for (permission, token) in &callers.scoped {
            if ask(&world, receipt, route, token).await == '+' {
                scopes.push(permission.as_str());
            }
        }
        let all = if scopes.len() == callers.scoped.len() { vec!["any"] } else { scopes };
        let line = format!("{letters} {} {}", route.operation, all.join(" "));
        writeln!(table, "{}", line.trim_end()).unwrap();
    }
    expect_file!["./matrix.txt"].assert_eq(&table);
}

#[tokio::test]
async fn nothing_of_another_org_is_listed_described_followed_or_run() {
    let world = World::new().await;
    world.deploy("shop", "key-00000001").await;
    world.new_org("rival").await;
    let rival = world.new_member("rival", "rival-owner", Role::Owner).await;
    let rival = world.token_of(Owner::User(rival), None).await;
    for kind in helix_model::Kind::ALL {
        let (status, page) = world.get_as(&rival, &format!("/v1/{}", kind.plural())).await;
        if status == 403 {
            assert!(matches!(kind, helix_model::Kind::Node | helix_model::Kind::Edge), "{kind}");
            continue;
        }
        assert_eq!(status, 200, "{kind}: {page}");
        let paths: Vec<&str> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["path"].as_str().unwrap())
            .collect();
        assert!(paths.iter().all(|path| path.starts_with("rival")), "{kind}: {paths:?}");
        let (_, all) = world.try_get(&format!("/v1/{}", kind.plural())).await;
        for item in all["items"].as_array().unwrap() {
            let (id, path) = (item["id"].as_str().unwrap(), item["path"].as_str().unwrap());
            let (status, problem) =
                world.get_as(&rival, &format!("/v1/{}/{id}", kind.plural())).await;
            let own = path.starts_with("rival");
            assert!(own || matches!(status, 403 | 404), "{kind} {path}: {status} {problem}");
        }
    }
    let (_, events) = world.get_as(&rival, "/v1/events?after=0&limit=200").await;
    for event in events["items"].as_array().unwrap() {
        let path = event["subject"]["path"].as_str().unwrap();
        assert!(path.starts_with("rival"), "{event}");
    }
    let (status, problem) = world.get_as(&rival, "/v1/apps/default%2Fdefault%2Fshop").await;
    let (_, absent) = world.get_as(&rival, "/v1/apps/default%2Fdefault%2Fnone").await;
    assert_eq!(status, 404);
    let told = problem["detail"].as_str().unwrap().replace("shop", "none");
    assert_eq!(told, absent["detail"].as_str().unwrap(), "existence must not show");

    let body = deploy_body("shop", &world.image);
    let mut body = body;
    body["org"] = json!("rival");
    let (status, problem) = world.send_as(&rival, Method::POST, "/v1/deploys", body).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("image_not_found")), "{problem}");
}
