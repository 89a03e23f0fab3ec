//! `GET /v1/wait`: until a resource is as wanted, never will be, or time is up.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{WaitOutcome, WaitResult};
use helix_model::condition::ConditionKind;
use helix_model::reference::Scope;
use helix_model::view::{self, ResourceView};
use helix_model::{AnyId, Code, Kind, Problem, Reason};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::access::Caller;
use super::identity;
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
    /// `ready`, `gone`, or a condition such as `reconciling=false`.
    until: Option<String>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It is ready, or never will be.
    Ready,
    /// It does not exist any more.
    Gone,
    /// A condition holds, or does not.
    Condition(ConditionKind, bool),
}

impl Until {
    fn parse(text: &str) -> Result<Until, Problem> {
        let unknown = || {
            Problem::new(Code::InvalidArgument, format!("`{text}` is nothing to wait for"))
                .hint("wait for ready, gone, connected, reconciling, degraded, destroying or disk_pressure, or for `=false`")
                .field("until", "unknown")
        };
        let (name, holds) = match text.split_once('=') {
            Some((name, holds)) => (name, holds.parse().map_err(|_| unknown())?),
            None => (text, true),
        };
        Ok(match (name, holds) {
            ("ready", true) => Until::Ready,
            ("ready", false) => Until::Condition(ConditionKind::Ready, false),
            ("gone", true) => Until::Gone,
            ("reconciling", holds) => Until::Condition(ConditionKind::Reconciling, holds),
            ("degraded", holds) => Until::Condition(ConditionKind::Degraded, holds),
            ("connected", holds) => Until::Condition(ConditionKind::Connected, holds),
            ("disk_pressure", holds) => Until::Condition(ConditionKind::DiskPressure, holds),
            ("destroying", holds) => Until::Condition(ConditionKind::Destroying, holds),
            _ => return Err(unknown()),
        })
    }

    fn outcome(self, resource: &ResourceView) -> WaitOutcome {
        match self {
            Until::Ready => outcome(resource),
            Until::Gone => WaitOutcome::TimedOut,
            // A kind that does not have the condition never is that.
            Until::Condition(kind, wanted) => {
                let holds = resource.condition(kind).is_some_and(|condition| condition.status);
                if holds == wanted { WaitOutcome::Satisfied } else { WaitOutcome::TimedOut }
            }
        }
    }
}

/// How long a request may wait.
pub(super) fn timeout(seconds: Option<u64>) -> Result<Duration, Problem> {
    let seconds = seconds.unwrap_or(TIMEOUT_DEFAULT_SECONDS);
    if seconds > TIMEOUT_MAX_SECONDS {
        let detail = format!("timeout_seconds is at most {TIMEOUT_MAX_SECONDS}");
        let problem = Problem::new(Code::InvalidArgument, detail);
        let problem = problem.hint("to wait longer, ask again when the time is up");
        return Err(problem.field("timeout_seconds", "out of range"));
    }
    Ok(Duration::from_secs(seconds))
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
    let until = wanted.until.as_deref().map_or(Ok(Until::Ready), Until::parse)?;
    let patience = timeout(wanted.timeout_seconds)?;
    let id = caller.resolve(&api.engine.state(), kind, &wanted.reference, &scope)?;
    let deadline = Instant::now() + patience;
    let result = settled(&api, &caller, id, until, deadline).await;
    Ok(Json(result.ok_or_else(|| Problem::not_found(kind, &wanted.reference))?))
}

/// Waits for an outcome; `None` when the resource goes away instead.
async fn settled(
    api: &Api,
    caller: &Caller,
    id: AnyId,
    until: Until,
    deadline: Instant,
) -> Option<WaitResult> {
    let ended = identity::ended(api, caller);
    tokio::pin!(ended);
    let mut position = api.engine.position();
    let mut last: Option<WaitResult> = None;
    loop {
        position.mark_unchanged();
        let Some(now) = look(api, id, until) else {
            // As it was last seen: nothing else can be said of what is gone.
            let last = last.filter(|_| until == Until::Gone)?;
            return Some(WaitResult { outcome: WaitOutcome::Satisfied, ..last });
        };
        if now.outcome != WaitOutcome::TimedOut {
            return Some(now);
        }
        tokio::select! {
            changed = position.changed() => changed.ok()?,
            _ = &mut ended => return Some(now),
            () = sleep_until(deadline) => return Some(now),
        }
        last = Some(now);
    }
}

/// How it stands; `TimedOut` for "not yet".
fn look(api: &Api, id: AnyId, until: Until) -> Option<WaitResult> {
    let state = api.engine.state();
    let resource = view::view(&state, id)?;
    let outcome = until.outcome(&resource);
    Some(WaitResult { outcome, resource, position: state.position })
}

/// Whether it is ready, never will be, or may still become so.
pub(super) fn outcome(resource: &ResourceView) -> WaitOutcome {
    let holds = |kind| resource.condition(kind).is_some_and(|condition| condition.status);
    let phase = resource.current.get("phase").and_then(serde_json::Value::as_str);
    let failed = match resource.kind {
        // It has been ready for the last time.
        _ if holds(ConditionKind::Destroying) => true,
        Kind::Deploy | Kind::Instance | Kind::Snapshot => phase == Some("failed"),
        // Who took it out of use has to take it back.
        Kind::Tunnel => resource.desired.get("disabled").is_some(),
        // What it was to be made from is damaged, and stays so.
        Kind::Volume => {
            let reason = resource.current.get("reason").and_then(serde_json::Value::as_str);
            reason == Some(Reason::IntegrityCheckFailed.code())
        }
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
