//! Receipts found again, and waiting for what a change set off.
//!
//! A receipt answered under an idempotency key is kept as it was given. By its
//! id a change is found in the log itself: what happened, in the events' own
//! words, and nothing that the log does not say.

use axum::extract::State;
use axum::{Extension, Json};
use helix_log::{Entry, Position};
use helix_model::api::{EventLine, RecordedChange, Settled, WaitOutcome};
use helix_model::event::Recorded;
use helix_model::view::{self, ResourceView};
use helix_model::{AnyId, Code, Event, Kind, Problem, Receipt, State as World};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::access::Caller;
use super::problem::{ApiProblem, Path, Query};
use super::{Api, events, wait};

/// A receipt's id is this and the position of the change's last event.
const PREFIX: &str = "rcpt_";

/// No change has more events: it is one deploy of one app.
const EVENTS_MAX: u64 = 1024;

#[derive(Deserialize)]
pub(super) struct ByKey {
    key: String,
}

#[derive(Deserialize)]
pub(super) struct Patience {
    timeout_seconds: Option<u64>,
}

/// `GET /v1/receipts?key=KEY`: the receipt the caller was given under a key.
pub(super) async fn by_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<ByKey>,
) -> Result<Json<Receipt>, ApiProblem> {
    let key = caller.idempotency_key(&wanted.key);
    let stored = api.engine.log().receipt(&key).await.map_err(|error| unreadable(&error))?;
    let stored = stored.ok_or_else(|| {
        Problem::new(Code::NotFound, "no change of yours was accepted under this key")
            .hint("keys are remembered for a while only; `helix events` shows what was changed")
    })?;
    let receipt = serde_json::from_slice(&stored.body).map_err(|error| unreadable(&error))?;
    Ok(Json(receipt))
}

/// `GET /v1/receipts/{receipt}`: the change, as the log has it.
pub(super) async fn by_id(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<RecordedChange>, ApiProblem> {
    let entries = change(&api, &id).await?;
    let state = api.engine.state();
    let mut events: Vec<EventLine> = Vec::new();
    for entry in &entries {
        events.extend(events::line(&state, &caller, entry, None)?);
    }
    let last = events.last().ok_or_else(|| unknown(&id))?;
    let (at, actor) = (last.ts, last.actor.clone());
    let (position, request_id) = (last.position, last.request_id.clone());
    Ok(Json(RecordedChange { id, position, at, actor, request_id, events }))
}

/// `GET /v1/receipts/{receipt}/wait`: once all it set off has settled.
pub(super) async fn settled(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(patience): Query<Patience>,
) -> Result<Json<Settled>, ApiProblem> {
    let deadline = Instant::now() + wait::timeout(patience.timeout_seconds)?;
    let position = position_of(&id)?;
    reached(&api, position, deadline).await?;
    let entries = change(&api, &id).await?;
    let targets = targets(&api.engine.state(), &caller, &entries, &id)?;
    let mut changes = api.engine.position();
    loop {
        changes.mark_unchanged();
        let now = look(&api.engine.state(), &targets)?;
        if now.outcome != WaitOutcome::TimedOut {
            return Ok(Json(now));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(Json(now)) },
            () = api.closed() => return Ok(Json(now)),
            () = sleep_until(deadline) => return Ok(Json(now)),
        }
    }
}

/// `GET /v1/positions/{position}/wait`: once the state reflects a log position.
pub(super) async fn position(
    State(api): State<Api>,
    Path(position): Path<u64>,
    Query(patience): Query<Patience>,
) -> Result<Json<Settled>, ApiProblem> {
    let deadline = Instant::now() + wait::timeout(patience.timeout_seconds)?;
    let reached = reached(&api, position, deadline).await;
    let outcome = if reached.is_ok() { WaitOutcome::Satisfied } else { WaitOutcome::TimedOut };
    let position = api.engine.state().position;
    Ok(Json(Settled { outcome, resources: Vec::new(), position }))
}

async fn reached(api: &Api, position: u64, deadline: Instant) -> Result<(), Problem> {
    let left = deadline.saturating_duration_since(Instant::now());
    if api.engine.reached(position, left).await {
        return Ok(());
    }
    let detail = format!("log position {position} has not been reached");
    Err(Problem::new(Code::TimedOut, detail))
}

fn position_of(id: &str) -> Result<u64, Problem> {
    let number = id.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| unknown(id))
}

/// The entries of a change: all of one request, up to the one its receipt names.
async fn change(api: &Api, id: &str) -> Result<Vec<Entry>, Problem> {
    let last = position_of(id)?;
    let before = last.saturating_sub(EVENTS_MAX);
    let wanted = usize::try_from(last - before + 1).unwrap_or(usize::MAX);
    let mut entries = events::read(api, before, wanted).await?;
    let next = entries.pop_if(|entry| entry.position.0 > last);
    let named = entries.last().filter(|entry| entry.position == Position(last));
    let request = named.map(request_of).transpose()?.ok_or_else(|| unknown(id))?;
    // A position in the middle of a change is no receipt's.
    if next.as_ref().map(request_of).transpose()?.as_ref() == Some(&request) {
        return Err(unknown(id));
    }
    let mut first = entries.len();
    while first > 0 && request_of(&entries[first - 1])? == request {
        first -= 1;
    }
    Ok(entries.split_off(first))
}

fn recorded(entry: &Entry) -> Result<Recorded, Problem> {
    serde_json::from_slice(&entry.payload).map_err(|error| unreadable(&error))
}

fn request_of(entry: &Entry) -> Result<String, Problem> {
    recorded(entry).map(|recorded| recorded.request_id)
}

/// What a change set off that takes time.
fn targets(
    state: &World,
    caller: &Caller,
    entries: &[Entry],
    id: &str,
) -> Result<Vec<AnyId>, Problem> {
    let mut targets = Vec::new();
    let mut visible = false;
    for entry in entries {
        let event = recorded(entry)?.event;
        let subject = event.subject();
        if !caller.sees_event(state, subject.as_ref()) {
            continue;
        }
        visible = true;
        let takes_time = matches!(
            event,
            Event::DeployCreated(_)
                | Event::EnvScaled(_)
                | Event::OrgDestroying(_)
                | Event::ProjectDestroying(_)
                | Event::AppDestroying(_)
                | Event::EnvDestroying(_)
        );
        targets.extend(subject.filter(|_| takes_time).map(|subject| subject.id));
    }
    if visible { Ok(targets) } else { Err(unknown(id)) }
}

fn look(state: &World, targets: &[AnyId]) -> Result<Settled, Problem> {
    let mut resources: Vec<ResourceView> = Vec::new();
    let mut outcome = WaitOutcome::Satisfied;
    for id in targets {
        let view = match view::view(state, *id) {
            Some(view) => view,
            // What was destroyed has settled.
            None if state.gone.contains_key(id) => continue,
            None => return Err(Problem::not_found(id.kind(), &id.to_string())),
        };
        let going = state.destroying_since(*id).is_some();
        let now = if going { WaitOutcome::TimedOut } else { wait::outcome(&view) };
        outcome = match (outcome, now) {
            (WaitOutcome::Failed, _) | (_, WaitOutcome::Failed) => WaitOutcome::Failed,
            // An env that already serves with too few may become ready or not;
            // one whose deploy failed beside it is as settled as it gets.
            (_, WaitOutcome::TimedOut) if going || id.kind() != Kind::Env || is_moving(&view) => {
                WaitOutcome::TimedOut
            }
            (before, _) => before,
        };
        resources.push(view);
    }
    Ok(Settled { outcome, resources, position: state.position })
}

fn is_moving(env: &ResourceView) -> bool {
    let kind = helix_model::condition::ConditionKind::Reconciling;
    env.condition(kind).is_some_and(|condition| condition.status)
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no receipt `{id}`"))
        .hint("a receipt's id is `rcpt_` and a number; `helix events` shows what was changed")
}

fn unreadable(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Unavailable, format!("the event log cannot be read: {error}"))
}
