//! Endpoints apart from a manifest: `POST /v1/envs/{env}/endpoints`,
//! `DELETE /v1/envs/{env}/endpoints/{endpoint}`.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::ExposeRequest;
use helix_model::endpoint::{Expose, Unexpose};
use helix_model::reference::Scope;
use helix_model::{Command, Name, Receipt};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};

/// Makes a port reachable, or changes how.
pub(super) async fn expose(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ExposeRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, env) = caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let ExposeRequest { endpoint, replace, .. } = request;
    let command = Command::ExposeEndpoint(Box::new(Expose { env, endpoint, replace }));
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// Takes one back.
pub(super) async fn unexpose(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((reference, name)): Path<(String, Name)>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, env) = caller.change_of(&api, &headers, at, &name, None)?;
    let command = Command::UnexposeEndpoint(Unexpose { env, name });
    Ok(Json(api.engine.submit(command, origin).await?))
}
