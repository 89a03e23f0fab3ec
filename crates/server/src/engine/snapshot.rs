//! Snapshots: so that a start need not replay all history.
//!
//! A snapshot is a cache of the fold and never the truth: one that is missing,
//! damaged or of another format costs a replay from the beginning.

use std::io::{self, BufWriter};
use std::sync::Arc;

use helix_log::{EventLog, Position, Snapshot};
use helix_model::State;
use helix_model::state::SNAPSHOT_FORMAT;
use tokio::task::JoinHandle;

use super::EngineError;
use super::replay::replay;

/// Entries between snapshots, at least. Replaying this many takes a fraction of a
/// second.
const INTERVAL_MIN: u64 = 10_000;

/// Fast rather than small: it is written while the server works.
const COMPRESSION_LEVEL: i32 = 1;

/// The encoder is given pieces of this size, and not every comma by itself.
const BUFFER_BYTES: usize = 64 * 1024;

/// When a snapshot is due. A state is written whole, and so the larger it is the
/// more entries must have come since the last time: then all of it together costs
/// about as much as the log itself does, and a start replays no more than what it
/// reads.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// The position of the newest one, and how much there was by then.
    position: u64,
    size: u64,
    /// Ends when the one under way is written.
    writing: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// `state` is what was loaded, or none at all.
    pub(super) fn since(state: &State) -> Snapshots {
        Snapshots { position: state.position, size: size(state), writing: None }
    }

    fn is_due(&self, position: u64) -> bool {
        position.saturating_sub(self.position) >= self.size.max(INTERVAL_MIN)
    }

    /// Has one written when it is due, beside the work and never two at a time.
    pub(super) fn keep(&mut self, log: &Arc<dyn EventLog>, state: &Arc<State>) {
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if is_writing || !self.is_due(state.position) {
            return;
        }
        self.position = state.position;
        self.size = size(state);
        self.writing = Some(tokio::spawn(save(Arc::clone(log), Arc::clone(state))));
    }
}

/// How many things a state has; each takes about as much as the event that made
/// it.
fn size(state: &State) -> u64 {
    let counts = [
        state.orgs.len(),
        state.projects.len(),
        state.apps.len(),
        state.envs.len(),
        state.releases.len(),
        state.deploys.len(),
        state.instances.len(),
        state.endpoints.len(),
        state.nodes.len(),
        state.users.len(),
        state.members.len(),
        state.tokens.len(),
        state.gone.len(),
    ];
    counts.into_iter().map(|count| count as u64).sum()
}

/// The newest state that need not be replayed.
pub(super) async fn load(log: &dyn EventLog) -> Result<State, EngineError> {
    let Some(snapshot) = log.load_snapshot(SNAPSHOT_FORMAT).await? else {
        return Ok(State::default());
    };
    let position = snapshot.position.0;
    let read = tokio::task::spawn_blocking(move || read(&snapshot.bytes)).await;
    match read.map_err(EngineError::Interrupted)? {
        Ok(state) if state.position == position => Ok(state),
        Ok(_) | Err(_) => {
            tracing::warn!("the snapshot of the state cannot be read; replaying the whole log");
            Ok(State::default())
        }
    }
}

fn read(bytes: &[u8]) -> io::Result<State> {
    // Decompressed whole: reading from a slice is several times as fast.
    Ok(serde_json::from_slice(&zstd::decode_all(bytes)?)?)
}

fn write(state: &State) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
    serde_json::to_writer(BufWriter::with_capacity(BUFFER_BYTES, &mut encoder), state)?;
    encoder.finish()
}

/// Keeps a state. A failure is only told: the log has everything.
async fn save(log: Arc<dyn EventLog>, state: Arc<State>) {
    let position = state.position;
    let written = tokio::task::spawn_blocking(move || write(&state)).await;
    let bytes = match written {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return tracing::warn!(%error, "the state cannot be written down"),
        Err(error) => return tracing::warn!(%error, "writing the state down was interrupted"),
    };
    let snapshot = Snapshot { position: Position(position), format: SNAPSHOT_FORMAT, bytes };
    let bytes = snapshot.bytes.len();
    match log.save_snapshot(snapshot).await {
        Ok(()) => tracing::debug!(position, bytes, "a snapshot of the state is kept"),
        Err(error) => tracing::warn!(%error, "the snapshot cannot be kept"),
    }
}

/// Folds the whole log anew up to where `live` is, and compares.
pub(super) async fn is_reproducible(log: &dyn EventLog, live: &State) -> Result<bool, EngineError> {
    let rebuilt = replay(log, State::default(), live.position).await?;
    Ok(rebuilt == *live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_a_state_is_the_more_must_happen_before_it_is_written_again() {
        let small = Snapshots { position: 7, size: 100, writing: None };
        assert!(!small.is_due(7 + INTERVAL_MIN - 1) && small.is_due(7 + INTERVAL_MIN));
        let large = Snapshots { position: 7, size: 5 * INTERVAL_MIN, writing: None };
        assert!(!large.is_due(7 + 5 * INTERVAL_MIN - 1) && large.is_due(7 + 5 * INTERVAL_MIN));
    }

    #[test]
    fn a_state_is_read_back_as_it_was_written() {
        let state = State { position: 9, ..State::default() };
        assert_eq!(read(&write(&state).unwrap()).unwrap(), state);
        assert!(read(b"not compressed").is_err());
    }
}
