//! `POST /v1/snapshots`: a volume as it is now. Reading and destroying snapshots is
//! like any other kind; volumes are made from them by `POST /v1/volumes`.

use axum::extract::State;
use axum::{Extension, Json};
use helix_model::api::SnapshotRequest;
use helix_model::reference::Scope;
use helix_model::{Command, Kind, Problem, Receipt, Volume, snapshot};
use http::HeaderMap;

use super::Api;
use super::access::Caller;
use super::problem::{ApiProblem, Body, Query};
use super::scale::request_hash;

/// Takes a snapshot of a volume.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(scope): Query<Scope>,
    headers: HeaderMap,
    Body(request): Body<SnapshotRequest>,
) -> Result<Json<Receipt>, ApiProblem> {
    let origin = caller.origin(&headers, || request_hash("snapshots", &(&scope, &request)))?;
    if request.backup {
        api.backups.refuse_without_store()?;
    }
    let volume = caller.resolve(&api.engine.state(), Kind::Volume, &request.volume, &scope)?;
    let volume = volume.typed::<Volume>();
    let volume = volume.ok_or_else(|| Problem::not_found(Kind::Volume, &request.volume))?;
    let pause_max_ms = request.pause_max_ms.unwrap_or(snapshot::PAUSE_DEFAULT_MS);
    let command = Command::CreateSnapshot(snapshot::Create {
        volume,
        name: request.name,
        pause_max_ms,
        backup: request.backup,
        scheduled: false,
    });
    Ok(Json(api.engine.submit(command, origin).await?))
}
