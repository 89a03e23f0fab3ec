//! How long to go on trying to connect again.

use std::time::{Duration, Instant};

use helix_model::Code;

use crate::ClientError;

/// The first pause before connecting again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// A server that restarts is back long before; one that is gone should be
/// reported while the person still remembers the command.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// One attempt after another, with growing pauses.
pub(crate) struct Retry {
    deadline: Instant,
    pause: Duration,
}

impl Retry {
    pub(crate) fn new() -> Retry {
        Retry { deadline: Instant::now() + RETRY_FOR, pause: PAUSE_MIN }
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Whether the failure may pass and there is time left. A proxy in front of a
    /// server that starts answers in its stead.
    pub(crate) fn is_worthwhile(&self, error: &ClientError) -> bool {
        let transient = matches!(error, ClientError::Unreachable { .. })
            || matches!(error.code(), Code::Unavailable | Code::TimedOut | Code::RateLimited);
        transient && Instant::now() < self.deadline
    }
}
