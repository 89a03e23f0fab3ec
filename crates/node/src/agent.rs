//! The agent as its callers see it. Start at [`Agent::start`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use helix_model::api::ExecRequest;
use helix_model::node::Facts;
use helix_model::plan::NodePlan;
use helix_model::{Id, Instance, Snapshot, Volume, snapshot, volume};
use helix_runtime::{ExecSession, ExecSpec, Failure, Reason, ShimError};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinHandle;

use crate::board::Observation;
use crate::config::Config;
use crate::disk::{self, DiskSeen};
use crate::egress::{self, Egress};
use crate::error::NodeError;
use crate::images::Images;
use crate::logs::{self, LogQuery, LogStream};
use crate::machine::{self, Machine, chain};
use crate::peers::Peers;
use crate::secrets::SecretSource;
use crate::shared::{Shared, now};
use crate::supervisor::{PlanSlot, Supervisor};
use crate::volume::{BackupKeeper, keep, keep_snapshots};
use crate::{files, gone, retention};

/// What becomes of the instances when the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// They are stopped, within their grace. Nothing is reported: they remain
    /// wanted and start again with the agent.
    StopInstances,
    /// They go on; the next agent adopts them.
    Detach,
}

/// What is seen of each volume; the latest counts.
pub type Volumes = watch::Receiver<BTreeMap<Id<Volume>, volume::Observed>>;

/// What is seen of each snapshot; the latest counts.
pub type Snapshots = watch::Receiver<BTreeMap<Id<Snapshot>, snapshot::Observed>>;

/// Makes this machine match its plan.
pub struct Agent {
    shared: Arc<Shared>,
    plans: watch::Sender<PlanSlot>,
    leave: watch::Sender<Option<Stop>>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Agent {
    /// Finds out what this machine can do, takes up the last plan and adopts
    /// what runs of it. Needs no control plane.
    pub async fn start(config: Config) -> Result<Agent, NodeError> {
        files::make_dir(&config.instances_dir())?;
        let machine = Machine::detect(&config.helix_exe, config.isolation).await?;
        let images = Images::open(&config)?;
        gone::prune(&config.instances_dir(), now());
        let last = last_plan(&config);
        let peers = Peers::left(last.as_ref(), &config);
        let network = last.as_ref().map(|plan| plan.network);
        let (plans, plans_seen) = watch::channel(last.map(Arc::new));
        let (leave, leave_seen) = watch::channel(None);
        let egress = Egress::detect(machine.isolation()).await;
        let volumes = crate::volume::Volumes::detect(&config, machine.isolation())?;
        if let Some(network) = network {
            egress.remember(network, peers.groups(network).await).await;
        }
        let shared = Arc::new(Shared::new(config, machine, images, egress, peers, volumes));
        shared.volumes.thaw().await;
        let supervisor = Supervisor::new(shared.clone(), plans_seen, leave_seen);
        tokio::spawn(egress::keep(shared.clone(), plans.subscribe()));
        tokio::spawn(retention::keep(shared.clone(), plans.subscribe()));
        tokio::spawn(keep(Arc::clone(&shared.volumes), plans.subscribe()));
        tokio::spawn(disk::keep(shared.clone(), plans.subscribe()));
        tokio::spawn(keep_snapshots(Arc::clone(&shared.volumes), plans.subscribe()));
        let supervisor = Mutex::new(Some(tokio::spawn(supervisor.run())));
        Ok(Agent { shared, plans, leave, supervisor })
    }

    /// What this machine is.
    pub fn facts(&self) -> Facts {
        let mut facts = self.shared.machine.facts();
        if let Some(advice) = self.shared.egress.advice() {
            facts.isolation_advice = Some(advice.to_owned());
        }
        facts.volumes = self.shared.volumes.facts();
        facts
    }

    /// Takes a plan. Returns at once; a plan older than the last is ignored.
    pub fn apply(&self, plan: NodePlan) {
        self.plans.send_if_modified(|current| {
            // Another node id means another control plane, whose count of
            // versions has nothing to do with the last one's.
            let stale = current.as_ref().is_some_and(|current| {
                current.node == plan.node && (plan.version < current.version || **current == plan)
            });
            if !stale {
                *current = Some(Arc::new(plan));
            }
            !stale
        });
    }

    /// Has secrets of instances fetched from there; from nowhere, once the link
    /// they came over is gone.
    pub fn secrets_from(&self, source: Option<Arc<dyn SecretSource>>) {
        self.shared.secrets.come_from(source);
    }

    /// Changes of what is seen, from now on. One who lags behind misses some
    /// and must read [`Agent::current`] again.
    pub fn observations(&self) -> broadcast::Receiver<Observation> {
        self.shared.board.subscribe()
    }

    /// What is seen of every instance now, lately stopped ones included. One
    /// that is absent and not pending is gone.
    pub fn current(&self) -> Vec<Observation> {
        self.shared.board.current()
    }

    /// What is seen of every volume, and changes of it.
    pub fn volumes(&self) -> Volumes {
        self.shared.volumes.observations()
    }

    /// How the disk is, and changes of it.
    pub fn disk(&self) -> DiskSeen {
        self.shared.disk.seen()
    }

    /// Has backups kept there; nowhere, once the link is gone.
    pub fn backups_kept_by(&self, keeper: Option<Arc<dyn BackupKeeper>>) {
        self.shared.volumes.backups_kept_by(keeper);
    }

    /// The same for snapshots.
    pub fn snapshots(&self) -> Snapshots {
        self.shared.volumes.snapshots()
    }

    /// The instances whose programs live here now, whether the agent has taken
    /// them up yet or not.
    pub async fn present(&self) -> BTreeSet<Id<Instance>> {
        let mut present = BTreeSet::new();
        for found in gone::list(&self.shared.config.instances_dir()) {
            if machine::adopt(&found.dir).await.is_some() {
                present.insert(found.id);
            }
        }
        present
    }

    /// Runs a command inside an instance; returns once it runs.
    pub async fn exec(
        &self,
        instance: Id<Instance>,
        request: ExecRequest,
    ) -> Result<ExecSession, NodeError> {
        let dir = self.shared.config.instance_dir(instance);
        let shim = machine::adopt(&dir).await.ok_or(NodeError::NotRunning(instance))?;
        let spec = ExecSpec {
            argv: request.command,
            env: request.env,
            tty: request.tty,
            cols: request.cols,
            rows: request.rows,
            ..ExecSpec::default()
        };
        shim.exec(&spec).await.map_err(|error| match error {
            ShimError::Refused(failure) if failure.reason == Reason::NotRunning => {
                NodeError::NotRunning(instance)
            }
            ShimError::Refused(failure) => NodeError::Exec(failure),
            ShimError::Io { .. } => NodeError::Exec(Failure::new(Reason::ShimLost, chain(&error))),
        })
    }

    /// The output of instances, merged in the order of time. Unknown ones have
    /// none; those that are gone have it as long as their directory is kept.
    pub fn logs(&self, instances: &[Id<Instance>], query: LogQuery) -> LogStream {
        logs::read(&self.shared, instances, query)
    }

    /// Ends the agent. Safe to call twice.
    pub async fn shutdown(&self, mode: Stop) {
        self.leave.send_replace(Some(mode));
        if let Some(supervisor) = self.supervisor.lock().await.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the supervisor failed");
        }
        if mode == Stop::StopInstances {
            self.shared.volumes.close_all().await;
        }
        // After the last instance: until then it is shielded.
        self.shared.egress.leave(mode).await;
    }
}

fn last_plan(config: &Config) -> Option<NodePlan> {
    files::load(&config.plan_path()).unwrap_or_else(|error| {
        // Nothing is judged until a plan arrives, so nothing is lost.
        tracing::warn!(error = chain(&error), "waiting for a new plan");
        None
    })
}
