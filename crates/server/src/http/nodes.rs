//! `POST /v1/nodes/{node}/availability`: cordon, drain, take back into use.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::AvailabilityRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Receipt, node};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};

/// Says what a node may be used for.
pub(super) async fn availability(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<AvailabilityRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, node) =
        caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let availability = request.availability;
    let command = Command::SetNodeAvailability(node::SetAvailability { node, availability });
    Ok(Json(api.engine.submit(command, origin).await?))
}
