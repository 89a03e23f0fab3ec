//! `/v1/registries` and `/v1/policy`: where an org logs in to pull images, and which
//! of them it may release.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use helix_model::api::{PolicyReport, RegistryLogin, RegistryReport, RegistryRequest};
use helix_model::link::PullLogin;
use helix_model::policy::{Policy, SetPolicy};
use helix_model::reference::Scope;
use helix_model::registry::{PASSWORD_BYTES_MAX, RemoveLogin, SetLogin};
use helix_model::{Code, Command, Id, Kind, Org, Problem, Receipt};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;
use crate::registries;

/// Where an org logs in, without the passwords.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
) -> Result<Json<RegistryReport>, ApiProblem> {
    let org = named(&api, &caller, &scope)?;
    let state = api.engine.state();
    let logins = state.orgs.get(org).map(|org| org.spec.registries.clone()).unwrap_or_default();
    let item = |(host, login): (String, helix_model::registry::Login)| RegistryLogin {
        host,
        username: login.username,
    };
    let items = logins.into_iter().map(item).collect();
    Ok(Json(RegistryReport { items, position: state.position }))
}

/// Sets a login, in place of the one before.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Receipt>, ApiProblem> {
    let body = body.map_err(ApiProblem::from)?;
    let org = named(&api, &caller, &scope)?;
    let id = org.to_string();
    // Keyed: a plain hash of a password would be there to try guesses on.
    let hash = api.vault.request_hash(&[b"registry", id.as_bytes(), &body]).await?;
    let origin = caller.origin(&headers, || hash)?;
    let request = parsed(&body)?;
    let before = record_of(&api, org, &request.host);
    let RegistryRequest { host, username, password } = request;
    let login = PullLogin { username, password };
    let login = registries::seal(&api.vault, org, &host, &login).await?;
    let record = login.record;
    let set = SetLogin { org, host, login };
    let made = api.engine.submit(Command::SetRegistryLogin(set), origin).await;
    // Whether a login came of it is not known while the log cannot be read.
    if !made.as_ref().is_err_and(|problem| problem.code == Code::Unavailable) {
        for record in [Some(record), before].into_iter().flatten() {
            registries::remove_unused(&api.vault, &api.engine.state(), org, record).await;
        }
    }
    Ok(Json(made?))
}

/// Removes a login with its password.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(host): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("registry", &(&host, &scope)))?;
    let org = named(&api, &caller, &scope)?;
    let before = record_of(&api, org, &host);
    let command = Command::RemoveRegistryLogin(RemoveLogin { org, host });
    let receipt = api.engine.submit(command, origin).await?;
    if let Some(record) = before {
        registries::remove_unused(&api.vault, &api.engine.state(), org, record).await;
    }
    Ok(Json(receipt))
}

/// What an org demands of its releases.
pub(super) async fn show_policy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
) -> Result<Json<PolicyReport>, ApiProblem> {
    let org = named(&api, &caller, &scope)?;
    let state = api.engine.state();
    let policy = state.orgs.get(org).map(|org| org.spec.policy.clone()).unwrap_or_default();
    Ok(Json(PolicyReport { policy, position: state.position }))
}

/// Demands this from now on.
pub(super) async fn set_policy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(policy): Body<Policy>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("policy", &(&scope, &policy)))?;
    let org = named(&api, &caller, &scope)?;
    let command = Command::SetReleasePolicy(SetPolicy { org, policy });
    Ok(Json(api.engine.submit(command, origin).await?))
}

fn named(api: &Api, caller: &Caller, scope: &Scope) -> Result<Id<Org>, Problem> {
    let Some(org) = &scope.org else {
        return Err(Problem::new(Code::InvalidArgument, "it is not said which org it is about")
            .hint("set `org` in the query")
            .field("org", "missing"));
    };
    let found = caller.resolve(&api.engine.state(), Kind::Org, org, scope)?;
    found.typed::<Org>().ok_or_else(|| Problem::not_found(Kind::Org, org))
}

fn record_of(api: &Api, org: Id<Org>, host: &str) -> Option<helix_model::bundle::VersionId> {
    let state = api.engine.state();
    Some(state.orgs.get(org)?.spec.registries.get(host)?.record)
}

/// The body, read. What is wrong with one that cannot be is told by place alone: any
/// word of it may be the password.
fn parsed(body: &[u8]) -> Result<RegistryRequest, Problem> {
    let request: RegistryRequest = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!("the request cannot be read at line {line}, column {column}");
        Problem::new(Code::InvalidArgument, detail).hint("docs/api.md describes the body")
    })?;
    let length = request.password.len();
    if length == 0 || length > PASSWORD_BYTES_MAX {
        let detail = format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(Problem::new(Code::InvalidArgument, detail).field("password", "invalid"));
    }
    Ok(request)
}
