//! Replay: folding what the log has into a state.
//!
//! Start from [`replay`]. A start without a snapshot may have a million events to
//! go through, so reading a page, decoding the one before and folding the one
//! before that go on side by side; the fold itself is one after the other.

use helix_log::{Entry, EventLog, Position, READ_MAX_ENTRIES};
use helix_model::State;
use helix_model::event::Recorded;
use tokio::task::{JoinError, JoinHandle};

use super::EngineError;

/// A page with fewer entries is not worth a thread; it is what another replica
/// has written meanwhile.
const SHORT_PAGE: usize = 256;

type Decoded = Vec<(u64, Recorded)>;

/// `state` brought up to a position, or to the head of the log if that is before.
pub(super) async fn replay(
    log: &dyn EventLog,
    mut state: State,
    until: u64,
) -> Result<State, EngineError> {
    let mut position = state.position;
    let mut decoding: Option<JoinHandle<Result<Decoded, EngineError>>> = None;
    let mut folding: Option<JoinHandle<State>> = None;
    loop {
        let page = if position < until {
            log.read(Position(position), READ_MAX_ENTRIES).await?
        } else {
            Vec::new()
        };
        let decoded = match decoding.take() {
            Some(decoding) => joined(decoding.await)??,
            None => Vec::new(),
        };
        if let Some(folding) = folding.take() {
            state = joined(folding.await)?;
        }
        let Some(last) = page.last() else {
            return Ok(fold(state, decoded));
        };
        position = last.position.0;
        if decoded.is_empty() && page.len() < SHORT_PAGE {
            state = fold(state, decode(&page, until)?);
            continue;
        }
        let before = std::mem::take(&mut state);
        folding = Some(tokio::task::spawn_blocking(move || fold(before, decoded)));
        decoding = Some(tokio::task::spawn_blocking(move || decode(&page, until)));
    }
}

fn decode(page: &[Entry], until: u64) -> Result<Decoded, EngineError> {
    let wanted = page.iter().take_while(|entry| entry.position.0 <= until);
    let decode = |entry: &Entry| {
        let position = entry.position.0;
        let recorded = serde_json::from_slice(&entry.payload);
        let recorded = recorded.map_err(|source| EngineError::Entry { position, source })?;
        Ok((position, recorded))
    };
    wanted.map(decode).collect()
}

fn fold(mut state: State, events: Decoded) -> State {
    for (position, recorded) in events {
        state.apply(position, recorded.at, &recorded.event);
    }
    state
}

/// A panic in a thread is a panic here.
fn joined<T>(result: Result<T, JoinError>) -> Result<T, EngineError> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => EngineError::Interrupted(error),
    })
}
