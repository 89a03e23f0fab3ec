//! `DELETE /v1/orgs|projects|apps|envs/{reference}`: the beginning of the end.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::DestroyQuery;
use helix_model::destroy::Destroy;
use helix_model::reference::Scope;
use helix_model::{Command, Noun, Receipt};
use http::HeaderMap;

use super::access::Caller;
use super::problem::{ApiProblem, Path, Query};
use super::scale::request_hash;
use super::{Api, gate};

/// Has one of a kind destroyed. The receipt says that it begins.
pub(super) async fn destroy<N: Noun>(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    Query(query): Query<DestroyQuery>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let asked = (N::KIND.plural(), &scope, &query);
    let origin = caller.origin(&headers, || request_hash(&reference, &asked))?;
    let target = caller.resolve(&api.engine.state(), N::KIND, &reference, &scope)?;
    let origin = gate::expecting(origin, target, query.expected_version);
    let command = Command::Destroy(Destroy { target, cascade: query.cascade });
    Ok(Json(api.engine.submit(command, origin).await?))
}
