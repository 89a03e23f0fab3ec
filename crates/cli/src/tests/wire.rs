//! A double of the wire: the API's routes over the fixture's state.
//!
//! Reads go through the model's own views and references. Changes are noted and
//! answered with a receipt; nothing reconciles here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use helix_image::{Store, registry};
use helix_model::api::{
    EventPage, ExecRequest, LogLine, Version, WaitOutcome, WaitResult, WrittenPage, exec_frame,
};
use helix_model::receipt::Affected;
use helix_model::reference::{self, Scope};
use helix_model::{Actor, Code, Kind, Problem, Receipt, State as World, Timestamp, deploy, view};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fixture;

pub(super) const TOKEN: &str = "token-of-the-double";

/// A running double; it goes with the test's runtime.
pub(super) struct Wire {
    pub(super) url: String,
    double: Double,
    _registry: tempfile::TempDir,
}

/// What the routes share.
#[derive(Clone)]
struct Double {
    world: Arc<World>,
    heard: Heard,
    waited: Arc<AtomicBool>,
}

/// The changes that were asked for: the path and the body.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

impl Wire {
    /// Over the whole history.
    pub(super) async fn start() -> Wire {
        Wire::serving(fixture::state()).await
    }

    pub(super) async fn serving(world: World) -> Wire {
        let double =
            Double { world: Arc::new(world), heard: Heard::default(), waited: Arc::default() };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let routes = Router::new()
            .route("/v1/version", get(version))
            .route("/v1/wait", get(wait))
            .route("/v1/events", get(events))
            .route("/v1/logs", get(logs))
            .route("/v1/deploys", post(change).get(list_deploys))
            .route("/v1/rollbacks", post(change))
            .route("/v1/envs/{env}/scale", post(change))
            .route("/v1/tunnels/{tunnel}/{verb}", post(change))
            .route("/v1/instances/{instance}/exec", get(exec))
            .route("/v1/{kind}", get(list).post(change))
            .route("/v1/{kind}/{reference}", get(describe).delete(change))
            .with_state(double.clone())
            .layer(from_fn(authorize))
            .merge(registry::router(
                store,
                Arc::new(|asking, _| asking.headers.contains_key("authorization").into()),
            ));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Wire { url, double, _registry: folder }
    }

    /// The body of the one change that was asked for.
    pub(super) fn heard(&self) -> (String, Value) {
        let heard = self.double.heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard[0].clone()
    }
}

fn refuse(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, Json(problem)).into_response()
}

async fn authorize(request: Request, next: Next) -> Response {
    let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let open = request.uri().path() == "/v1/version";
    if open || sent == Some(&format!("Bearer {TOKEN}")) {
        return next.run(request).await;
    }
    refuse(Problem::new(Code::Unauthorized, "the token is not known"))
}

async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").into(), api: "v1".into() })
}

async fn list_deploys(double: State<Double>, scope: Query<Scope>) -> Response {
    list(double, Path("deploys".to_owned()), scope).await
}

async fn list(
    State(double): State<Double>,
    Path(kind): Path<String>,
    Query(scope): Query<Scope>,
) -> Response {
    let state = &*double.world;
    let kind: Kind = kind.parse().unwrap();
    match view::narrow(state, &scope) {
        Ok(within) => Json(WrittenPage {
            items: view::list(state, kind, within, None, 200, &|_| true),
            next_cursor: None,
            position: state.position,
        })
        .into_response(),
        Err(problem) => refuse(problem),
    }
}

async fn describe(
    State(double): State<Double>,
    Path((kind, reference)): Path<(String, String)>,
    Query(scope): Query<Scope>,
) -> Response {
    let state = &*double.world;
    let kind: Kind = kind.parse().unwrap();
    match reference::resolve(state, kind, &reference, &scope) {
        Ok(id) => Json(view::view(state, id).unwrap()).into_response(),
        Err(problem) => refuse(problem),
    }
}

#[derive(Deserialize)]
struct Wanted {
    kind: String,
    #[serde(rename = "ref")]
    reference: String,
}

async fn wait(
    State(double): State<Double>,
    Query(wanted): Query<Wanted>,
    Query(scope): Query<Scope>,
) -> Response {
    double.waited.store(true, Ordering::Relaxed);
    let state = &*double.world;
    let kind: Kind = wanted.kind.parse().unwrap();
    let id = match reference::resolve(state, kind, &wanted.reference, &scope) {
        Ok(id) => id,
        Err(problem) => return refuse(problem),
    };
    let resource = view::view(state, id).unwrap();
    let phase = serde_json::from_value::<deploy::Phase>(resource.current["phase"].clone());
    let ready = resource.conditions.iter().any(|condition| {
        condition.status && condition.kind == helix_model::condition::ConditionKind::Ready
    });
    let outcome = match phase {
        Ok(deploy::Phase::Failed) => WaitOutcome::Failed,
        _ if ready => WaitOutcome::Satisfied,
        _ => WaitOutcome::TimedOut,
    };
    Json(WaitResult { outcome, resource, position: state.position }).into_response()
}

/// Nothing happens here: a page without events, a stream without lines.
async fn events(uri: Uri) -> Response {
    if uri.query().unwrap_or_default().contains("follow=true") {
        let never = futures_pending();
        return axum::body::Body::from_stream(never).into_response();
    }
    Json(EventPage { items: Vec::new(), next_cursor: None, next_after: 0, position: 0 })
        .into_response()
}

fn futures_pending() -> impl tokio_stream::Stream<Item = Result<Bytes, std::io::Error>> {
    tokio_stream::pending()
}

async fn logs(uri: Uri) -> Response {
    let instance =
        if uri.query().unwrap_or_default().contains("instance=") { "web-2" } else { "web-1" };
    let line = |stream: &str, text: &str| {
        let line = LogLine {
            kind: "log".into(),
            ts: Timestamp::parse(fixture::BEGAN).unwrap(),
            instance: instance.into(),
            instance_id: String::new(),
            process: "web".into(),
            stream: stream.into(),
            line: text.into(),
            truncated: false,
            dropped: 0,
        };
        serde_json::to_string(&line).unwrap() + "\n"
    };
    (line("stdout", "starting") + &line("stderr", "no such table: pages")).into_response()
}

/// `web-1` says who it is and exits with 3, `web-2` goes away meanwhile; others
/// are refused before anything begins.
async fn exec(Path(instance): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    let end = match instance.as_str() {
        "web-1" | "-" => json!({ "exit_code": 3, "reason": "exited" }),
        "web-2" => json!({ "exit_code": null, "reason": "instance_gone" }),
        _ => return refuse(Problem::not_found(Kind::Instance, &instance)),
    };
    upgrade.on_upgrade(async move |mut socket| {
        let first = socket.recv().await.unwrap().unwrap();
        let request: ExecRequest = serde_json::from_str(first.to_text().unwrap()).unwrap();
        let said = format!("{} {}\n", request.command.join(" "), request.tty);
        let end = end.to_string();
        for (tag, payload) in [(exec_frame::STDOUT, said), (exec_frame::EXIT, end)] {
            let mut frame = vec![tag];
            frame.extend(payload.into_bytes());
            socket.send(Message::Binary(frame.into())).await.unwrap();
        }
        // Open until the client goes, as the real one is.
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Notes the change. An app called `bad` gets the deploy that failed.
async fn change(
    State(double): State<Double>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let key = headers.get("idempotency-key").map_or(0, axum::http::HeaderValue::len);
    assert!((8..=128).contains(&key), "an idempotency key is missing");
    let body: Value = match body.is_empty() {
        true => json!({ "query": uri.query().unwrap_or_default() }),
        false => serde_json::from_slice(&body).unwrap(),
    };
    let number = if body["image"].as_str().unwrap_or_default().contains("bad") { 2 } else { 1 };
    let deploy = fixture::id::<helix_model::Deploy>(number).any();
    double.heard.lock().unwrap().push((uri.path().to_owned(), body));
    Json(Receipt {
        id: "rcpt_19".into(),
        operation: "deploy.create".into(),
        position: 19,
        at: Timestamp::parse(fixture::BEGAN).unwrap(),
        actor: Actor::Token("local".into()),
        request_id: "req".into(),
        subject: Some(Affected {
            kind: Kind::Deploy,
            id: deploy,
            path: format!("default/default/hello@production/d{number}"),
        }),
        affected: Vec::new(),
        desired: json!({ "intent": "deploy", "scale": { "web": 3 } }),
        current: Value::Null,
        warnings: Vec::new(),
        next: vec![format!("helix wait deploy/d{number}")],
    })
    .into_response()
}

impl Wire {
    pub(super) fn has_been_waited_on(&self) -> bool {
        self.double.waited.load(Ordering::Relaxed)
    }

    pub(super) fn has_heard(&self) -> bool {
        !self.double.heard.lock().unwrap().is_empty()
    }
}

/// Waits until the condition holds; a minute is far beyond any real run.
pub(super) async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it did not happen");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The status of a request to the registry, which speaks plain HTTP/1.1.
pub(super) async fn status_of(url: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "HEAD /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
