//! `GET /v1/link`: a node or an edge links itself, over a WebSocket.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use helix_link::websocket::MESSAGE_BYTES_MAX;

use super::Api;
use crate::machines;

/// Upgrades; everything after that is the link's.
pub(super) async fn link(State(api): State<Api>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    upgrade.on_upgrade(move |socket| machines::serve(api, socket))
}
