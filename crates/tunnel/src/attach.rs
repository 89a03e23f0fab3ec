//! Attaching: the candidates of a grant in order, the next one beside the one that
//! takes long; the first that welcomes the agent wins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, TryFutureExt};
use tokio::time::sleep;

use crate::agent::Own;
use crate::choose::Ways;
use crate::dial::{self, DialError};
use crate::grant::{Candidate, Grant};
use crate::race;
use crate::session::{Begin, Session};
use crate::transport::{Choice, Transport};

/// How long a candidate has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(1500);

/// How much longer when it has taken the connection: the way there is free, and an edge that
/// many come to at once is not helped by twice as many. With its head start it has longer than
/// an edge waits for the plan that has the tunnel.
const BUSY_START: Duration = Duration::from_millis(3500);

/// Candidates of a grant that are looked at.
const CANDIDATES_MAX: usize = 3;

/// Why no edge was attached to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("no edge takes agents now")]
    NoCandidates,
    #[error("no edge takes agents over {0} now")]
    NotOver(Transport),
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// That no edge was attached to.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Of several failures the first: it is that of the best.
    pub(crate) why: AttachError,
    /// No edge has seen the token.
    pub(crate) is_unspent: bool,
}

/// The first candidate that takes the agent.
pub(crate) async fn attach(own: &Own, ways: &Ways, grant: &Grant) -> Result<Session, Failed> {
    let (has_connected, is_spent) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut usable: Vec<_> = grant.candidates.iter().filter(|it| own.may_use(it)).collect();
    ways.order(&mut usable);
    let attempts = usable.into_iter().take(CANDIDATES_MAX).map(|candidate| {
        let reaching = reach(own, grant, candidate, Begin::Seated, &has_connected);
        let told = |error: &DialError| {
            is_spent.fetch_or(!error.is_unspent(), Ordering::Relaxed);
            tracing::debug!(%error, "a candidate did not take the agent");
        };
        reaching.inspect_err(told).boxed()
    });
    let head_start = || async {
        sleep(HEAD_START).await;
        if has_connected.load(Ordering::Relaxed) {
            sleep(BUSY_START).await;
        }
    };
    let outcome = race::first(attempts, head_start).await;
    outcome.map_err(|error| {
        let why = match (error, own.config.transport) {
            (Some(error), _) => AttachError::Dial(error),
            (None, Choice::Only(transport)) => AttachError::NotOver(transport),
            (None, Choice::Auto) => AttachError::NoCandidates,
        };
        let is_tried = matches!(why, AttachError::Dial(_));
        Failed { why, is_unspent: is_tried && !is_spent.load(Ordering::Relaxed) }
    })
}

/// A session with one candidate; what is told is that it has taken the connection.
pub(crate) async fn reach(
    own: &Own,
    grant: &Grant,
    candidate: &Candidate,
    begin: Begin,
    has_connected: &AtomicBool,
) -> Result<Session, DialError> {
    let proxy = own.config.proxy.as_ref();
    let dialling = dial::dial(&candidate.url, grant, proxy, has_connected);
    let dialled = dialling.await?;
    Session::begin(own, candidate, dialled, begin).await
}
