//! `/v1/domains`: saying that a domain is an org's, and having that looked at. Reading
//! and destroying domains is like any other kind.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::DomainRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Domain, Kind, Problem, Receipt, domain};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;
use crate::domains;

/// Adds a domain to an org, which waits for its proof then.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<DomainRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("domains", &(&scope, &request)))?;
    let org = caller.named_org(&api.engine.state(), &scope)?;
    let domain = request.domain.strip_suffix('.').unwrap_or(&request.domain);
    let add = domain::Add { org, domain: domain.to_ascii_lowercase() };
    Ok(Json(api.engine.submit(Command::AddDomain(add), origin).await?))
}

/// Looks for a domain's record now.
pub(super) async fn verify(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, id) = caller.change_of::<Domain>(&api, &headers, at, &"verify_domain", None)?;
    let spec = api.engine.state().domains.get(id).map(|it| it.spec.clone());
    let spec = spec.ok_or_else(|| Problem::not_found(Kind::Domain, &reference))?;
    let seen = domains::look_up(&api.resolver, id, &spec).await;
    let command = Command::ObserveDomain(domain::Observe { domain: id, seen });
    let receipt = api.engine.submit(command, origin).await?;
    match domains::unproven(&api.engine.state(), id) {
        Some(problem) => Err(problem.into()),
        None => Ok(Json(receipt)),
    }
}

/// Takes the operator's word for a domain.
pub(super) async fn vouch(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, id) = caller.change_of::<Domain>(&api, &headers, at, &"vouch_for_domain", None)?;
    Ok(Json(api.engine.submit(Command::VouchForDomain(id), origin).await?))
}
