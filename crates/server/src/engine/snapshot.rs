//! Snapshots: so that a start need not replay all history.
//!
//! A snapshot is a cache of the fold and never the truth: one that is missing,
//! damaged or of another format costs a replay from the beginning.

use std::sync::Arc;

use helix_log::{EventLog, Position, Snapshot};
use helix_model::State;
use helix_model::state::SNAPSHOT_FORMAT;

use super::EngineError;
use super::replay::replay;

/// Entries between snapshots. Replaying this many takes a fraction of a second.
pub(super) const INTERVAL: u64 = 10_000;

/// The newest state that need not be replayed.
pub(super) async fn load(log: &dyn EventLog) -> Result<State, EngineError> {
    let Some(snapshot) = log.load_snapshot(SNAPSHOT_FORMAT).await? else {
        return Ok(State::default());
    };
    match serde_json::from_slice::<State>(&snapshot.bytes) {
        Ok(state) if state.position == snapshot.position.0 => Ok(state),
        Ok(_) | Err(_) => {
            tracing::warn!("the snapshot of the state cannot be read; replaying the whole log");
            Ok(State::default())
        }
    }
}

/// Keeps a state. A failure is only told: the log has everything.
pub(super) async fn save(log: Arc<dyn EventLog>, state: Arc<State>) {
    let position = state.position;
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(state.as_ref())).await;
    let bytes = match written {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return tracing::warn!(%error, "the state cannot be written down"),
        Err(error) => return tracing::warn!(%error, "writing the state down was interrupted"),
    };
    let snapshot = Snapshot { position: Position(position), format: SNAPSHOT_FORMAT, bytes };
    if let Err(error) = log.save_snapshot(snapshot).await {
        tracing::warn!(%error, "the snapshot cannot be kept");
    }
}

/// Folds the whole log anew up to where `live` is, and compares.
pub(super) async fn is_reproducible(log: &dyn EventLog, live: &State) -> Result<bool, EngineError> {
    let rebuilt = replay(log, State::default(), live.position).await?;
    Ok(rebuilt == *live)
}
