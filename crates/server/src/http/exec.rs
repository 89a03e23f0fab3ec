//! `GET /v1/instances/{ref}/exec`: a command in an instance, over a WebSocket.
//!
//! The first message is JSON, what to run; then binary frames (see
//! [`exec_frame`]) until the exit frame. When the client goes, the command is
//! hung up on. With a token for one command ([`super::exec_tokens`]) what to run is
//! known, and there is no first message.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::response::Response;
use helix_model::api::{ExecEnd, ExecRequest, exec_frame};
use helix_model::instance::{Desired, Phase};
use helix_model::reference::{self, Scope};
use helix_model::{Code, Id, Instance, Kind, Node, Problem, State as World};
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Caller;
use super::identity::{self, Guest};
use super::problem::{ApiProblem, Path, Query};
use super::{Api, forward};
use crate::exec_sessions::{At, Running};
use crate::links::{Exec, ExecInput, ExecOutput, ExecSession, frame};
use crate::token::Token;

/// How long the client may take to say what to run.
const REQUEST_WAIT: Duration = Duration::from_secs(10);
/// Largest message from a client.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long a command may run when nobody says otherwise, and at most, seconds.
const SECONDS_DEFAULT: u64 = 3600;
const SECONDS_MAX: u64 = 24 * 3600;

/// What is kept of a command line in the audit trail, bytes.
const AUDITED_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
pub(super) struct Wanted {
    process: Option<String>,
    max_seconds: Option<u64>,
}

/// The one thing that who has only a token for a command says.
#[derive(Deserialize)]
pub(super) struct Shown {
    token: String,
}

/// A session that was let through.
struct Granted {
    at: At,
    node: Id<Node>,
    /// When it is ended.
    deadline: Instant,
    /// Counted while it lasts.
    _running: Running,
}

/// Upgrades and runs. `-` as reference means any ready instance of the env.
pub(super) async fn exec(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let state = api.engine.state();
    let id = meant(&state, &caller, &reference, &scope, &wanted)?;
    let (node, at) = running_on(&state, id)?;
    drop(state);
    let max = duration(wanted.max_seconds)?;
    if let Some(url) = forward::elsewhere(&api, node, request.headers()) {
        return Ok(forward::upgrade(&api, &url, &caller.guest, request).await?);
    }
    let upgrade = upgrade(request).await?;
    let granted = grant(&api, &caller, (node, at), max)?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        let request = asked(&mut socket).await;
        run(api, caller, granted, request, socket).await;
    }))
}

/// Upgrades and runs what a token stands for.
pub(super) async fn exec_with_token(
    State(api): State<Api>,
    Extension(guest): Extension<Guest>,
    Path(instance): Path<Id<Instance>>,
    Query(shown): Query<Shown>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let refuse = || {
        guest.note(&api, "exec_with_token", &instance.to_string(), "unknown_token");
        let problem = Problem::new(Code::Forbidden, "the token is not valid here");
        let hint = "a token for a command is good once and for a minute; ask for another";
        guest.failed(&api, problem.hint(hint))
    };
    let state = api.engine.state();
    // Who has no valid token does not learn what there is.
    let (node, at) = running_on(&state, instance).map_err(|_| refuse())?;
    drop(state);
    if let Some(url) = forward::elsewhere(&api, node, request.headers()) {
        return Ok(forward::upgrade(&api, &url, &guest, request).await?);
    }
    let upgrade = upgrade(request).await?;
    let token = Token::from_text(&shown.token).hash();
    let ticket = api.exec_tokens.take(token, instance).ok_or_else(refuse)?;
    let granted = grant(&api, &ticket.caller, (node, at), ticket.max)?;
    Ok(upgrade
        .on_upgrade(move |socket| run(api, ticket.caller, granted, Ok(ticket.request), socket)))
}

async fn upgrade(request: Request) -> Result<WebSocketUpgrade, ApiProblem> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await?;
    Ok(upgrade.max_message_size(MESSAGE_BYTES_MAX))
}

/// Counts a command in.
fn grant(
    api: &Api,
    caller: &Caller,
    (node, at): (Id<Node>, At),
    max: Duration,
) -> Result<Granted, Problem> {
    let running = api.exec_sessions.begin(at, !caller.power.everywhere.is_empty())?;
    Ok(Granted { at, node, deadline: Instant::now() + max, _running: running })
}

/// The instance a request is about: `-` is any ready one of the env.
pub(super) fn meant(
    state: &World,
    caller: &Caller,
    reference: &str,
    scope: &Scope,
    wanted: &Wanted,
) -> Result<Id<Instance>, Problem> {
    if reference == "-" {
        return any_ready(state, caller, scope, wanted.process.as_deref());
    }
    let found = caller.resolve(state, Kind::Instance, reference, scope)?;
    found.typed().ok_or_else(|| Problem::not_found(Kind::Instance, reference))
}

/// How long a command may run.
pub(super) fn duration(seconds: Option<u64>) -> Result<Duration, Problem> {
    let seconds = seconds.unwrap_or(SECONDS_DEFAULT);
    if (1..=SECONDS_MAX).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    let detail = format!("a command may run 1 to {SECONDS_MAX} seconds");
    Err(Problem::new(Code::InvalidArgument, detail).field("max_seconds", "out of range"))
}

fn any_ready(
    state: &World,
    caller: &Caller,
    scope: &Scope,
    process: Option<&str>,
) -> Result<Id<Instance>, Problem> {
    let Some(env) = reference::scoped_env(state, scope) else {
        return Err(Problem::not_found(Kind::Env, scope.env.as_deref().unwrap_or_default()));
    };
    caller.must_reach(state, env.id.any(), scope.env.as_deref().unwrap_or_default())?;
    let ready = state.instances.children(env.id.any()).filter(|it| {
        it.spec.desired == Desired::Running && it.status.observed.phase == Phase::Ready
    });
    let mut ready: Vec<_> = ready
        .filter(|it| process.is_none_or(|process| it.spec.process.as_str() == process))
        .collect();
    ready.sort_by_key(|it| (it.spec.process.as_str() != "web", it.id));
    ready.first().map(|it| it.id).ok_or_else(|| {
        Problem::new(Code::PreconditionFailed, "no instance is ready")
            .hint("`helix status` shows what the instances are doing")
    })
}

pub(super) fn running_on(state: &World, id: Id<Instance>) -> Result<(Id<Node>, At), Problem> {
    let Some(instance) = state.instances.get(id) else {
        return Err(Problem::not_found(Kind::Instance, &id.to_string()));
    };
    let phase = instance.status.observed.phase;
    if matches!(phase, Phase::Starting | Phase::Ready | Phase::Unready) {
        let spec = &instance.spec;
        return Ok((spec.node, At { org: spec.org, env: spec.env, instance: id }));
    }
    let phase = serde_json::to_value(phase).unwrap_or_default();
    let phase = phase.as_str().unwrap_or("not running").to_owned();
    let detail = format!("instance `{}` is {phase}", instance.name);
    Err(Problem::new(Code::PreconditionFailed, detail)
        .hint("`helix describe` of the instance says why"))
}

async fn run(
    api: Api,
    caller: Caller,
    granted: Granted,
    request: Result<ExecRequest, String>,
    mut socket: WebSocket,
) {
    let session = match request {
        Ok(request) => begin(&api, &caller, &granted, request).await,
        Err(message) => Err(message),
    };
    let end = match session {
        Ok(session) => {
            let end = pump(&api, &caller, session, granted.deadline, &mut socket).await;
            record_end(&api, &caller, granted.at, end.as_ref()).await;
            end
        }
        Err(message) => {
            Some(ExecEnd { exit_code: None, reason: "not_started".to_owned(), message })
        }
    };
    if let Some(end) = end {
        let json = serde_json::to_vec(&end).unwrap_or_default();
        let _ = socket.send(Message::Binary(frame(exec_frame::EXIT, &json))).await;
        let _ = socket.send(Message::Close(None)).await;
    }
}

/// What was begun is recorded already; that its end cannot be is for the log.
async fn record_end(api: &Api, caller: &Caller, at: At, end: Option<&ExecEnd>) {
    let (reason, detail) = match end {
        None => ("client_disconnect", String::new()),
        Some(ExecEnd { exit_code: Some(code), .. }) => ("exited", format!("code {code}")),
        Some(end) => (end.reason.as_str(), String::new()),
    };
    let id = at.instance.any();
    if let Err(problem) = caller.recorded_with(api, "exec_ended", id, (reason, detail)).await {
        tracing::error!(problem = problem.detail, "the end of a command is not recorded");
    }
}

/// What the client says first.
async fn asked(socket: &mut WebSocket) -> Result<ExecRequest, String> {
    let first = tokio::time::timeout(REQUEST_WAIT, socket.recv()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err("the first message must be what to run, as JSON".to_owned());
    };
    serde_json::from_str(&text)
        .map_err(|error| format!("the first message is not what to run: {error}"))
}

async fn begin(
    api: &Api,
    caller: &Caller,
    granted: &Granted,
    request: ExecRequest,
) -> Result<ExecSession, String> {
    if request.command.is_empty() {
        return Err("there is no command to run".to_owned());
    }
    let Some(link) = api.linked(granted.node) else {
        return Err("its node is not connected".to_owned());
    };
    // Once, by the replica that runs it, and before it does.
    let id = granted.at.instance;
    let detail = shown(&request.command, request.tty);
    let recorded = caller.recorded_with(api, "exec", id.any(), ("allowed", detail)).await;
    recorded.map_err(|problem| problem.detail)?;
    let exec = Exec {
        command: request.command,
        tty: request.tty,
        cols: request.cols,
        rows: request.rows,
        env: request.env,
    };
    link.exec(id, exec).await.map_err(|refused| refused.message)
}

/// A command line for the audit trail, as JSON words; cut when it is long.
pub(super) fn shown(command: &[String], tty: bool) -> String {
    let mut text = serde_json::to_string(command).unwrap_or_default();
    if text.len() > AUDITED_BYTES_MAX {
        text.truncate(text.floor_char_boundary(AUDITED_BYTES_MAX));
        text.push('…');
    }
    if tty { format!("{text} in a terminal") } else { text }
}

/// Passes frames both ways; the end of the command, or `None` when the client
/// went first.
async fn pump(
    api: &Api,
    caller: &Caller,
    mut session: ExecSession,
    deadline: Instant,
    socket: &mut WebSocket,
) -> Option<ExecEnd> {
    let closed = identity::ended(api, caller);
    let overdue = tokio::time::sleep_until(deadline);
    tokio::pin!(closed, overdue);
    loop {
        tokio::select! {
            output = session.output.recv() => {
                let message = match output {
                    Some(ExecOutput::Exit(code)) => return Some(ended(Some(code), "exited")),
                    Some(output) => Message::Binary(output.encode()),
                    None => return Some(ended(None, "instance_gone")),
                };
                socket.send(message).await.ok()?;
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(input) = ExecInput::decode(&bytes) {
                        // The command's end is told by its output, not here.
                        let _ = session.input.send(input).await;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            },
            _ = &mut closed => return Some(ended(None, "session_closed")),
            () = &mut overdue => return Some(ended(None, "timeout")),
        }
    }
}

fn ended(exit_code: Option<i32>, reason: &str) -> ExecEnd {
    ExecEnd { exit_code, reason: reason.to_owned(), message: String::new() }
}
