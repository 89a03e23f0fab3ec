//! Attaching: the candidates of a grant in order, the next one beside the one that
//! takes long; the first that welcomes the agent wins.

use std::time::Duration;

use futures::{FutureExt, TryFutureExt};

use crate::agent::Own;
use crate::dial::{self, DialError};
use crate::grant::{Candidate, Grant};
use crate::race;
use crate::session::{Begin, Session};
use crate::transport::{Choice, Transport};

/// How long a candidate has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(1500);

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

/// The first candidate that takes the agent. Of several failures the first is told: it
/// is that of the best.
pub(crate) async fn attach(own: &Own, grant: &Grant) -> Result<Session, AttachError> {
    let usable: Vec<_> = grant.candidates.iter().filter(|it| own.may_use(it)).collect();
    let attempts = usable.into_iter().take(CANDIDATES_MAX).map(|candidate| {
        let reaching = reach(own, grant, candidate, Begin::Seated);
        let told =
            |error: &DialError| tracing::debug!(%error, "a candidate did not take the agent");
        reaching.inspect_err(told).boxed()
    });
    race::first(attempts, HEAD_START).await.map_err(|error| match (error, own.config.transport) {
        (Some(error), _) => AttachError::Dial(error),
        (None, Choice::Only(transport)) => AttachError::NotOver(transport),
        (None, Choice::Auto) => AttachError::NoCandidates,
    })
}

/// A session with one candidate.
pub(crate) async fn reach(
    own: &Own,
    grant: &Grant,
    candidate: &Candidate,
    begin: Begin,
) -> Result<Session, DialError> {
    let proxy = own.config.proxy.as_ref();
    let dialled = dial::dial(&candidate.url, &grant.token, &grant.edge_roots, proxy).await?;
    Session::begin(own, candidate, dialled, begin).await
}
