//! `/v1/quotas`: how much an org may have and has, and setting it.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{QuotaReport, QuotaRequest};
use helix_model::receipt::Affected;
use helix_model::reference::{self, Scope};
use helix_model::{Command, Id, Kind, Org, Receipt, quota};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Query};
use super::scale::request_hash;

/// Every dimension of an org; the installation's limits when none is named.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
) -> Result<Json<QuotaReport>, ApiProblem> {
    let state = api.engine.state();
    let org: Option<Id<Org>> = match &scope.org {
        Some(org) => caller.resolve(&state, Kind::Org, org, &scope)?.typed(),
        None => None,
    };
    let items = quota::lines(&state, org);
    let org = org.map(|org| {
        let id = org.any();
        Affected { kind: Kind::Org, id, path: reference::path(&state, id) }
    });
    Ok(Json(QuotaReport { org, items, position: state.position }))
}

/// Sets limits of an org, or of every org that has none of its own.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<QuotaRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("quotas", &request))?;
    let org = match &request.org {
        Some(org) => {
            let state = api.engine.state();
            caller.resolve(&state, Kind::Org, org, &Scope::default())?.typed()
        }
        None => None,
    };
    let command = Command::SetQuota(quota::Set { org, limits: request.limits });
    Ok(Json(api.engine.submit(command, origin).await?))
}
