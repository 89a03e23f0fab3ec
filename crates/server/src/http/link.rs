//! `GET /v1/link`: a node or an edge links itself, over a WebSocket.

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use helix_link::websocket::MESSAGE_BYTES_MAX;
use helix_model::api::EndReason;

use super::access::Caller;
use super::problem::ApiProblem;
use super::{Api, identity};
use crate::machines;

/// Upgrades; everything after that is the link's.
pub(super) async fn link(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiProblem> {
    let upgrade = upgrade?.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    let ended = identity::ended(&api, &caller);
    let lost = async move {
        // A server that is closing says so over the link itself.
        if ended.await != EndReason::AccessEnded {
            std::future::pending::<()>().await;
        }
    };
    Ok(upgrade.on_upgrade(move |socket| machines::serve(api, socket, lost)))
}
