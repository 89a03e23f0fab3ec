//! `GET /v1/events`: the log as people read it, in pages or as a stream.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use helix_log::{Entry, LogError, Position};
use helix_model::api::{EndReason, EventLine, EventPage};
use helix_model::event::Recorded;
use helix_model::receipt::Affected;
use helix_model::reference::Scope;
use helix_model::{AnyId, Code, Kind, Problem, State as World};
use serde::Deserialize;
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Query};
use super::streams::{self, Stream};
use super::{cursor, resources};
use crate::server::Shared;

const LIMIT_MAX: usize = resources::LIMIT_MAX;
/// Entries read from the log at once.
const PAGE: usize = 1024;

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// `KIND/REF`.
    subject: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    /// The last so many, instead of those after a position.
    tail: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    #[serde(default)]
    follow: bool,
    /// How long a stream may be silent.
    heartbeat_seconds: Option<u64>,
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
    let limit = resources::limit(wanted.limit)?;
    let heartbeat = streams::heartbeat(wanted.heartbeat_seconds)?;
    let after = match &wanted.cursor {
        Some(given) => Some(cursor::decode_position(given)?),
        None => wanted.after,
    };
    let head = state.position;
    drop(state);
    if wanted.follow {
        let first = match wanted.tail {
            Some(tail) => last(&api, &caller, within, tail.min(LIMIT_MAX), head).await?,
            None => Vec::new(),
        };
        let after = if wanted.tail.is_some() { head } else { after.unwrap_or(head) };
        let (stream, response) = streams::open(&api, &caller, heartbeat);
        tokio::spawn(follow(api, caller, within, first, after, stream));
        return Ok(response);
    }
    let Some(after) = after else {
        let count = wanted.tail.unwrap_or(limit).min(LIMIT_MAX);
        let items = last(&api, &caller, within, count, head).await?;
        let (next_after, position) = (head, head);
        return Ok(
            Json(EventPage { items, next_cursor: None, next_after, position }).into_response()
        );
    };
    let (items, next_after) = page(&api, &caller, within, after, limit).await?;
    let next_cursor = (items.len() == limit).then(|| cursor::encode_position(next_after));
    Ok(Json(EventPage { items, next_cursor, next_after, position: head }).into_response())
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

pub(super) async fn read(api: &Shared, after: u64, limit: usize) -> Result<Vec<Entry>, Problem> {
    let read = api.engine.log().read(Position(after), limit).await;
    read.map_err(|error: LogError| {
        Problem::new(Code::Unavailable, format!("the event log cannot be read: {error}"))
    })
}

/// An entry as a line, if it is within what was asked for.
pub(super) fn line(
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

/// Sends events as they are recorded, until the reader or the server is gone.
/// Reads the log at the reader's pace: one who is slow costs no memory.
async fn follow(
    api: Api,
    caller: Caller,
    within: Option<AnyId>,
    first: Vec<EventLine>,
    mut after: u64,
    mut stream: Stream,
) {
    let mut position = api.engine.position();
    let mut lines = first;
    loop {
        for line in lines.drain(..) {
            if !stream.write(&line).await {
                return stream.end(EndReason::ServerClosing, Some(line.position - 1));
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
                return stream.end(EndReason::Unavailable, Some(after));
            }
        }
        while lines.is_empty() {
            tokio::select! {
                changed = position.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return stream.end(EndReason::ServerClosing, Some(after)),
                },
                () = stream.due() => {
                    stream.beat(Some(after)).await;
                }
                () = stream.abandoned() => return,
                reason = stream.ended() => return stream.end(reason, Some(after)),
            }
        }
    }
}
