//! `GET /v1/events`: the log as people read it, in pages or as a stream.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use helix_log::{Entry, LogError, Position};
use helix_model::api::{EventLine, EventPage};
use helix_model::event::Recorded;
use helix_model::receipt::Affected;
use helix_model::reference::Scope;
use helix_model::{AnyId, Code, Kind, Problem, State as World};
use http::header;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Query};
use crate::server::Shared;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Entries read from the log at once.
const PAGE: usize = 1024;
/// Lines a slow reader may lag behind before it is waited for.
const STREAM_BUFFER: usize = 64;

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// `KIND/REF`.
    subject: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    /// The last so many, instead of those after a position.
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// A page, or with `follow=true` a stream that does not end.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiProblem> {
    let state = api.engine.state();
    let within = match &wanted.subject {
        Some(subject) => Some(subject_id(&state, &caller, subject, &scope)?),
        None => caller.narrow(&state, &scope)?,
    };
    let limit = wanted.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let head = state.position;
    drop(state);
    if wanted.follow {
        let first = match wanted.tail {
            Some(tail) => last(&api, &caller, within, tail.min(LIMIT_MAX), head).await?,
            None => Vec::new(),
        };
        let after = if wanted.tail.is_some() { head } else { wanted.after.unwrap_or(head) };
        return Ok(stream(&api, caller, within, first, after));
    }
    if wanted.after.is_none() {
        let items =
            last(&api, &caller, within, wanted.tail.unwrap_or(limit).min(LIMIT_MAX), head).await?;
        return Ok(Json(EventPage { items, next_after: head, position: head }).into_response());
    }
    let (items, next_after) = page(&api, &caller, within, wanted.after.unwrap_or(0), limit).await?;
    Ok(Json(EventPage { items, next_after, position: head }).into_response())
}

fn subject_id(state: &World, caller: &Caller, text: &str, scope: &Scope) -> Result<AnyId, Problem> {
    let Some((kind, reference)) = text.split_once('/') else {
        let detail = format!("`{text}` is not KIND/REFERENCE");
        return Err(Problem::new(Code::InvalidArgument, detail).field("subject", "write app/hello"));
    };
    let kind: Kind = kind.parse().map_err(|error: helix_model::kind::KindError| {
        Problem::new(Code::InvalidArgument, error.to_string())
    })?;
    // What is gone is no longer in the state, but its events are in the log.
    match reference.parse::<AnyId>() {
        Ok(id) if id.kind() == kind => Ok(id),
        _ => caller.resolve(state, kind, reference, scope),
    }
}

/// Up to `limit` events after a position, and where to go on.
async fn page(
    api: &Shared,
    caller: &Caller,
    within: Option<AnyId>,
    mut after: u64,
    limit: usize,
) -> Result<(Vec<EventLine>, u64), Problem> {
    let mut items = Vec::new();
    loop {
        let entries = read(api, after, PAGE).await?;
        if entries.is_empty() {
            return Ok((items, after));
        }
        let state = api.engine.state();
        for entry in &entries {
            after = entry.position.0;
            items.extend(line(&state, caller, entry, within)?);
            if items.len() == limit {
                return Ok((items, after));
            }
        }
    }
}

/// The newest `count` events up to `head`, oldest first. Walks back in pages,
/// so that a short tail of a long log is cheap.
async fn last(
    api: &Shared,
    caller: &Caller,
    within: Option<AnyId>,
    count: usize,
    head: u64,
) -> Result<Vec<EventLine>, Problem> {
    let mut newest_first: Vec<EventLine> = Vec::new();
    let mut end = head;
    while end > 0 && newest_first.len() < count {
        let start = end.saturating_sub(PAGE as u64);
        let entries = read(api, start, usize::try_from(end - start).unwrap_or(PAGE)).await?;
        let state = api.engine.state();
        for entry in entries.iter().rev().filter(|entry| entry.position.0 <= end) {
            newest_first.extend(line(&state, caller, entry, within)?);
            if newest_first.len() == count {
                break;
            }
        }
        end = start;
    }
    newest_first.reverse();
    Ok(newest_first)
}

async fn read(api: &Shared, after: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
    let read = api.engine.log().read(Position(after), limit).await;
    read.map_err(|error: LogError| {
        Problem::new(Code::Unavailable, format!("the event log cannot be read: {error}"))
    })
}

/// An entry as a line, if it is within what was asked for.
fn line(
    state: &World,
    caller: &Caller,
    entry: &Entry,
    within: Option<AnyId>,
) -> Result<Option<EventLine>, Problem> {
    let recorded: Recorded = serde_json::from_slice(&entry.payload).map_err(|error| {
        let position = entry.position;
        Problem::new(Code::Internal, format!("event {position} cannot be understood: {error}"))
    })?;
    let subject = recorded.event.subject();
    let wanted =
        within.is_none_or(|within| subject.is_some_and(|subject| subject.is_within(state, within)));
    if !wanted || !caller.sees_event(state, subject.as_ref()) {
        return Ok(None);
    }
    let subject = subject.map(|subject| Affected {
        kind: subject.id.kind(),
        id: subject.id,
        path: subject.path(state),
    });
    let value = serde_json::to_value(&recorded.event).unwrap_or(Value::Null);
    Ok(Some(EventLine {
        kind: recorded.event.name().to_owned(),
        ts: recorded.at,
        position: entry.position.0,
        actor: recorded.actor,
        request_id: recorded.request_id,
        subject,
        data: value.get("data").cloned().unwrap_or(Value::Null),
    }))
}

fn stream(
    api: &Api,
    caller: Caller,
    within: Option<AnyId>,
    first: Vec<EventLine>,
    after: u64,
) -> Response {
    let (sender, receiver) =
        mpsc::channel::<Result<String, std::convert::Infallible>>(STREAM_BUFFER);
    tokio::spawn(follow(Arc::clone(api), caller, within, first, after, sender));
    ndjson(Body::from_stream(ReceiverStream::new(receiver)))
}

/// Sends events as they are recorded, until the reader or the server is gone.
async fn follow(
    api: Api,
    caller: Caller,
    within: Option<AnyId>,
    first: Vec<EventLine>,
    mut after: u64,
    sender: mpsc::Sender<Result<String, std::convert::Infallible>>,
) {
    let mut position = api.engine.position();
    let closed = api.closed();
    tokio::pin!(closed);
    let mut lines = first;
    loop {
        for line in lines.drain(..) {
            let Ok(text) = serde_json::to_string(&line) else {
                return;
            };
            if sender.send(Ok(text + "\n")).await.is_err() {
                return;
            }
        }
        position.mark_unchanged();
        match page(&api, &caller, within, after, LIMIT_MAX).await {
            Ok((items, next)) => {
                lines = items;
                after = next;
            }
            Err(problem) => {
                tracing::warn!(%problem, "an event stream ends early");
                return;
            }
        }
        if lines.is_empty() {
            tokio::select! {
                changed = position.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                () = &mut closed => return,
            }
        }
    }
}

/// A response of JSON lines.
pub(super) fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
