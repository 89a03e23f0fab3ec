//! The client against a double of the wire: what is sent, how answers and
//! broken connections are taken. The real server is tested end to end
//! elsewhere.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{Client, ClientError, EventQuery, ExecReceived, ExecTarget, ListQuery, LogQuery};
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use helix_model::api::{EventLine, ExecEnd, ExecRequest, ScaleRequest, exec_frame};
use helix_model::reference::Scope;
use helix_model::{Actor, Code, Kind, Problem, Receipt, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the double was asked, in order.
type Asked = Arc<Mutex<Vec<String>>>;

async fn serve(routes: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Client::new(&url, Some("token-one")).unwrap()
}

fn event(position: u64) -> String {
    let event = EventLine {
        kind: "deploy.created".into(),
        ts: Timestamp(0),
        position,
        actor: Actor::System("test".into()),
        request_id: "req".into(),
        subject: None,
        data: json!({}),
    };
    serde_json::to_string(&event).unwrap() + "\n"
}

fn heartbeat(position: u64) -> String {
    let line = json!({"type": "heartbeat", "ts": Timestamp(0), "position": position});
    line.to_string() + "\n"
}

fn end(position: u64) -> String {
    let reason = "server_closing";
    let line = json!({"type": "end", "ts": Timestamp(0), "reason": reason, "position": position});
    line.to_string() + "\n"
}

fn receipt(position: u64) -> Receipt {
    Receipt {
        id: format!("rcpt_{position}"),
        operation: "env.scale".into(),
        position,
        at: Timestamp(0),
        actor: Actor::Token("local".into()),
        request_id: "req".into(),
        subject: None,
        affected: Vec::new(),
        desired: Value::Null,
        current: Value::Null,
        warnings: Vec::new(),
        next: Vec::new(),
    }
}

/// Pieces that leave one at a time: what is ready at once is sent as one, and a
/// body that breaks at once breaks before its head is sent.
fn one_by_one<T>(pieces: Vec<T>) -> impl tokio_stream::Stream<Item = T> {
    tokio_stream::StreamExt::then(tokio_stream::iter(pieces), async |piece| {
        tokio::task::yield_now().await;
        piece
    })
}

#[tokio::test]
async fn references_and_scopes_arrive_whole() {
    let asked = Asked::default();
    let answer = |State(asked): State<Asked>, Path(reference): Path<String>, request: Request| async move {
        let query = request.uri().query().unwrap_or_default();
        let token = request.headers()["authorization"].to_str().unwrap();
        asked.lock().unwrap().push(format!("{reference} {query} {token}"));
        Problem::not_found(Kind::Instance, &reference).detail
    };
    let routes = Router::new().route("/v1/instances/{reference}", get(answer));
    let client = serve(routes.with_state(Arc::clone(&asked))).await;
    let scope = Scope { org: Some("acme".into()), ..Scope::default() };
    let failure = client.get(Kind::Instance, "acme/shop/web@prod/web-1", &scope).await.unwrap_err();
    assert!(matches!(failure, ClientError::Malformed { .. }), "{failure}");
    assert_eq!(*asked.lock().unwrap(), ["acme/shop/web@prod/web-1 org=acme Bearer token-one"]);
}

#[tokio::test]
async fn problems_keep_their_code_and_strangers_are_named() {
    async fn answer(Path(kind): Path<String>) -> Response {
        match kind.as_str() {
            "apps" => {
                (StatusCode::NOT_FOUND, Json(Problem::not_found(Kind::App, "x"))).into_response()
            }
            "envs" => (StatusCode::BAD_GATEWAY, "<html>").into_response(),
            "nodes" => (StatusCode::MOVED_PERMANENTLY, [("location", "http://example.net/")])
                .into_response(),
            _ => "not json".into_response(),
        }
    }
    let client = serve(Router::new().route("/v1/{kind}", get(answer))).await;
    let code = async |kind| {
        let list = client.list(kind, &ListQuery::default(), &Scope::default()).await;
        let failure = list.unwrap_err();
        (failure.code(), failure.exit_code())
    };
    assert_eq!(code(Kind::App).await, (Code::NotFound, 4));
    assert_eq!(code(Kind::Env).await, (Code::Unavailable, 6));
    assert_eq!(code(Kind::Org).await, (Code::Internal, 7));
    assert_eq!(code(Kind::Node).await, (Code::Internal, 7), "a redirect must not be followed");
    assert!(matches!(Client::new("ftp://x", None), Err(ClientError::Unusable { .. })));
    let nobody = Client::new("http://127.0.0.1:1", None).unwrap();
    let failure = nobody.health().await.unwrap_err();
    assert_eq!(failure.exit_code(), 6);
    assert!(failure.into_problem().detail.contains("http://127.0.0.1:1: "));
}

#[tokio::test]
async fn one_reads_ones_own_writes() {
    let asked = Asked::default();
    async fn changed(headers: HeaderMap) -> Json<Receipt> {
        assert!(headers["idempotency-key"].len() >= 8);
        Json(receipt(41))
    }
    async fn read(State(asked): State<Asked>, headers: HeaderMap) -> Response {
        let wait =
            headers.get("helix-wait-position").map(|value| value.to_str().unwrap().to_owned());
        asked.lock().unwrap().push(wait.unwrap_or_default());
        Json(json!({"items": [], "next_cursor": null, "position": 41})).into_response()
    }
    let routes = Router::new()
        .route("/v1/envs/{env}/scale", post(changed))
        .route("/v1/apps", get(read))
        .with_state(Arc::clone(&asked));
    let client = serve(routes).await;
    let read = async || client.list_all(Kind::App, &Scope::default()).await.unwrap();
    read().await;
    let request =
        ScaleRequest { processes: [("web".parse().unwrap(), 3)].into(), expected_version: None };
    client.scale("production", &request, &Scope::default()).await.unwrap();
    read().await;
    assert_eq!(*asked.lock().unwrap(), ["", "41"]);
}

#[tokio::test]
async fn a_change_whose_connection_breaks_is_sent_again_under_the_same_key() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut keys = Vec::new();
        for attempt in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let text = String::from_utf8(request).unwrap();
            let key = text.lines().find(|line| line.starts_with("idempotency-key")).unwrap();
            keys.push(key.to_owned());
            if attempt == 1 {
                let body = serde_json::to_string(&receipt(7)).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        }
        keys
    });
    let client = Client::new(&url, None).unwrap();
    let request =
        ScaleRequest { processes: [("web".parse().unwrap(), 3)].into(), expected_version: None };
    let receipt = client.scale("production", &request, &Scope::default()).await.unwrap();
    assert_eq!(receipt.position, 7);
    let keys = server.await.unwrap();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_followed_stream_goes_on_where_it_broke() {
    let asked = Asked::default();
    async fn answer(State(asked): State<Asked>, uri: Uri) -> Response {
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(uri.query().unwrap().to_owned());
            asked.len()
        };
        // The first ends in the middle of a line, the second says goodbye, the
        // third stays.
        let lines: Vec<Result<Bytes, std::io::Error>> = match number {
            1 => vec![
                Ok(event(8).into()),
                Ok(event(9)[..10].to_owned().into()),
                Err(std::io::Error::other("broken")),
            ],
            2 => vec![Ok((event(9) + &end(9)).into())],
            _ => vec![Ok((event(10) + "\n" + &heartbeat(10) + &event(11)).into())],
        };
        let mut response = Body::from_stream(one_by_one(lines)).into_response();
        response.headers_mut().insert("helix-position", "7".parse().unwrap());
        response
    }
    let routes = Router::new().route("/v1/events", get(answer));
    let client = serve(routes.with_state(Arc::clone(&asked))).await;
    let mut stream = client.follow_events(EventQuery::default(), Scope::default()).await.unwrap();
    let mut positions = Vec::new();
    for _ in 0..4 {
        positions.push(stream.next().await.unwrap().position);
    }
    assert_eq!(positions, [8, 9, 10, 11]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..3], ["follow=true", "after=8&follow=true", "after=9&follow=true"]);
}

#[tokio::test]
async fn log_lines_arrive_whole_however_they_are_cut() {
    async fn answer(uri: Uri) -> Response {
        assert_eq!(uri.query(), Some("tail_lines=2&env=production"));
        let line = json!({
            "type": "log", "ts": "2026-01-31T12:00:00Z", "instance": "web-1", "instance_id": "x",
            "process": "web", "stream": "stdout", "line": "grüße",
        });
        let bytes = Bytes::from(line.to_string() + "\n" + &line.to_string() + "\n");
        let pieces = (0..bytes.len())
            .step_by(7)
            .map(move |start| Ok::<_, Infallible>(bytes.slice(start..bytes.len().min(start + 7))));
        Body::from_stream(one_by_one(pieces.collect())).into_response()
    }
    let client = serve(Router::new().route("/v1/logs", get(answer))).await;
    let query = LogQuery { tail_lines: Some(2), ..LogQuery::default() };
    let scope = Scope { env: Some("production".into()), ..Scope::default() };
    let mut stream = client.logs(&query, &scope).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        lines.push(line.line);
    }
    assert_eq!(lines, ["grüße", "grüße"]);
}

#[tokio::test]
async fn followed_logs_go_on_after_a_break_without_repeating_a_line() {
    let asked = Asked::default();
    let line = |millisecond: i64, instance: &str, text: &str| {
        let line = json!({
            "type": "log", "ts": Timestamp(millisecond), "instance": instance,
            "instance_id": instance, "process": "web", "stream": "stdout", "line": text,
        });
        line.to_string() + "\n"
    };
    let answer = move |State(asked): State<Asked>, uri: Uri| async move {
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(uri.query().unwrap().to_owned());
            asked.len()
        };
        let first = line(1, "a", "a1") + &line(2, "b", "b1") + &line(5, "a", "a2");
        let same = first.clone() + &line(5, "a", "a3");
        match number {
            1 => same,
            // What was there already, and what came meanwhile.
            _ => same + &line(5, "a", "a4") + &line(6, "b", "b2"),
        }
    };
    let routes = Router::new().route("/v1/logs", get(answer));
    let client = serve(routes.with_state(Arc::clone(&asked))).await;
    let query = LogQuery { follow: true, tail_lines: Some(7), ..LogQuery::default() };
    let mut stream = client.logs(&query, &Scope::default()).await.unwrap();
    let mut lines = Vec::new();
    for _ in 0..6 {
        lines.push(stream.next().await.unwrap().unwrap().line);
    }
    assert_eq!(lines, ["a1", "b1", "a2", "a3", "a4", "b2"]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..2], ["tail_lines=7&follow=true", "tail_lines=10000&since_ms=2&follow=true"]);
}

/// Echoes standard input to both outputs until it is closed, then exits with 3.
async fn echo(upgrade: WebSocketUpgrade, Path(instance): Path<String>) -> Response {
    if instance == "gone" {
        let problem = Problem::not_found(Kind::Instance, &instance);
        return (StatusCode::NOT_FOUND, Json(problem)).into_response();
    }
    upgrade.on_upgrade(|mut socket| async move {
        let Some(Ok(Message::Text(first))) = socket.recv().await else {
            return;
        };
        let request: ExecRequest = serde_json::from_str(&first).unwrap();
        assert_eq!(request.command, ["cat"]);
        while let Some(Ok(message)) = socket.recv().await {
            let Message::Binary(frame) = message else {
                continue;
            };
            assert_eq!(frame[0], exec_frame::STDIN);
            if frame.len() == 1 {
                break;
            }
            for tag in [exec_frame::STDOUT, exec_frame::STDERR] {
                let mut back = vec![tag];
                back.extend_from_slice(&frame[1..]);
                socket.send(Message::Binary(back.into())).await.unwrap();
            }
        }
        let end = ExecEnd { exit_code: Some(3), reason: "exited".into(), message: String::new() };
        let mut last = vec![exec_frame::EXIT];
        last.extend(serde_json::to_vec(&end).unwrap());
        socket.send(Message::Binary(last.into())).await.unwrap();
    })
}

#[tokio::test]
async fn exec_carries_bytes_both_ways_and_the_exit_code_back() {
    let client = serve(Router::new().route("/v1/instances/{instance}/exec", any(echo))).await;
    let request = ExecRequest {
        command: vec!["cat".into()],
        tty: false,
        cols: 0,
        rows: 0,
        env: Default::default(),
    };
    let target = ExecTarget::default();
    let (mut input, mut output) = client.exec(&target, &request, &Scope::default()).await.unwrap();
    input.stdin(b"\x00hi").await.unwrap();
    input.stdin(b"").await.unwrap();
    let hi = Bytes::from_static(b"\x00hi");
    assert_eq!(output.next().await.unwrap(), Some(ExecReceived::Stdout(hi.clone())));
    assert_eq!(output.next().await.unwrap(), Some(ExecReceived::Stderr(hi)));
    input.close_stdin().await.unwrap();
    let Some(ExecReceived::End(end)) = output.next().await.unwrap() else { panic!("no end") };
    assert_eq!(end.exit_code, Some(3));
    let gone = ExecTarget { instance: Some("gone".into()), process: None, max_seconds: None };
    let Err(refused) = client.exec(&gone, &request, &Scope::default()).await else {
        panic!("it ran")
    };
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_wait_of_no_time_asks_once() {
    let asked = Asked::default();
    async fn answer(State(asked): State<Asked>, uri: Uri) -> Response {
        asked.lock().unwrap().push(uri.query().unwrap().to_owned());
        let now = Timestamp(0);
        Json(json!({
            "outcome": "timed_out", "position": 1,
            "resource": {
                "kind": "app", "id": "app_01KG9YS7G00000000000000001", "name": "hello",
                "path": "a/b/hello", "created_at": now, "updated_at": now, "version": 1,
                "desired": {}, "current": {}, "conditions": [],
            },
        }))
        .into_response()
    }
    let routes = Router::new().route("/v1/wait", get(answer));
    let client = serve(routes.with_state(Arc::clone(&asked))).await;
    let waited = client.wait(Kind::App, "hello", Duration::ZERO, &Scope::default()).await.unwrap();
    assert_eq!(waited.outcome, helix_model::api::WaitOutcome::TimedOut);
    assert_eq!(*asked.lock().unwrap(), ["kind=app&ref=hello&timeout_seconds=0"]);
}
