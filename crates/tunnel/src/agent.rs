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

use crate::attach::{self, AttachError};
use crate::dial::Proxy;
use crate::grant::{Grant, GrantError, Grants};
use crate::protocol::Leave;
use crate::service::Service;
use crate::session::{Session, Unwell};
use crate::spare::Spare;

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
        let life = Life { config, tell, spare, backoff: Backoff::default() };
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

struct Life {
    config: Config,
    tell: watch::Sender<Phase>,
    spare: Spare,
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
            match attached {
                Some(Ok(session)) => {
                    if let Some(before) = current.replace(session) {
                        before.linger();
                    }
                }
                Some(Err(why)) => return why,
                None => {}
            }
            let Some(session) = &mut current else { continue };
            self.tell.send_replace(Phase::Attached {
                edge: session.edge().to_owned(),
                reachable: session.reachable().to_vec(),
            });
            match session.unwell().await {
                Unwell::Left(Leave::Replaced) => {
                    return "another agent has the tunnel now".to_owned();
                }
                Unwell::Left(Leave::Revoked) => {
                    // A newer token may still be good: who gives them knows.
                    current = None;
                    self.spare.discard();
                }
                Unwell::Left(Leave::Draining) => {
                    if let Some(before) = current.take() {
                        before.linger();
                    }
                }
                Unwell::Doubtful => {}
                Unwell::Lost(why) => {
                    tracing::debug!(%why, "the link to the edge is lost");
                    current = None;
                }
            }
        }
    }

    /// Attaches, however long that takes; or says why it never will.
    async fn attach(&mut self) -> Result<Session, String> {
        loop {
            let why = match self.spare.take().await {
                Err(GrantError::Refused(why)) => return Err(why),
                Err(GrantError::Later(why)) => why,
                Ok(grant) => match attach::attach(&self.config, &grant).await {
                    Ok(session) => {
                        self.backoff.reset();
                        return Ok(session);
                    }
                    Err(AttachError::NoCandidates) => "no edge takes agents now".to_owned(),
                    Err(AttachError::Dial(error)) => error.to_string(),
                },
            };
            let pause = self.backoff.next(random());
            self.tell.send_replace(Phase::Waiting { why, pause });
            tokio::time::sleep(pause).await;
        }
    }
}

/// Where in its range a pause is. Without randomness all agents pause alike, no worse.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
