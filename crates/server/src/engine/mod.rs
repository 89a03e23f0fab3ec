//! The engine: the single writer.
//!
//! Commands queue up; the writer takes all that wait, decides them one after
//! the other on a draft of the state, appends every event in one batch (one
//! fsync), and only then publishes the new state and answers. Readers never
//! wait: they load an immutable snapshot.
//!
//! Start from [`Engine::submit`] to write and [`Engine::state`] to read.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
pub use helix_control::round::{Idempotency, Origin};
use helix_log::{EventLog, LogError};
use helix_model::{Code, Command, Problem, Receipt, State};
use tokio::sync::{mpsc, oneshot, watch};

mod replay;
mod snapshot;
mod writer;

use replay::replay;
use snapshot::Snapshots;

/// How many commands may wait. Beyond that callers are slowed down rather than
/// memory filled.
const QUEUE_MAX: usize = 4096;

/// How long a change waits for the version it was made for. Replicas are
/// milliseconds apart; a version that is not there after this is a mistake.
const PRECONDITION_WAIT: Duration = Duration::from_secs(1);

/// How long a server takes at most to come to the head of the log: it follows within
/// milliseconds, or by its poll, which is every second.
const CAUGHT_UP_WAIT: Duration = Duration::from_secs(5);

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    log: Arc<dyn EventLog>,
    state: Arc<ArcSwap<State>>,
    position: watch::Receiver<u64>,
    queue: mpsc::Sender<Submission>,
}

/// Who appends to an engine's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// This engine alone.
    One,
    /// Engines of other replicas too, so that the state may lag behind.
    Many,
}

/// A command on its way to the writer.
struct Submission {
    command: Command,
    origin: Origin,
    reply: oneshot::Sender<Result<Receipt, Problem>>,
}

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The log cannot be read.
    #[error("the event log cannot be read")]
    Log(#[from] LogError),
    /// An entry is not an event this version knows.
    #[error("entry {position} of the event log cannot be understood by this version of helix")]
    Entry {
        position: u64,
        #[source]
        source: serde_json::Error,
    },
    /// The process is ending.
    #[error("the replay was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Engine {
    /// Replays the log and starts the writer, which from then on follows what
    /// others append.
    pub async fn start(log: Arc<dyn EventLog>, writers: Writers) -> Result<Engine, EngineError> {
        let state = snapshot::load(log.as_ref()).await?;
        let snapshots = Snapshots::since(&state);
        let state = replay(log.as_ref(), state, u64::MAX).await?;
        let (position_sender, position) = watch::channel(state.position);
        let state = Arc::new(ArcSwap::from_pointee(state));
        let (queue, submissions) = mpsc::channel(QUEUE_MAX);
        let writer = writer::Writer {
            log: Arc::clone(&log),
            writers,
            state: Arc::clone(&state),
            position: position_sender,
            snapshots,
        };
        tokio::spawn(writer.run(submissions));
        Ok(Engine { log, state, position, queue })
    }

    /// The state as of now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The same for a glance: quicker, and not to be kept.
    pub(crate) fn present(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    /// The log itself, for reading events.
    pub fn log(&self) -> &dyn EventLog {
        self.log.as_ref()
    }

    /// A view of the log position that can be waited on.
    pub fn position(&self) -> watch::Receiver<u64> {
        self.position.clone()
    }

    /// Asks for something; returns once it is durable.
    pub async fn submit(&self, command: Command, origin: Origin) -> Result<Receipt, Problem> {
        // A version is a log position. One that is not here yet was seen at
        // another replica, and what it wrote is on its way.
        if let Some((_, version)) =
            origin.precondition.filter(|(_, it)| *it > self.state().position)
        {
            self.reached(version, PRECONDITION_WAIT).await;
        }
        let (reply, answer) = oneshot::channel();
        let gone = || Problem::new(Code::Unavailable, "the server is shutting down");
        self.queue.send(Submission { command, origin, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Whether folding the whole log anew gives the present state, and which
    /// position that is of.
    pub async fn verify_state(&self) -> Result<(bool, u64), EngineError> {
        let live = self.state();
        let same = snapshot::is_reproducible(self.log(), &live).await?;
        Ok((same, live.position))
    }

    /// The state as it is at the head of the log now, whoever wrote there. For what must
    /// not be decided by a server that lags behind the others.
    pub(crate) async fn caught_up(&self) -> Result<Arc<State>, Problem> {
        let head = self.log.head().await.map_err(|error| {
            tracing::warn!(%error, "the head of the event log cannot be read");
            Problem::new(Code::Unavailable, "the event log cannot be read")
        })?;
        if !self.reached(head.position.0, CAUGHT_UP_WAIT).await {
            let detail = format!("this server has not come to position {} yet", head.position.0);
            return Err(Problem::new(Code::Unavailable, detail));
        }
        Ok(self.state())
    }

    /// Waits until the state reflects a log position, at most `timeout`.
    pub async fn reached(&self, position: u64, timeout: Duration) -> bool {
        let mut watched = self.position();
        let reached = watched.wait_for(|current| *current >= position);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }
}
