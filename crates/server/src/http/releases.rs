//! `POST /v1/releases`, and what a request says of a release.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use helix_model::api::ReleaseRequest;
use helix_model::reference::Scope;
use helix_model::{Code, Command, Kind, Manifest, Problem, Receipt, manifest, release};
use http::HeaderMap;

use super::access::Caller;
use super::problem::{ApiProblem, Body, Query};
use super::resources::Paging;
use super::{Api, images, resources, scale};

/// The port of an app that says nothing: what the packs listen on.
const PORT_DEFAULT: u16 = 8080;

/// Releases an image without deploying it.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<ReleaseRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || scale::request_hash("release", &request))?;
    let org = caller.org(&api.engine.state(), &request.org)?;
    let manifest = manifest(request.manifest.as_deref(), request.port)?;
    let wanted = image(request.image, &manifest)?;
    let (image, by_digest) = images::resolve(&api, &caller, &headers, org, &wanted).await?;
    let command = release::Create {
        org: request.org,
        project: request.project,
        app: request.app,
        env: request.env,
        image,
        by_digest,
        manifest,
        source: request.source.unwrap_or(wanted),
    };
    Ok(Json(api.engine.submit(Command::CreateRelease(Box::new(command)), origin).await?))
}

/// Lists releases like any other kind; the route is here because it also takes
/// `POST`.
pub(super) async fn list(
    state: State<Api>,
    Extension(caller): Extension<Caller>,
    scope: Query<Scope>,
    paging: Query<Paging>,
) -> Result<Response, ApiProblem> {
    resources::page(&state, &caller, Kind::Release, &scope.0, &paging.0)
}

/// The manifest of a request; defaults when it has none.
pub(super) fn manifest(text: Option<&str>, port: Option<u16>) -> Result<Manifest, Problem> {
    match text {
        Some(text) => manifest::parse(text).map_err(Problem::from),
        None => Ok(manifest::parse_with_defaults(port.unwrap_or(PORT_DEFAULT))),
    }
}

/// The image of a request, or of its manifest.
pub(super) fn image(given: Option<String>, manifest: &Manifest) -> Result<String, Problem> {
    given.or_else(|| manifest.image.clone()).ok_or_else(|| {
        Problem::new(Code::InvalidArgument, "neither the request nor the manifest names an image")
            .hint("pass `--image REF`, or deploy a folder")
            .field("image", "missing")
    })
}
