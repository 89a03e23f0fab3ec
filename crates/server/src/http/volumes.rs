//! `/v1/volumes`: making volumes and letting them grow. Reading and destroying
//! them is like any other kind; who has one is settled by deploys.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::{BackupsRequest, ResizeRequest, VolumeRequest};
use helix_model::reference::Scope;
use helix_model::snapshot::BACKUPS_KEPT;
use helix_model::{Code, Command, Kind, Problem, Receipt, Snapshot, volume};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Path, Query};
use super::scale::request_hash;

/// Makes a volume in an org.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<VolumeRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("volumes", &(&scope, &request)))?;
    let state = api.engine.state();
    let org = caller.named_org(&state, &scope)?;
    // Nodes are the operator's: nobody else can name one.
    let node = match &request.node {
        Some(node) => caller.resolve(&state, Kind::Node, node, &scope)?.typed(),
        None => None,
    };
    let source = match &request.from {
        Some(from) => caller.resolve(&state, Kind::Snapshot, from, &scope)?.typed::<Snapshot>(),
        None => None,
    };
    let its_size = source.and_then(|id| state.snapshots.get(id)).map(|it| it.spec.size_bytes);
    let size_bytes = request.size_bytes.or(its_size).ok_or_else(|| {
        Problem::new(Code::InvalidArgument, "it is not said how large the volume is to be")
            .field("size_bytes", "missing")
    })?;
    drop(state);
    let create = volume::Create { org, name: request.name, size_bytes, node, source };
    Ok(Json(api.engine.submit(Command::CreateVolume(create), origin).await?))
}

/// Lets a volume hold more.
pub(super) async fn resize(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<ResizeRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, volume) =
        caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let command = Command::ResizeVolume(volume::Resize { volume, size_bytes: request.size_bytes });
    Ok(Json(api.engine.submit(command, origin).await?))
}

/// Has a volume backed up at times, or no longer.
pub(super) async fn backups(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<BackupsRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let at = (reference.as_str(), &scope);
    let (origin, volume) =
        caller.change_of(&api, &headers, at, &request, request.expected_version)?;
    let schedule = request.every_seconds.map(|every_seconds| {
        let keep = request.keep.unwrap_or(BACKUPS_KEPT);
        volume::Schedule { every_seconds, keep }
    });
    if schedule.is_some() {
        api.backups.refuse_without_store()?;
    }
    let command = Command::SetVolumeBackups(volume::SetBackups { volume, schedule });
    Ok(Json(api.engine.submit(command, origin).await?))
}
