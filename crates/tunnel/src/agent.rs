//! The agent: attached to an edge, or on the way to one, until it is stopped.
//!
//! One loop owns the session that serves. When that looks unwell (nothing heard, the
//! machine slept, the network is another one) the next is sought beside it, and what it
//! carries goes on as long as it can.

use std::sync::Arc;
use std::time::Duration;

use helix_link::Backoff;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::attach;
use crate::choose::{self, Serving, Ways};
use crate::dial::Proxy;
use crate::grant::{Candidate, Grant, GrantError, Grants};
use crate::protocol::Leave;
use crate::service::Service;
use crate::session::{Session, Unwell};
use crate::spare::Spare;
use crate::transport::{Choice, Transport};

/// What an agent is started with.
pub struct Config {
    /// Who says where to attach, and lets it.
    pub grants: Arc<dyn Grants>,
    /// A grant that is there already.
    pub first: Option<Grant>,
    /// Where visitors go.
    pub service: Arc<dyn Service>,
    /// Visitors' connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// What edges are reached over.
    pub transport: Choice,
    /// The way out of a network that has no other.
    pub proxy: Option<Proxy>,
    /// What edges are told this is, for people.
    pub version: String,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On the way to an edge for the first time.
    Starting,
    /// Visitors come.
    Attached {
        /// What people call the edge.
        edge: String,
        /// Where visitors come from there; the grant's URL apart.
        reachable: Vec<String>,
        /// What they come over from the edge.
        transport: Transport,
    },
    /// Trying again in a moment.
    Waiting { why: String, pause: Duration },
    /// For good.
    Ended { why: String },
}

/// A running agent. Dropping it stops it at once.
pub struct Agent {
    phases: watch::Receiver<Phase>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("phase", &*self.phases.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Agent {
    /// Starts one, in tasks of its own.
    pub fn start(config: Config) -> Agent {
        let (tell, phases) = watch::channel(Phase::Starting);
        let stop = CancellationToken::new();
        let spare = Spare::start(Arc::clone(&config.grants), config.first.clone(), stop.clone());
        let own = Own { config, instance: instance() };
        let (ways, backoff) = (Ways::default(), Backoff::default());
        let life = Life { own, tell, spare, ways, backoff };
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            stopping.run_until_cancelled(life.run()).await;
        });
        Agent { phases, stop, task }
    }

    /// How things stand, whenever that changes.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phases.clone()
    }

    /// Stops it; visitors that are there are cut off.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}

/// What all sessions of an agent have alike.
pub(crate) struct Own {
    pub(crate) config: Config,
    /// What edges know them to be of one agent by.
    pub(crate) instance: Option<String>,
}

impl Own {
    /// Whether an edge may be reached that way. Who has to use a proxy is in a network that
    /// lets nothing else out.
    pub(crate) fn may_use(&self, candidate: &Candidate) -> bool {
        let choice = self.config.transport;
        let leads_out = |over| over == Transport::Wss || self.config.proxy.is_none();
        candidate.transport().is_some_and(|over| {
            choice.takes(over) && (leads_out(over) || choice == Choice::Only(over))
        })
    }
}

struct Life {
    own: Own,
    tell: watch::Sender<Phase>,
    spare: Spare,
    ways: Ways,
    backoff: Backoff,
}

impl Life {
    async fn run(mut self) {
        let why = self.live().await;
        self.tell.send_replace(Phase::Ended { why });
    }

    /// Why it ended.
    async fn live(&mut self) -> String {
        let mut current: Option<Session> = None;
        loop {
            let recovers = async {
                match &mut current {
                    Some(session) => session.recovers().await,
                    None => std::future::pending().await,
                }
            };
            let attached = tokio::select! {
                attached = self.attach() => Some(attached),
                () = recovers => None,
            };
            let grant = match attached {
                Some(Ok((session, grant))) => {
                    if let Some(before) = current.replace(session) {
                        before.linger();
                    }
                    Some(grant)
                }
                Some(Err(why)) => return why,
                None => None,
            };
            let Some(session) = &mut current else { continue };
            match self.serve(session, grant).await {
                Unwell::Left(Leave::Replaced) => {
                    return "another agent has the tunnel now".to_owned();
                }
                Unwell::Left(Leave::Revoked) => {
                    // A newer token may still be good: who gives them knows.
                    current = None;
                    self.spare.discard();
                }
                // Moved to a session that has not come to serve: another is sought.
                Unwell::Left(Leave::Draining | Leave::Moved | Leave::Busy) => {
                    if let Some(before) = current.take() {
                        before.linger();
                    }
                }
                Unwell::Doubtful => self.ways.forget(),
                Unwell::Lost(why) => {
                    tracing::debug!(%why, "the link to the edge is lost");
                    self.ways.lost(random());
                    current = None;
                }
            }
        }
    }

    /// Serves by a session until it is not well, or by one of the same edge that carries
    /// more, once there is one.
    async fn serve(&mut self, session: &mut Session, mut grant: Option<Grant>) -> Unwell {
        loop {
            self.tell.send_replace(Phase::Attached {
                edge: session.edge().to_owned(),
                reachable: session.reachable().to_vec(),
                transport: session.transport(),
            });
            let serving = Serving::of(session);
            let grants = self.own.config.grants.as_ref();
            let ways = &mut self.ways;
            let better = choose::better(&self.own, grants, ways, serving, grant.take());
            let mut better = tokio::select! {
                why = session.unwell() => return why,
                better = better => better,
            };
            // One that is gone by now leaves things as they are.
            if better.take().await.is_ok() {
                std::mem::replace(session, better).linger();
            }
        }
    }

    /// Attaches, however long that takes; or says why it never will.
    async fn attach(&mut self) -> Result<(Session, Grant), String> {
        loop {
            let why = match self.spare.take().await {
                Err(GrantError::Refused(why)) => return Err(why),
                Err(GrantError::Later(why)) => why,
                Ok(grant) => match attach::attach(&self.own, &self.ways, &grant).await {
                    Ok(session) => {
                        self.backoff.reset();
                        self.spare.used();
                        return Ok((session, grant));
                    }
                    Err(failed) => {
                        if failed.is_unspent {
                            self.spare.give_back(grant);
                        }
                        failed.why.to_string()
                    }
                },
            };
            let pause = self.backoff.next(random());
            self.tell.send_replace(Phase::Waiting { why, pause });
            tokio::time::sleep(pause).await;
        }
    }
}

/// What no other agent has; nothing without randomness, and then its sessions send each
/// other away as those of different agents do.
fn instance() -> Option<String> {
    let words = [getrandom::u64().ok()?, getrandom::u64().ok()?];
    Some(words.iter().map(|word| format!("{word:016x}")).collect())
}

/// Where in its range a pause is. Without randomness all agents pause alike, no worse.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
