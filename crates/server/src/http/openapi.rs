//! The API described: OpenAPI 3.1, made from the table of routes and the types
//! that are sent.
//!
//! [`DOCS`] says of each operation what the table does not: its query, its body
//! and its answer. A route without a row here fails a test. The document is kept
//! in `docs/openapi.json` (`cargo xtask openapi` writes it, a test compares) and
//! served at `/v1/openapi.json`. The registry's routes are the OCI distribution
//! specification's and not described again.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use helix_model::admin::{AuditVerdict, KeyChange, Retention, RetentionRun, StateVerdict};
use helix_model::api::access::{
    CreateUserRequest, DeviceStart, DeviceStartRequest, DeviceTokenRequest, MemberRequest,
    OperatorRequest, PasswordRequest, SetupReply, SetupRequest, TokenReply, TokenRequest, WhoAmI,
};
use helix_model::api::{AuthorityReport, CertificateRequest, DomainRequest};
use helix_model::api::{
    AvailabilityRequest, BackupsRequest, ConfigRequest, CreateRequest, DeployRequest, EventLine,
    EventPage, ExecToken, ExecTokenRequest, ExposeRequest, Ipv4Request, LogLine, Page,
    PromoteRequest, QuotaReport, QuotaRequest, RecordedChange, ReleaseRequest, ReplicaList,
    ResizeRequest, RollbackRequest, ScaleRequest, SecretsReport, SecretsRequest,
    SecretsRollbackRequest, SecretsStepRequest, Settled, SnapshotRequest, StreamEnd,
    StreamHeartbeat, TrafficCounters, TrafficLine, UsageIntervals, UsageReport, Version,
    VolumeRequest, WaitResult,
};
use helix_model::api::{
    ChangeTunnel, CreateTunnel, DisableTunnel, RefreshTunnel, ReserveTunnel, TunnelGrant,
};
use helix_model::api::{PolicyReport, RegistryReport, RegistryRequest};
use helix_model::audit::{AuditLine, AuditPage};
use helix_model::policy::Policy;
use helix_model::view::ResourceView;
use helix_model::{Kind, Problem, Receipt};
use http::{Method, header};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::pages::{LoginForm, SetupForm};
use super::routes::{ROUTES, Route, Rule};

/// What the table of routes does not say of an operation.
struct Doc {
    operation: &'static str,
    query: &'static [&'static [Param]],
    body: Option<Shape>,
    answer: Answer,
}

/// A schema by name, noting it and all it is made of among the components.
type Shape = fn(&mut Components) -> Value;

type Components = BTreeMap<String, Value>;

enum Answer {
    Json(Shape),
    /// Of a change, which an idempotency key makes safe to repeat.
    Receipt,
    /// The same, with more than its receipt.
    Change(Shape),
    /// The same of what is there from now on.
    Created(Shape),
    /// A page, or a stream when `follow=true`.
    PageOrLines(Shape, Shape),
    Lines(Shape),
    /// Bytes that are not JSON.
    Bytes,
    /// A page for people; its body is a form.
    Html,
    WebSocket,
}

struct Param {
    name: &'static str,
    kind: ParamKind,
    required: bool,
    about: &'static str,
}

enum ParamKind {
    Text,
    Whole { from: u64, to: u64 },
    Flag,
}

const fn text(name: &'static str, about: &'static str) -> Param {
    Param { name, kind: ParamKind::Text, required: false, about }
}

const fn whole(name: &'static str, from: u64, to: u64, about: &'static str) -> Param {
    Param { name, kind: ParamKind::Whole { from, to }, required: false, about }
}

const fn flag(name: &'static str, about: &'static str) -> Param {
    Param { name, kind: ParamKind::Flag, required: false, about }
}

const fn needed(name: &'static str, about: &'static str) -> Param {
    Param { name, kind: ParamKind::Text, required: true, about }
}

const SCOPE: &[Param] = &[
    text("org", "Completes references and narrows lists."),
    text("project", "Completes references and narrows lists."),
    text("app", "Completes references and narrows lists."),
    text("env", "Completes references and narrows lists."),
];

const PAGING: &[Param] = &[
    whole("limit", 1, super::resources::LIMIT_MAX as u64, "How many items a page has."),
    text("cursor", "`next_cursor` of the page before."),
];

const HEARTBEAT: Param = whole("heartbeat_seconds", 1, 300, "How long a stream may be silent.");
const FOLLOW: Param = flag("follow", "Go on with what comes, as a stream of lines.");
const TIMEOUT: Param = whole("timeout_seconds", 0, 600, "How long to wait.");

const EVENTS: &[Param] = &[
    text("subject", "KIND/REFERENCE: only events about this."),
    whole("after", 0, u64::MAX, "Only events after this log position."),
    whole("tail", 0, u64::MAX, "The last so many."),
    FOLLOW,
    HEARTBEAT,
];

const LOGS: &[Param] = &[
    text("process", "Only this process."),
    text("instance", "Only this instance."),
    text("release", "Only instances of this release."),
    text("deploy", "Only instances that this deploy called for."),
    whole("tail_lines", 0, 10_000, "The last so many lines."),
    whole("since_ms", 0, u64::MAX, "Only lines from this moment on, ms since 1970."),
    whole(
        "until_ms",
        0,
        u64::MAX,
        "Only lines before this moment, ms since 1970; not with `follow`.",
    ),
    text("grep", "Only lines in which this regular expression is found, at most 1,024 bytes."),
    text("stream", "Only `stdout` or only `stderr`."),
    FOLLOW,
    HEARTBEAT,
];

const TRAFFIC: &[Param] = &[
    whole("limit", 1, super::traffic::LIMIT_MAX as u64, "How many endpoints, the busiest first."),
    FOLLOW,
    HEARTBEAT,
];

const WAIT: &[Param] = &[
    needed("kind", "What kind of resource."),
    needed("ref", "Which one: id, path or name."),
    text("until", "`ready`, `gone`, or a condition such as `reconciling=false`."),
    TIMEOUT,
];

const PATIENCE: &[Param] = &[TIMEOUT];

const KEY: &[Param] = &[needed("key", "The idempotency key of the change.")];

const DESTROY: &[Param] = &[
    flag("cascade", "Also when there are apps in it."),
    whole("expected_version", 1, u64::MAX, "Refuse unless it is still this version."),
];

const PERIOD: &[Param] = &[
    text("since", "RFC 3339; the server says in the answer where it began."),
    text("until", "RFC 3339; now when absent."),
];

const AUDIT: &[Param] = &[
    whole("since_ms", 0, u64::MAX, "Only lines from this moment on, ms since 1970."),
    text("actor", "The name of a user, token, machine or reconciler."),
    text("decision", "`allow` or `deny`."),
    text("operation", "Only this operation."),
    text("org", "Only what is about this org."),
    flag("all", "Also what the platform did by itself."),
];

const CODE: &[Param] = &[text("code", "The code the program shows.")];

const EXEC: &[Param] = &[
    text("process", "Any ready instance of this process."),
    whole("max_seconds", 1, 86_400, "How long the command may run; an hour when absent."),
];

const PROCESS: &[Param] = &[text("process", "Any ready instance of this process.")];

const EXEC_TOKEN: &[Param] = &[needed("token", "What stands for the command.")];

macro_rules! docs {
    ($($operation:ident [$($query:expr),*] $(< $body:ty)? => $answer:expr;)*) => {
        const DOCS: &[Doc] = &[$(Doc {
            operation: stringify!($operation),
            query: &[$($query),*],
            body: docs!(@body $($body)?),
            answer: $answer,
        },)*];
    };
    (@body) => { None };
    (@body $body:ty) => { Some(shape::<$body>) };
}

docs! {
    health [] => Answer::Json(health);
    version [] => Answer::Json(shape::<Version>);
    openapi [] => Answer::Json(anything);
    list_events [SCOPE, EVENTS, PAGING] => Answer::PageOrLines(shape::<EventPage>, line::<EventLine>);
    read_logs [SCOPE, LOGS] => Answer::Lines(line::<LogLine>);
    wait [SCOPE, WAIT] => Answer::Json(shape::<WaitResult>);
    deploy [] < DeployRequest => Answer::Receipt;
    list_deploys [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    create_release [] < ReleaseRequest => Answer::Receipt;
    list_releases [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    promote [SCOPE] < PromoteRequest => Answer::Receipt;
    rollback [SCOPE] < RollbackRequest => Answer::Receipt;
    scale [SCOPE] < ScaleRequest => Answer::Receipt;
    set_ipv4 [SCOPE] < Ipv4Request => Answer::Receipt;
    configure [SCOPE] < ConfigRequest => Answer::Receipt;
    show_traffic [SCOPE, TRAFFIC] => Answer::PageOrLines(shape::<TrafficLine>, line::<TrafficLine>);
    show_traffic_counters [SCOPE] => Answer::Json(shape::<TrafficCounters>);
    expose_endpoint [SCOPE] < ExposeRequest => Answer::Receipt;
    unexpose_endpoint [SCOPE] => Answer::Receipt;
    show_secrets [SCOPE] => Answer::Json(shape::<SecretsReport>);
    set_secrets [SCOPE] < SecretsRequest => Answer::Receipt;
    rollback_secrets [SCOPE] < SecretsRollbackRequest => Answer::Receipt;
    apply_secrets [SCOPE] < SecretsStepRequest => Answer::Receipt;
    discard_secrets [SCOPE] < SecretsStepRequest => Answer::Receipt;
    confirm_no_secrets [SCOPE] < SecretsStepRequest => Answer::Receipt;
    exec [SCOPE, EXEC] => Answer::WebSocket;
    create_exec_token [SCOPE, PROCESS] < ExecTokenRequest => Answer::Json(shape::<ExecToken>);
    exec_with_token [EXEC_TOKEN] => Answer::WebSocket;
    verify_log [] => Answer::Json(shape::<AuditVerdict>);
    verify_state [] => Answer::Json(shape::<StateVerdict>);
    export [] => Answer::Bytes;
    rotate_keys [] => Answer::Json(shape::<KeyChange>);
    retire_keys [] => Answer::Json(shape::<KeyChange>);
    retention [] => Answer::Json(shape::<Retention>);
    run_retention [] => Answer::Json(shape::<RetentionRun>);
    find_receipt [KEY] => Answer::Json(shape::<Receipt>);
    read_receipt [] => Answer::Json(shape::<RecordedChange>);
    wait_receipt [PATIENCE] => Answer::Json(shape::<Settled>);
    wait_position [PATIENCE] => Answer::Json(shape::<Settled>);
    create_org [SCOPE] < CreateRequest => Answer::Receipt;
    list_orgs [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_org [SCOPE, DESTROY] => Answer::Receipt;
    describe_org [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_project [SCOPE] < CreateRequest => Answer::Receipt;
    list_projects [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_project [SCOPE, DESTROY] => Answer::Receipt;
    describe_project [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_app [SCOPE] < CreateRequest => Answer::Receipt;
    list_apps [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_app [SCOPE, DESTROY] => Answer::Receipt;
    describe_app [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_env [SCOPE] < CreateRequest => Answer::Receipt;
    list_envs [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_env [SCOPE, DESTROY] => Answer::Receipt;
    describe_env [SCOPE] => Answer::Json(shape::<ResourceView>);
    set_node_availability [SCOPE] < AvailabilityRequest => Answer::Receipt;
    destroy_node [SCOPE, DESTROY] => Answer::Receipt;
    describe_node [SCOPE] => Answer::Json(shape::<ResourceView>);
    destroy_edge [SCOPE, DESTROY] => Answer::Receipt;
    describe_edge [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_volume [SCOPE] < VolumeRequest => Answer::Receipt;
    list_volumes [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    set_volume_backups [SCOPE] < BackupsRequest => Answer::Receipt;
    resize_volume [SCOPE] < ResizeRequest => Answer::Receipt;
    destroy_volume [SCOPE, DESTROY] => Answer::Receipt;
    describe_volume [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_snapshot [SCOPE] < SnapshotRequest => Answer::Receipt;
    list_snapshots [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_snapshot [SCOPE, DESTROY] => Answer::Receipt;
    describe_snapshot [SCOPE] => Answer::Json(shape::<ResourceView>);
    add_certificate [SCOPE] < CertificateRequest => Answer::Receipt;
    list_certificates [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    destroy_certificate [SCOPE, DESTROY] => Answer::Receipt;
    describe_certificate [SCOPE] => Answer::Json(shape::<ResourceView>);
    add_domain [SCOPE] < DomainRequest => Answer::Receipt;
    list_domains [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    verify_domain [SCOPE] => Answer::Receipt;
    vouch_for_domain [SCOPE] => Answer::Receipt;
    destroy_domain [SCOPE, DESTROY] => Answer::Receipt;
    describe_domain [SCOPE] => Answer::Json(shape::<ResourceView>);
    create_tunnel [SCOPE] < CreateTunnel => Answer::Created(shape::<TunnelGrant>);
    create_tunnel_plainly [SCOPE] < CreateTunnel => Answer::Created(shape::<TunnelGrant>);
    list_tunnels [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    refresh_tunnel [] < RefreshTunnel => Answer::Json(shape::<TunnelGrant>);
    refresh_tunnel_plainly [] < RefreshTunnel => Answer::Json(shape::<TunnelGrant>);
    reserve_tunnel [SCOPE] < ReserveTunnel => Answer::Receipt;
    disable_tunnel [SCOPE] < DisableTunnel => Answer::Receipt;
    enable_tunnel [SCOPE] < ChangeTunnel => Answer::Receipt;
    rotate_tunnel [SCOPE] < ChangeTunnel => Answer::Receipt;
    destroy_tunnel [SCOPE, DESTROY] => Answer::Receipt;
    describe_tunnel [SCOPE] => Answer::Json(shape::<ResourceView>);
    show_authority [] => Answer::Json(shape::<AuthorityReport>);
    list_registries [SCOPE] => Answer::Json(shape::<RegistryReport>);
    set_registry [SCOPE] < RegistryRequest => Answer::Receipt;
    remove_registry [SCOPE] => Answer::Receipt;
    show_policy [SCOPE] => Answer::Json(shape::<PolicyReport>);
    set_policy [SCOPE] < Policy => Answer::Receipt;
    show_quotas [SCOPE] => Answer::Json(shape::<QuotaReport>);
    set_quotas [] < QuotaRequest => Answer::Receipt;
    show_usage [SCOPE, PERIOD] => Answer::Json(shape::<UsageReport>);
    list_usage_intervals [SCOPE, PERIOD] => Answer::Json(shape::<UsageIntervals>);
    begin_login [] < DeviceStartRequest => Answer::Json(shape::<DeviceStart>);
    poll_login [] < DeviceTokenRequest => Answer::Json(shape::<TokenReply>);
    choose_password [] < SetupRequest => Answer::Json(shape::<Receipt>);
    change_password [] < PasswordRequest => Answer::Json(shape::<Receipt>);
    whoami [] => Answer::Json(shape::<WhoAmI>);
    create_user [] < CreateUserRequest => Answer::Change(shape::<SetupReply>);
    list_users [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    new_setup_code [] => Answer::Json(shape::<SetupReply>);
    set_user_operator [] < OperatorRequest => Answer::Receipt;
    describe_user [SCOPE] => Answer::Json(shape::<ResourceView>);
    remove_user [] => Answer::Receipt;
    list_members [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    set_member [] < MemberRequest => Answer::Receipt;
    describe_member [SCOPE] => Answer::Json(shape::<ResourceView>);
    remove_member [SCOPE] => Answer::Receipt;
    list_tokens [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    create_token [] < TokenRequest => Answer::Change(shape::<TokenReply>);
    describe_token [SCOPE] => Answer::Json(shape::<ResourceView>);
    revoke_token [SCOPE] => Answer::Receipt;
    list_audit [AUDIT, PAGING] => Answer::Json(shape::<AuditPage>);
    export_audit [AUDIT] => Answer::Lines(line::<AuditLine>);
    link [] => Answer::WebSocket;
    list_replicas [] => Answer::Json(shape::<ReplicaList>);
    device_page [CODE] => Answer::Html;
    approve_login [] < LoginForm => Answer::Html;
    setup_page [] => Answer::Html;
    setup_password [] < SetupForm => Answer::Html;
    list_resources [SCOPE, PAGING] => Answer::Json(shape::<Page>);
    describe_resource [SCOPE] => Answer::Json(shape::<ResourceView>);
}

/// `GET /v1/openapi.json`.
pub(super) async fn serve() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string()).as_str();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The whole document.
pub fn document() -> Value {
    let mut components = Components::new();
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (route, doc) in ROUTES.iter().filter_map(|route| Some((route, doc_of(route)?))) {
        let method = route.method.as_str().to_lowercase();
        let operation = operation(route, doc, &mut components);
        paths.entry(route.path).or_default().insert(method, operation);
    }
    shape::<Problem>(&mut components);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "HelixStack",
            "version": "v1",
            "description": "docs/api.md says what holds for every route.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:7420" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn doc_of(route: &Route) -> Option<&'static Doc> {
    DOCS.iter().find(|doc| doc.operation == route.operation)
}

fn operation(route: &Route, doc: &Doc, components: &mut Components) -> Value {
    let mut parameters = path_parameters(route.path);
    parameters.extend(doc.query.iter().copied().flatten().map(parameter));
    if matches!(doc.answer, Answer::Receipt | Answer::Change(_) | Answer::Created(_)) {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Makes a repeat safe: the same key and request, the same receipt.",
            "schema": { "type": "string", "minLength": 8, "maxLength": 128, "pattern": "^[!-~]+$" },
        }));
    }
    let mut described = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses(route, doc, components),
    });
    match route.rule {
        Rule::Open => described["security"] = json!([]),
        Rule::OrgOrAnyone(permission) => {
            described["security"] = json!([{ "token": [] }, {}]);
            described["x-scope"] = json!(permission.as_str());
        }
        Rule::Org(permission) | Rule::Installation(permission) => {
            described["x-scope"] = json!(permission.as_str());
        }
        Rule::SignedIn | Rule::Reads | Rule::Repository(_) => {}
    }
    if let Some(body) = doc.body {
        let schema = body(components);
        let kind = match doc.answer {
            Answer::Html => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        described["requestBody"] =
            json!({ "required": true, "content": { kind: { "schema": schema } } });
    }
    described
}

/// The names in braces of a path.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let schema = |name| match name {
        "kind" => json!({ "type": "string", "enum": other_kinds(path) }),
        "position" => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schema(name) }))
        .collect()
}

/// The kinds a path with `{kind}` is described for: all but those with a row of
/// their own, which is another path to the reader of the document.
fn other_kinds(path: &str) -> Vec<&'static str> {
    let length = path.split('/').count();
    let has_row = |kind: &&str| {
        let mut rows = ROUTES.iter().map(|row| row.path.split('/'));
        rows.any(|row| row.clone().count() == length && row.clone().nth(2) == Some(kind))
    };
    Kind::ALL.into_iter().map(Kind::plural).filter(|kind| !has_row(kind)).collect()
}

fn parameter(param: &Param) -> Value {
    let schema = match param.kind {
        ParamKind::Text => json!({ "type": "string" }),
        ParamKind::Whole { from, to } => {
            json!({ "type": "integer", "minimum": from, "maximum": to })
        }
        ParamKind::Flag => json!({ "type": "boolean" }),
    };
    json!({
        "name": param.name, "in": "query", "required": param.required,
        "description": param.about, "schema": schema,
    })
}

/// Statuses of refusals that any route with a token may answer with.
const REFUSALS: &[u16] = &[400, 401, 403, 404, 405, 429, 500, 503, 504];

/// Of what anyone may know: only what was sent along can be wrong.
const REFUSALS_OF_FACTS: &[u16] = &[400, 500, 504];

/// Of how one becomes known, which wants no token.
const REFUSALS_OF_LOGINS: &[u16] = &[400, 403, 404, 429, 500, 503, 504];

/// Those of routes that change something besides.
const REFUSALS_OF_CHANGES: &[u16] = &[409, 412, 413, 422, 501];

fn responses(route: &Route, doc: &Doc, components: &mut Components) -> Value {
    let mut answers = serde_json::Map::new();
    let one = |schema: Value| json!({ "application/json": { "schema": schema } });
    let lines = |schema: Value| json!({ "application/x-ndjson": { "schema": schema } });
    let (status, content) = match &doc.answer {
        Answer::Json(shape) | Answer::Change(shape) => ("200", one(shape(components))),
        Answer::Created(shape) => ("201", one(shape(components))),
        Answer::Receipt => ("200", one(shape::<Receipt>(components))),
        Answer::Lines(line) => ("200", lines(line(components))),
        Answer::PageOrLines(page, line) => {
            let mut content = one(page(components));
            content["application/x-ndjson"] = json!({ "schema": line(components) });
            ("200", content)
        }
        Answer::Bytes => {
            let schema = json!({ "type": "string", "format": "binary" });
            ("200", json!({ "application/octet-stream": { "schema": schema } }))
        }
        Answer::Html => ("200", html()),
        Answer::WebSocket => ("101", Value::Null),
    };
    let mut answer = json!({ "description": route.summary, "headers": headers() });
    if !content.is_null() {
        answer["content"] = content;
    }
    answers.insert(status.to_owned(), answer);
    let of_changes = if route.method == Method::GET { &[] } else { REFUSALS_OF_CHANGES };
    let also = if matches!(doc.answer, Answer::WebSocket) { &[409, 412, 426][..] } else { &[] };
    let refusals = match (route.rule, &doc.answer, &route.method) {
        (Rule::Open, Answer::Json(_), &Method::GET) => REFUSALS_OF_FACTS,
        (Rule::Open, ..) => REFUSALS_OF_LOGINS,
        _ => REFUSALS,
    };
    for status in refusals.iter().chain(of_changes).chain(also) {
        let problem = json!({ "$ref": "#/components/schemas/Problem" });
        let mut refusal = json!({
            "description": "A problem; `code` says which.",
            "headers": headers(),
            "content": { "application/problem+json": { "schema": problem } },
        });
        if matches!(doc.answer, Answer::Html) {
            refusal["content"]["text/html"] = html()["text/html"].clone();
        }
        answers.insert(status.to_string(), refusal);
    }
    Value::Object(answers)
}

fn html() -> Value {
    json!({ "text/html": { "schema": { "type": "string" } } })
}

fn headers() -> Value {
    json!({
        "x-request-id": { "schema": { "type": "string" }, "description": "The request's id." },
        "helix-position": {
            "schema": { "type": "integer" }, "description": "The log position this reflects.",
        },
    })
}

/// A type that is sent.
fn shape<T: ToSchema>(components: &mut Components) -> Value {
    let name = T::name().into_owned();
    if !components.contains_key(&name) {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        parts.push((name.clone(), T::schema()));
        let written = parts.into_iter().map(|(name, schema)| (name, json!(schema)));
        components.extend(written);
    }
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A line of a stream of these.
fn line<T: ToSchema>(components: &mut Components) -> Value {
    let kinds = [
        shape::<T>(components),
        shape::<StreamHeartbeat>(components),
        shape::<StreamEnd>(components),
    ];
    json!({ "description": "One JSON document per line.", "oneOf": kinds })
}

fn health(_components: &mut Components) -> Value {
    json!({
        "type": "object", "required": ["ok"], "properties": { "ok": { "type": "boolean" } },
    })
}

fn anything(_components: &mut Components) -> Value {
    json!({ "type": "object" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let missing: Vec<_> = ROUTES
            .iter()
            .filter(|route| !route.path.starts_with("/v2") && doc_of(route).is_none())
            .map(|route| route.operation)
            .collect();
        assert!(missing.is_empty(), "no row in `docs!` of openapi.rs for {missing:?}");
        for doc in DOCS {
            let known = ROUTES.iter().any(|route| route.operation == doc.operation);
            assert!(known, "`{}` is described and is no route", doc.operation);
        }
    }

    #[test]
    fn everything_referred_to_is_there() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    /// `cargo xtask openapi` runs this to write the document.
    #[test]
    fn the_document_that_is_kept_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let mut now = serde_json::to_string_pretty(&document()).unwrap();
        now.push('\n');
        if std::env::var_os("HELIX_WRITE_OPENAPI").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == now, "docs/openapi.json is out of date: run `cargo xtask openapi`");
    }
}
