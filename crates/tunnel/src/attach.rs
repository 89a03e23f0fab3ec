//! Attaching: the candidates of a grant in order, the next one beside the one that
//! takes long; the first that welcomes the agent wins.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::agent::Own;
use crate::dial::{self, DialError};
use crate::grant::{Candidate, Grant};
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
    let mut left = usable.into_iter().take(CANDIDATES_MAX);
    let mut under_way = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        match left.next() {
            Some(candidate) => under_way.push(reach(own, grant, candidate, Begin::Seated).boxed()),
            None if under_way.is_empty() => {
                return Err(match (first_error, own.config.transport) {
                    (Some(error), _) => AttachError::Dial(error),
                    (None, Choice::Only(transport)) => AttachError::NotOver(transport),
                    (None, Choice::Auto) => AttachError::NoCandidates,
                });
            }
            None => {}
        }
        let pause = match left.len() {
            0 => Duration::MAX,
            _ => HEAD_START,
        };
        tokio::select! {
            Some(outcome) = under_way.next() => match outcome {
                Ok(session) => return Ok(session),
                Err(error) => {
                    tracing::debug!(%error, "a candidate did not take the agent");
                    first_error.get_or_insert(error);
                }
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
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
