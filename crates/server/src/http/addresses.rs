//! `POST /v1/envs/{env}/ipv4`.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::address::SetIpv4;
use helix_model::api::Ipv4Request;
use helix_model::reference::Scope;
use helix_model::{Command, Receipt};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};

/// Gives an env an IPv4 address of its own, or takes it back.
pub(super) async fn set_ipv4(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<Ipv4Request>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, env) = caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let command = Command::SetIpv4(SetIpv4 { env, enabled: request.enabled });
    Ok(Json(api.engine.submit(command, origin).await?))
}
