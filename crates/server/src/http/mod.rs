//! The HTTP API: one file per noun or verb, this one ties them together.
//!
//! Every request passes [`gate`]: it gets a request id, proves who it is, and
//! leaves with the log position it reflects.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use helix_image::registry;
use tokio::net::TcpListener;

use crate::server::Shared;

mod deploys;
mod events;
mod exec;
mod gate;
mod images;
mod logs;
mod problem;
mod resources;
mod scale;
mod verify;
mod version;
mod wait;

/// A request body longer than this is refused: the largest is a manifest.
const BODY_BYTES_MAX: usize = 1024 * 1024;

type Api = Arc<Shared>;

/// Serves until the server is closing and open requests have ended.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let done = shared.closed();
    let served = axum::serve(listener, router(shared)).with_graceful_shutdown(done).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API listener failed");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let own = Arc::clone(&shared);
    let images = registry::router(
        shared.images.clone(),
        Arc::new(move |headers, _action| gate::is_authorized(headers, &own.token)),
    );
    let guarded = Router::new()
        .route("/v1/events", get(events::list))
        .route("/v1/logs", get(logs::stream))
        .route("/v1/wait", get(wait::wait))
        .route("/v1/deploys", post(deploys::create).get(deploys::list))
        .route("/v1/rollbacks", post(deploys::rollback))
        .route("/v1/envs/{env}/scale", post(scale::scale))
        .route("/v1/instances/{instance}/exec", get(exec::exec))
        .route("/v1/audit/verify", get(verify::log))
        .route("/v1/admin/verify-state", get(verify::state))
        .route("/v1/{kind}", get(resources::list))
        .route("/v1/{kind}/{reference}", get(resources::describe))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), gate::guard));
    Router::new()
        .route("/v1/health", get(version::health))
        .route("/v1/version", get(version::version))
        .merge(guarded)
        .with_state(Arc::clone(&shared))
        .merge(images)
        .layer(axum::middleware::from_fn_with_state(shared, gate::stamp))
}
