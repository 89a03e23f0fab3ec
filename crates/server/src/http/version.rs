//! `/v1/health` and `/v1/version`: open to all, for probes and compatibility.

use axum::Json;
use axum::extract::State;
use helix_model::api::Version;
use serde_json::{Value, json};

use super::Api;

/// The server answers.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "ok": true }))
}

/// Which version answers.
pub(super) async fn version(State(api): State<Api>) -> Json<Version> {
    Json(Version { version: api.version.clone(), api: "v1".to_owned() })
}
