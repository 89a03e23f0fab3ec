//! Which transport visitors come by: the one that carries more, found out beside the one
//! that serves.
//!
//! An agent serves over whatever answers first. Once somebody has visited, and while
//! somebody does, the other transport to the same edge is dialled and both are measured.
//! What nobody uses is not measured: a thousand idle tunnels would load an edge with
//! nothing but that. Neither is what comes back to an edge with a thousand others: what was
//! found before the link was lost still holds.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use helix_link::{BEAT_INTERVAL, Link};
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::{Own, random};
use crate::attach;
use crate::dial::DialError;
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

/// How long an agent waits, at most, before it asks again for a place to measure: twice as
/// long each time, up to [`MEASURE_EVERY`].
const PAUSE_MIN: Duration = Duration::from_secs(20);

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

    /// Returns once it is then, and it was used meanwhile or after.
    async fn used_again(&self, from: Instant) {
        let (heard, begun) = (self.link.heard(), Instant::now());
        sleep_until(from).await;
        loop {
            let beats = begun.elapsed().as_secs() / BEAT_INTERVAL.as_secs();
            if self.link.heard() - heard > beats + FRAMES_OF_USE {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// What an agent knows of its ways, whichever session it is in.
#[derive(Debug)]
pub(crate) struct Ways {
    /// Until when they are not compared.
    again_from: Instant,
    /// What carried more when they were, and at which edge.
    best: Option<(String, Transport)>,
    /// How often in a row an edge had no place to measure.
    refusals: u32,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways { again_from: Instant::now(), best: None, refusals: 0 }
    }
}

impl Ways {
    /// Nothing of it holds: it is in another network, or may be.
    pub(crate) fn forget(&mut self) {
        *self = Ways::default();
    }

    /// The link was lost: others that lost theirs are on their way back as well.
    pub(crate) fn lost(&mut self, random: u64) {
        self.again_from = self.again_from.max(Instant::now() + pause(0, random));
    }

    /// Has the way that carries more tried first, of those to its edge.
    pub(crate) fn order(&self, candidates: &mut [&Candidate]) {
        let Some((edge, best)) = &self.best else { return };
        let first = candidates.iter().position(|it| it.edge == *edge);
        let is_best = |it: &&Candidate| it.edge == *edge && it.transport() == Some(*best);
        if let (Some(first), Some(best)) = (first, candidates.iter().position(is_best)) {
            candidates[first..=best].rotate_right(1);
        }
    }

    fn are_due(&self) -> bool {
        self.again_from <= Instant::now()
    }

    fn compared(&mut self, edge: &str, best: Transport) {
        self.best = Some((edge.to_owned(), best));
        self.holds();
    }

    fn holds(&mut self) {
        (self.again_from, self.refusals) = (Instant::now() + MEASURE_EVERY, 0);
    }

    fn refused(&mut self, random: u64) {
        self.again_from = Instant::now() + pause(self.refusals, random);
        self.refusals = self.refusals.saturating_add(1);
    }
}

/// Drawn from the upper half of its range, so that a thousand agents do not ask again in the
/// same instant.
fn pause(refusals: u32, random: u64) -> Duration {
    let range = PAUSE_MIN.saturating_mul(1 << refusals.min(5)).min(MEASURE_EVERY);
    let (half, share) = (range / 2, (random % 1024) as u32);
    half + half * share / 1024
}

/// A session with the same edge that carries more, whenever there is one. It stands by.
///
/// The grant is the one that was attached with: a token is good once over each transport.
pub(crate) async fn better(
    own: &Own,
    grants: &dyn Grants,
    ways: &mut Ways,
    serving: Serving,
    mut grant: Option<Grant>,
) -> Session {
    if own.config.transport != Choice::Auto {
        return std::future::pending().await;
    }
    serving.used().await;
    if !ways.are_due() {
        serving.used_again(ways.again_from).await;
    }
    loop {
        match compare(own, grants, &serving, grant.take()).await {
            Ok(Some(session)) => {
                ways.compared(&serving.edge, session.transport());
                return session;
            }
            Ok(None) => ways.compared(&serving.edge, serving.transport),
            Err(Incomparable::Probe(ProbeError::Dial(DialError::Busy { at }))) => {
                tracing::debug!(%at, "others measure their ways there now");
                ways.refused(random());
            }
            Err(error) => {
                tracing::debug!(%error, "there is nothing to compare");
                ways.holds();
            }
        }
        serving.used_again(ways.again_from).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        let way = |edge: &str, scheme: &str| Candidate {
            edge: edge.to_owned(),
            url: format!("{scheme}://{edge}.example"),
        };
        vec![way("a", "wss"), way("a", "quic"), way("b", "wss"), way("b", "quic")]
    }

    fn ordered(ways: &Ways) -> Vec<String> {
        let all = candidates();
        let mut candidates: Vec<&Candidate> = all.iter().collect();
        ways.order(&mut candidates);
        candidates.into_iter().map(|it| it.url.clone()).collect()
    }

    #[tokio::test]
    async fn what_carried_more_is_tried_first_of_the_ways_to_its_edge() {
        let mut ways = Ways::default();
        let as_given: Vec<String> = candidates().into_iter().map(|it| it.url).collect();
        assert_eq!(ordered(&ways), as_given);
        ways.compared("b", Transport::Quic);
        let moved = ["wss://a.example", "quic://a.example", "quic://b.example", "wss://b.example"];
        assert_eq!(ordered(&ways), moved);
        ways.compared("a", Transport::Wss);
        assert_eq!(ordered(&ways), as_given);
        ways.compared("c", Transport::Quic);
        assert_eq!(ordered(&ways), as_given, "nobody is sent there now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_comparison_holds_although_the_link_is_lost_and_not_in_another_network() {
        let mut ways = Ways::default();
        ways.lost(0);
        assert!(!ways.are_due(), "others come back, too");
        ways.compared("a", Transport::Wss);
        let until = Instant::now() + MEASURE_EVERY;
        ways.lost(0);
        assert_eq!(ways.again_from, until);
        ways.forget();
        assert!(ways.are_due() && ways.best.is_none());
    }

    #[test]
    fn who_finds_no_place_to_measure_waits_longer_each_time() {
        let pauses: Vec<u64> = (0..8).map(|refusals| pause(refusals, 0).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(pause(0, u64::MAX) > Duration::from_secs(19) && pause(0, u64::MAX) < PAUSE_MIN);
    }
}
