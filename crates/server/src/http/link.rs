//! `GET /v1/link`: a node or an edge links itself, over a WebSocket.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use helix_link::websocket::MESSAGE_BYTES_MAX;

use super::Api;
use super::problem::ApiProblem;
use crate::machines;

/// Upgrades; everything after that is the link's.
pub(super) async fn link(
    State(api): State<Api>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiProblem> {
    let upgrade = upgrade?.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| machines::serve(api, socket)))
}
