//! `POST /v1/envs/{env}/scale`.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::ScaleRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Receipt, env};
use http::HeaderMap;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};

/// Sets how many instances processes should have.
pub(super) async fn scale(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ScaleRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, env) = caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let command = Command::Scale(env::Scale { env, processes: request.processes });
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// What tells a repeated request from another one under the same key.
pub(super) fn request_hash(target: &str, request: &impl Serialize) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update((target.len() as u64).to_be_bytes());
    hasher.update(target.as_bytes());
    // A body that came in as JSON goes out as JSON.
    hasher.update(serde_json::to_vec(request).unwrap_or_default());
    hasher.finalize().into()
}
