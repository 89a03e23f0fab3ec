//! Attaching: the candidates of a grant in order, the next one beside the one that
//! takes long; the first that welcomes the agent wins.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::agent::Config;
use crate::dial::{self, DialError, Dialled};
use crate::grant::{Candidate, Grant};
use crate::session::Session;

/// How long a candidate has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(1500);

/// Candidates of a grant that are looked at.
const CANDIDATES_MAX: usize = 3;

/// Why no edge was attached to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("there is no candidate")]
    NoCandidates,
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// The first candidate that takes the agent. Of several failures the first is told: it
/// is that of the best.
pub(crate) async fn attach(config: &Config, grant: &Grant) -> Result<Session, AttachError> {
    let mut left = grant.candidates.iter().take(CANDIDATES_MAX);
    let mut under_way = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        match left.next() {
            Some(candidate) => under_way.push(try_one(config, grant, candidate).boxed()),
            None if under_way.is_empty() => {
                return Err(first_error.map_or(AttachError::NoCandidates, AttachError::Dial));
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

async fn try_one(
    config: &Config,
    grant: &Grant,
    candidate: &Candidate,
) -> Result<Session, DialError> {
    let Dialled { transport, way } =
        dial::dial(&candidate.url, &grant.token, &grant.edge_roots, config.proxy.as_ref()).await?;
    Session::begin(config, candidate, transport, way).await
}
