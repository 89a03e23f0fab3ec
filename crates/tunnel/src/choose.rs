//! Which transport visitors come by: the one that carries more, found out beside the one
//! that serves.
//!
//! An agent serves over whatever answers first. Once somebody has visited, and while
//! somebody does, the other transport to the same edge is dialled and both are measured.
//! What nobody uses is not measured: a thousand idle tunnels would load an edge with
//! nothing but that.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use helix_link::{BEAT_INTERVAL, Link};
use tokio::time::{Instant, sleep};

use crate::agent::Own;
use crate::attach;
use crate::grant::{Candidate, Grant, GrantError, Grants};
use crate::probe::{self, ProbeError};
use crate::session::{Begin, Session, Visitors};
use crate::spare;
use crate::transport::{Choice, Transport};

/// How often it is looked for visitors.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a comparison holds: networks change with the hours, not the seconds.
const MEASURE_EVERY: Duration = Duration::from_secs(600);

/// How much better the other has to be. Less is within what two measurements of the same
/// differ by, and a change costs.
const BETTER_BY: f64 = 1.2;

/// Frames, besides beats, from which a link has been used.
const FRAMES_OF_USE: u64 = 8;

/// What serves now.
pub(crate) struct Serving {
    link: Link,
    edge: String,
    transport: Transport,
    visitors: Visitors,
}

/// Why there was nothing to compare.
#[derive(Debug, thiserror::Error)]
enum Incomparable {
    #[error("the edge has no other way")]
    NoOther,
    #[error("no grant: {0}")]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl Serving {
    pub(crate) fn of(session: &Session) -> Serving {
        Serving {
            link: session.link().clone(),
            edge: session.edge().to_owned(),
            transport: session.transport(),
            visitors: session.visitors().clone(),
        }
    }

    /// Another way to the same edge.
    fn other<'g>(&self, own: &Own, grant: &'g Grant) -> Option<&'g Candidate> {
        grant.candidates.iter().find(|it| {
            it.edge == self.edge && own.may_use(it) && it.transport() != Some(self.transport)
        })
    }

    /// Returns once it has been used by somebody.
    async fn used(&self) {
        while self.visitors.count() == 0 {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Returns once a comparison of now has become old, and it was used meanwhile.
    async fn used_again(&self) {
        let (heard, begun) = (self.link.heard(), Instant::now());
        sleep(MEASURE_EVERY).await;
        loop {
            let beats = begun.elapsed().as_secs() / BEAT_INTERVAL.as_secs();
            if self.link.heard() - heard > beats + FRAMES_OF_USE {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A session with the same edge that carries more, whenever there is one. It stands by.
///
/// The grant is the one that was attached with: a token is good once over each transport.
pub(crate) async fn better(
    own: &Own,
    grants: &dyn Grants,
    serving: Serving,
    mut grant: Option<Grant>,
) -> Session {
    if own.config.transport != Choice::Auto {
        return std::future::pending().await;
    }
    serving.used().await;
    loop {
        match compare(own, grants, &serving, grant.take()).await {
            Ok(Some(session)) => return session,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "there is nothing to compare"),
        }
        serving.used_again().await;
    }
}

async fn compare(
    own: &Own,
    grants: &dyn Grants,
    serving: &Serving,
    grant: Option<Grant>,
) -> Result<Option<Session>, Incomparable> {
    let grant = match grant.filter(spare::is_worth_trying) {
        Some(grant) => grant,
        None => grants.grant().await?,
    };
    let other = serving.other(own, &grant).ok_or(Incomparable::NoOther)?;
    let reaching = attach::reach(own, &grant, other, Begin::Standby, &AtomicBool::default()).await;
    let standby = reaching.map_err(ProbeError::from)?;
    let ours = match probe::figures(&serving.link).await {
        Ok(figures) => figures.goodput(),
        // One that does not even carry this is worse than any.
        Err(ProbeError::Late) => 0.0,
        Err(error) => return Err(error.into()),
    };
    let theirs = probe::figures(standby.link()).await?.goodput();
    tracing::debug!(
        serving = %serving.transport, serving_bytes_per_s = ours,
        other = %standby.transport(), other_bytes_per_s = theirs,
        "both ways to the edge were measured"
    );
    Ok((theirs > ours * BETTER_BY).then_some(standby))
}
