//! `GET /v1/wait`: until a resource is ready, has failed, or time is up.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{WaitOutcome, WaitResult};
use helix_model::condition::ConditionKind;
use helix_model::reference::Scope;
use helix_model::view::{self, ResourceView};
use helix_model::{AnyId, Code, Kind, Problem};
use serde::Deserialize;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Query};

const TIMEOUT_DEFAULT_SECONDS: u64 = 60;
/// Longer waits are for the client to repeat: proxies cut idle requests.
const TIMEOUT_MAX_SECONDS: u64 = 600;

#[derive(Deserialize)]
pub(super) struct Wanted {
    kind: String,
    #[serde(rename = "ref")]
    reference: String,
    timeout_seconds: Option<u64>,
}

/// Answers as soon as the outcome is known.
pub(super) async fn wait(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<WaitResult>, ApiProblem> {
    let kind: Kind = wanted.kind.parse().map_err(|error: helix_model::kind::KindError| {
        Problem::new(Code::InvalidArgument, error.to_string())
    })?;
    let id = caller.resolve(&api.engine.state(), kind, &wanted.reference, &scope)?;
    let seconds = wanted.timeout_seconds.unwrap_or(TIMEOUT_DEFAULT_SECONDS);
    let timeout = Duration::from_secs(seconds.min(TIMEOUT_MAX_SECONDS));
    let result = tokio::time::timeout(timeout, settled(&api, id)).await;
    match result {
        Ok(Some(result)) => Ok(Json(result)),
        Ok(None) => Err(Problem::not_found(kind, &wanted.reference).into()),
        Err(_) => {
            let now = look(&api, id).ok_or_else(|| Problem::not_found(kind, &wanted.reference))?;
            Ok(Json(WaitResult { outcome: WaitOutcome::TimedOut, ..now }))
        }
    }
}

/// Waits for an outcome; `None` when the resource is gone.
async fn settled(api: &Api, id: AnyId) -> Option<WaitResult> {
    let mut position = api.engine.position();
    let closed = api.closed();
    tokio::pin!(closed);
    loop {
        position.mark_unchanged();
        let now = look(api, id)?;
        if now.outcome != WaitOutcome::TimedOut {
            return Some(now);
        }
        tokio::select! {
            changed = position.changed() => changed.ok()?,
            () = &mut closed => return Some(now),
        }
    }
}

/// How it stands; `TimedOut` for "not yet".
fn look(api: &Api, id: AnyId) -> Option<WaitResult> {
    let state = api.engine.state();
    let resource = view::view(&state, id)?;
    let outcome = outcome(&resource);
    Some(WaitResult { outcome, resource, position: state.position })
}

fn outcome(resource: &ResourceView) -> WaitOutcome {
    let holds = |kind| resource.condition(kind).is_some_and(|condition| condition.status);
    let phase = resource.current.get("phase").and_then(serde_json::Value::as_str);
    let failed = match resource.kind {
        Kind::Deploy | Kind::Instance => phase == Some("failed"),
        // An env whose last deploy failed still serves what it served before,
        // and may become ready as that. Without such, nothing will come.
        Kind::Env | Kind::App => {
            let ready = resource.condition(ConditionKind::Ready);
            ready.is_some_and(|ready| ready.reason == "no_release")
                && holds(ConditionKind::Degraded)
        }
        _ => false,
    };
    if failed {
        WaitOutcome::Failed
    } else if holds(ConditionKind::Ready) {
        WaitOutcome::Satisfied
    } else {
        WaitOutcome::TimedOut
    }
}
