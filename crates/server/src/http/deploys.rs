//! `POST /v1/deploys` and `POST /v1/rollbacks`.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use helix_model::api::{DeployRequest, PromoteRequest, RollbackRequest};
use helix_model::reference::{self, Scope};
use helix_model::{App, Command, Env, Kind, Problem, Receipt, Release, deploy};
use http::HeaderMap;

use super::access::Caller;
use super::problem::{ApiProblem, Body, Query};
use super::resources::Paging;
use super::{Api, gate, images, releases, resources, scale};
use crate::engine::Origin;

/// Releases an image and deploys it.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<DeployRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || scale::request_hash("deploy", &request))?;
    let org = caller.org(&api.engine.state(), &request.org)?;
    let origin = expecting_env(&api, origin, &request)?;
    let manifest = releases::manifest(request.manifest.as_deref(), request.port)?;
    let wanted = releases::image(request.image.clone(), &manifest)?;
    let (image, by_digest) = images::resolve(&api, &caller, &headers, org, &wanted).await?;
    let source = request.source.unwrap_or(wanted);
    let command = deploy::Request {
        org: request.org,
        project: request.project,
        app: request.app,
        env: request.env,
        image,
        by_digest,
        manifest,
        source,
    };
    Ok(Json(api.engine.submit(Command::Deploy(Box::new(command)), origin).await?))
}

/// A deploy may make its env; one that expects a version expects it to exist.
fn expecting_env(api: &Api, origin: Origin, request: &DeployRequest) -> Result<Origin, Problem> {
    if request.expected_version.is_none() {
        return Ok(origin);
    }
    let scope = Scope {
        org: Some(request.org.to_string()),
        project: Some(request.project.to_string()),
        app: Some(request.app.to_string()),
        env: None,
    };
    let env = reference::resolve(&api.engine.state(), Kind::Env, request.env.as_str(), &scope)?;
    Ok(gate::expecting(origin, env, request.expected_version))
}

/// Lists deploys like any other kind; the route is here because it also takes
/// `POST`.
pub(super) async fn list(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    scope: Query<Scope>,
    paging: Query<Paging>,
) -> Result<Response, ApiProblem> {
    resources::page(&state, &caller, Kind::Deploy, &scope.0, &paging.0)
}

/// Deploys a release that is there.
pub(super) async fn promote(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<PromoteRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || scale::request_hash("promote", &request))?;
    let state = api.engine.state();
    let app = caller.resolve(&state, Kind::App, &request.app, &scope)?;
    let within = Scope { app: Some(reference::path(&state, app)), ..Scope::default() };
    let release = caller.resolve(&state, Kind::Release, &request.release, &within)?;
    let (Some(app), Some(release)) = (app.typed::<App>(), release.typed::<Release>()) else {
        return Err(Problem::not_found(Kind::Release, &request.release).into());
    };
    let first = request.expected_version == Some(0);
    let origin = match request.expected_version.filter(|_| !first) {
        None => origin,
        expected => {
            let found = state.envs.named(Some(app.any()), &request.env);
            let env = found.ok_or_else(|| Problem::not_found(Kind::Env, request.env.as_str()))?;
            gate::expecting(origin, env.id.any(), expected)
        }
    };
    drop(state);
    let command = deploy::Promote { app, env: request.env, release, first };
    Ok(Json(api.engine.submit(Command::Promote(command), origin).await?))
}

/// Deploys an older release again.
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<RollbackRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || scale::request_hash("rollback", &request))?;
    let state = api.engine.state();
    let env = caller.resolve(&state, Kind::Env, &request.env, &scope)?;
    let origin = gate::expecting(origin, env, request.expected_version);
    let env = env.typed::<Env>().ok_or_else(|| Problem::not_found(Kind::Env, &request.env))?;
    let to = match &request.to {
        None => None,
        Some(text) => {
            let found = caller.resolve(&state, Kind::Release, text, &scope)?;
            found.typed::<Release>()
        }
    };
    drop(state);
    let command = Command::Rollback(deploy::Rollback { env, to });
    Ok(Json(api.engine.submit(command, origin).await?))
}
