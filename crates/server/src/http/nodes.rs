//! `POST /v1/nodes/{node}/availability`: cordon, drain, take back into use.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::AvailabilityRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Kind, Node, Problem, Receipt, node};
use http::HeaderMap;

use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;
use super::{Api, gate};

/// Says what a node may be used for.
pub(super) async fn availability(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<AvailabilityRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash(&reference, &request))?;
    let node = caller.resolve(&api.engine.state(), Kind::Node, &reference, &scope)?;
    let origin = gate::expecting(origin, node, request.expected_version);
    let node = node.typed::<Node>().ok_or_else(|| Problem::not_found(Kind::Node, &reference))?;
    let availability = request.availability;
    let command = Command::SetNodeAvailability(node::SetAvailability { node, availability });
    Ok(Json(api.engine.submit(command, origin).await?))
}
