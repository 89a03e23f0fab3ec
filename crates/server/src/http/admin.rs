//! `/v1/admin/export`, `/v1/admin/keys` and `/v1/admin/retention`: what an operator does to the
//! installation as a whole.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use helix_log::{Lease, MasterKey};
use helix_model::admin::{KeyChange, Retention, RetentionRun};
use helix_model::{Code, Problem};
use http::header;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::access::Caller;
use super::problem::ApiProblem;
use crate::retention::{self, RetentionError};

/// Of two rotations at once each would put the records under its own key, over
/// and over.
const KEYS_LEASE: &str = "keys";

/// How long a rotation that was killed keeps others from starting.
const KEYS_LEASE_TTL: Duration = Duration::from_secs(30);

/// Everything but images, as one stream. One that breaks off ends the connection
/// without the end of the body, and lacks the checksum at its end.
pub(super) async fn export(State(api): State<Api>) -> Response {
    let body = Body::from_stream(ReceiverStream::new(api.storage.export()));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// Makes a new key and puts every record under it. On one machine the older keys
/// go at once; where replicas have key files of their own they stay until
/// [`retire_keys`].
pub(super) async fn rotate_keys(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<KeyChange>, ApiProblem> {
    let sealed = &api.storage.sealed;
    let lease = take_keys(&api, &caller).await?;
    let rotating = async {
        let rewrapped = sealed.rotate(MasterKey::generate()?).await?;
        let retired = if api.storage.is_shared { Vec::new() } else { sealed.retire().await? };
        Ok((rewrapped, retired))
    };
    let rotated = rotating.await;
    let _ = api.storage.leases.release(&lease).await;
    let (rewrapped, retired) = rotated.map_err(unsealed)?;
    Ok(Json(change(&api, rewrapped, retired)))
}

/// Removes the keys that no record is under any more.
pub(super) async fn retire_keys(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<KeyChange>, ApiProblem> {
    let lease = take_keys(&api, &caller).await?;
    let retired = api.storage.sealed.retire().await;
    let _ = api.storage.leases.release(&lease).await;
    Ok(Json(change(&api, 0, retired.map_err(unsealed)?)))
}

fn change(api: &Api, rewrapped: u64, retired: Vec<String>) -> KeyChange {
    let (active, kept) = api.storage.sealed.key_ids();
    KeyChange { active, rewrapped, retired, kept }
}

async fn take_keys(api: &Api, caller: &Caller) -> Result<Lease, Problem> {
    let taken =
        api.storage.leases.acquire(KEYS_LEASE, &caller.guest.request_id, KEYS_LEASE_TTL).await;
    let taken = taken.map_err(|error| unavailable(&error))?;
    taken.ok_or_else(|| {
        let seconds = KEYS_LEASE_TTL.as_secs();
        Problem::new(Code::Conflict, "the keys are being changed by another request")
            .hint(format!("try again; one that was interrupted is forgotten after {seconds} s"))
    })
}

pub(super) async fn retention(State(api): State<Api>) -> Result<Json<Retention>, ApiProblem> {
    let storage = &api.storage;
    let events = storage.history.boundary().await.map_err(|error| unavailable(&error))?;
    let audit = storage.audit_history.boundary().await.map_err(|error| unavailable(&error))?;
    Ok(Json(Retention {
        keep_events_seconds: storage.keep.events.map(|kept| kept.as_secs()),
        keep_audit_seconds: storage.keep.audit.map(|kept| kept.as_secs()),
        events_archived: events.position.0,
        audit_archived: audit.position.0,
    }))
}

/// Does now what is done every hour anyway.
pub(super) async fn run_retention(
    State(api): State<Api>,
) -> Result<Json<RetentionRun>, ApiProblem> {
    match retention::once(&api.storage).await {
        Ok(done) => Ok(Json(done)),
        Err(RetentionError::Busy) => {
            let problem = Problem::new(Code::Conflict, "history is being moved already");
            Err(ApiProblem(problem.hint("`helix admin retention` shows how far it is")))
        }
        Err(error) => Err(ApiProblem(unavailable(&error))),
    }
}

fn unavailable(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::Unavailable, format!("the storage cannot be used: {error}"))
}

fn unsealed(error: helix_log::SealedError) -> Problem {
    let hint = error.hint().unwrap_or("see the server's log");
    Problem::new(Code::Internal, format!("the keys cannot be changed: {error}")).hint(hint)
}
