//! `GET /v1/audit/verify` and `GET /v1/admin/verify-state`: proof that nothing
//! was changed behind the log's back.

use axum::Json;
use axum::extract::State;
use helix_log::{EventLog, Verification};
use helix_model::admin::{AuditVerdict, LogVerdict, StateVerdict};
use helix_model::{Code, Problem};

use super::Api;
use super::problem::ApiProblem;

/// Walks the hash chains of both logs, from their first entries ever.
pub(super) async fn log(State(api): State<Api>) -> Result<Json<AuditVerdict>, ApiProblem> {
    let events = verdict("event log", api.storage.log.as_ref()).await?;
    let audit = verdict("audit log", api.storage.audit.as_ref()).await?;
    Ok(Json(AuditVerdict { intact: events.intact && audit.intact, events, audit }))
}

async fn verdict(which: &str, log: &dyn EventLog) -> Result<LogVerdict, Problem> {
    let verified = log.verify().await.map_err(|error| {
        Problem::new(Code::Unavailable, format!("the {which} cannot be read: {error}"))
            .hint(error.hint().unwrap_or_default())
    })?;
    Ok(match verified {
        Verification::Intact(head) => LogVerdict {
            intact: true,
            position: head.position.0,
            hash: Some(head.hash.iter().map(|byte| format!("{byte:02x}")).collect()),
            message: format!("{} entries, each chained to the one before", head.position),
        },
        Verification::Broken(broken) => LogVerdict {
            intact: false,
            position: broken.position.0,
            hash: None,
            message: broken.to_string(),
        },
    })
}

/// Folds the whole log anew and compares with the live state.
pub(super) async fn state(State(api): State<Api>) -> Result<Json<StateVerdict>, ApiProblem> {
    let (same, position) = api.engine.verify_state().await.map_err(|error| {
        Problem::new(Code::Unavailable, format!("the log cannot be replayed: {error}"))
    })?;
    let message = if same {
        format!("rebuilding from {position} events gives the live state")
    } else {
        format!("rebuilding from {position} events gives another state than the live one")
    };
    Ok(Json(StateVerdict { same, position, message }))
}
