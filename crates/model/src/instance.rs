//! Instances: one sandbox running one process of one release on one node.
//!
//! ```text
//! desired:  running ──► draining ──► stopped (removed once the node says so)
//! current:  pending ► pulling ► starting ► ready ⇄ unready
//!                └────────┴─────────┴──────────┴──► failed (with a reason)
//! ```
//! A crashed program is started again on the spot by the node, so `failed` is
//! not the end of an instance; `restarts` counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bundle::Pin;
use crate::condition::Facts;
use crate::deploy::Pause;
use crate::edge::Linked;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::volume::Mount;
use crate::{
    Deploy, Edge, Env, Id, Kind, Name, Node, Noun, Org, Reason, Release, Resource, Timestamp, env,
    node, release_command,
};

/// What the shim, the page tables and the kernel's own structures of one
/// instance cost beside the program's limit: measured at 4 to 7 MiB, doubled.
pub const OVERHEAD_BYTES: u64 = 16 << 20;

/// What is desired of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub org: Id<Org>,
    pub env: Id<Env>,
    pub release: Id<Release>,
    /// The deploy that called for it; `None` when scaling did.
    pub deploy: Option<Id<Deploy>>,
    pub process: Name,
    pub node: Id<Node>,
    pub address: Ipv6Addr,
    /// What the node sets aside for it, bytes.
    pub memory_bytes: u64,
    /// The secrets it is given when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Pin>,
    /// The volumes it has, which nobody else has meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    pub desired: Desired,
}

/// Where an instance is meant to be in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    Running,
    /// Takes no new work; stopped once what is open has ended, or at the end
    /// of its grace.
    Draining,
    Stopped,
}

/// What is known of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub observed: Observed,
    /// When it first became ready.
    pub ready_at: Option<Timestamp>,
    /// When it began to drain.
    pub draining_since: Option<Timestamp>,
    /// Edges that have no connection or request left for it, and send it none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drained_by: BTreeSet<Id<Edge>>,
    /// Edges that send it new connections and requests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub routed_by: BTreeSet<Id<Edge>>,
}

/// What a node sees of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub phase: Phase,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person, with the particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where each port answered, by port name; only while ready.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, SocketAddr>,
    /// How often the program has been started again.
    #[serde(default)]
    pub restarts: u32,
    /// How the program last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// It will not be started again: its restart policy says so, or its image
    /// cannot be had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// What it runs under, e.g. `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The node has not begun.
    #[default]
    Pending,
    /// The image is being fetched and unpacked.
    Pulling,
    /// The program runs and has not passed its first health check.
    Starting,
    /// It serves.
    Ready,
    /// It runs but fails its health check.
    Unready,
    /// It does not run; the reason says why and whether it will be retried.
    Failed,
    /// It was stopped as asked.
    Stopped,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status, when it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default)]
    pub oom_killed: bool,
}

impl Noun for Instance {
    const KIND: Kind = Kind::Instance;
    type Status = Status;

    fn facts(instance: &Resource<Instance>) -> Option<Facts> {
        let phase = instance.status.observed.phase;
        Some(Facts {
            ready: phase == Phase::Ready,
            reconciling: match instance.spec.desired {
                Desired::Running => phase != Phase::Ready,
                Desired::Draining => true,
                Desired::Stopped => phase != Phase::Stopped,
            },
            degraded: matches!(phase, Phase::Failed | Phase::Unready),
        })
    }
}

/// Command: call for an instance (a reconciler's).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocate {
    pub env: Id<Env>,
    pub release: Id<Release>,
    pub deploy: Option<Id<Deploy>>,
    pub process: Name,
    /// Where; the best place there is when absent.
    pub node: Option<Id<Node>>,
}

/// Command: change what is desired of an instance (a reconciler's).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetDesired {
    pub instance: Id<Instance>,
    pub desired: Desired,
}

/// Command: what a node sees of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub instance: Id<Instance>,
    pub observed: Observed,
    /// The node's link this came over; `None` when it came over none.
    #[serde(default)]
    pub link: Option<u64>,
}

/// Command: an edge has no work left for a draining instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MarkDrained {
    pub instance: Id<Instance>,
    pub from: Linked,
}

/// Command: an edge began or ceased to send an instance new work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRouted {
    pub instance: Id<Instance>,
    pub from: Linked,
    pub routed: bool,
}

/// Event: an instance was called for and placed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocated {
    pub id: Id<Instance>,
    pub name: Name,
    pub spec: Instance,
}

/// Which instance an event is about, in words that still tell when it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Of {
    pub id: Id<Instance>,
    pub name: Name,
    pub env: Id<Env>,
}

impl Of {
    /// The words for an instance.
    pub fn new(instance: &Resource<Instance>) -> Of {
        Of { id: instance.id, name: instance.name.clone(), env: instance.spec.env }
    }
}

/// Event: what is desired of an instance changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredChanged {
    #[serde(flatten)]
    pub of: Of,
    pub desired: Desired,
}

/// Event: what is known of an instance changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    #[serde(flatten)]
    pub of: Of,
    #[serde(flatten)]
    pub observed: Observed,
}

/// Event: an edge has nothing open to a draining instance any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    #[serde(flatten)]
    pub of: Of,
    /// Absent from what was recorded before edges had names: such an instance is long
    /// gone, or waits out its grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Id<Edge>>,
}

/// Event: an edge began or ceased to send an instance new work. Ceasing is left
/// out where [`Drained`] says as much at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutedChanged {
    #[serde(flatten)]
    pub of: Of,
    pub routed: bool,
    /// Absent from what was recorded before edges had names; each says it again when it
    /// links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Id<Edge>>,
}

/// Event: a stopped instance was forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    #[serde(flatten)]
    pub of: Of,
}

/// Changes an instance, and counts it in or out among the ready ones of its env.
fn update(
    state: &mut State,
    id: Id<Instance>,
    change: Change,
    what: impl FnOnce(&mut Resource<Instance>),
) {
    let Some(instance) = state.instances.get(id) else {
        return;
    };
    let serving = env::Serving::of(instance);
    let mut serves = serving.is_some();
    state.instances.update(id, |instance| {
        what(instance);
        change.touch(instance);
        serves = instance.serves();
    });
    match serving {
        Some(serving) if !serves => serving.count(state, change, false),
        None if serves => {
            let serving = state.instances.get(id).and_then(env::Serving::of);
            if let Some(serving) = serving {
                serving.count(state, change, true);
            }
        }
        _ => {}
    }
}

impl Resource<Instance> {
    /// Whether it counts as one of those its env wants to be ready.
    pub fn serves(&self) -> bool {
        self.spec.desired == Desired::Running && self.status.observed.phase == Phase::Ready
    }
}

impl Apply for Allocated {
    fn apply(&self, state: &mut State, change: Change) {
        state.instances_allocated += 1;
        state.envs.update(self.spec.env, |env| {
            // Bookkeeping, not a change of the env: its version must hold still
            // for whoever is about to change it.
            *env.status.instances.entry(self.spec.process.clone()).or_default() += 1;
        });
        let parent = Some(self.spec.env.any());
        let instance = change.create(self.id, self.name.clone(), parent, self.spec.clone());
        state.index.instance(&instance, state.nodes.get(self.spec.node));
        state.instances.insert(instance);
        release_command::begun(state, self.id);
        node::note(state, self.spec.node, change);
    }
}

impl Apply for DesiredChanged {
    fn apply(&self, state: &mut State, change: Change) {
        begin_pause(state, self.of.id, change);
        let known = state.instances.get(self.of.id);
        let leaves = known.is_some_and(|it| it.spec.desired == Desired::Running)
            && self.desired != Desired::Running;
        update(state, self.of.id, change, |instance| {
            instance.spec.desired = self.desired;
            if self.desired == Desired::Draining {
                instance.status.draining_since = Some(change.at);
            }
        });
        if let Some(instance) = state.instances.get(self.of.id) {
            state.index.instance(instance, state.nodes.get(instance.spec.node));
        }
        if leaves {
            env::count_leaving(state, self.of.env, change, true);
        }
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        let Some(instance) = state.instances.get(self.of.id) else {
            return;
        };
        let replaced =
            self.observed.phase == Phase::Failed && instance.status.observed.phase != Phase::Failed;
        let (deploy, process) = (instance.spec.deploy, instance.spec.process.clone());
        let replaced = replaced && !instance.runs_release_command(state);
        update(state, self.of.id, change, |instance| {
            instance.status.observed = self.observed.clone();
            if self.observed.phase == Phase::Ready && instance.status.ready_at.is_none() {
                instance.status.ready_at = Some(change.at);
            }
        });
        release_command::seen(state, self.of.id, &self.observed, change);
        if self.observed.phase == Phase::Ready {
            end_pause(state, self.of.id, change);
        }
        if let Some(deploy) = deploy.filter(|_| replaced) {
            state.deploys.update(deploy, |deploy| {
                if !deploy.status.phase.is_final() {
                    *deploy.status.replacements.entry(process).or_default() += 1;
                }
            });
        }
    }
}

/// An instance that has volumes and serves is about to go: its process pauses if
/// that is for a deploy.
fn begin_pause(state: &mut State, id: Id<Instance>, change: Change) {
    let Some(instance) = state.instances.get(id) else { return };
    if instance.spec.mounts.is_empty() || !instance.serves() {
        return;
    }
    let process = instance.spec.process.clone();
    let rolling = state.envs.get(instance.spec.env).and_then(|env| env.spec.rolling);
    if let Some(rolling) = rolling {
        let pause = Pause { since: change.at, until: None };
        state.deploys.update(rolling, |deploy| {
            deploy.status.pauses.entry(process).or_insert(pause);
        });
    }
}

/// One that has volumes is ready: if its process paused, that is over.
fn end_pause(state: &mut State, id: Id<Instance>, change: Change) {
    let Some(instance) = state.instances.get(id) else { return };
    let Some(deploy) = instance.spec.deploy.filter(|_| !instance.spec.mounts.is_empty()) else {
        return;
    };
    let process = instance.spec.process.clone();
    state.deploys.update(deploy, |deploy| {
        if let Some(pause) = deploy.status.pauses.get_mut(&process) {
            pause.until.get_or_insert(change.at);
        }
    });
}

impl Apply for Drained {
    fn apply(&self, state: &mut State, change: Change) {
        let Some(edge) = self.edge else { return };
        state.instances.update(self.of.id, |instance| {
            instance.status.drained_by.insert(edge);
            instance.status.routed_by.remove(&edge);
            change.touch(instance);
        });
    }
}

impl Apply for RoutedChanged {
    fn apply(&self, state: &mut State, change: Change) {
        let Some(edge) = self.edge else { return };
        state.instances.update(self.of.id, |instance| {
            let routed_by = &mut instance.status.routed_by;
            if self.routed {
                routed_by.insert(edge);
            } else {
                routed_by.remove(&edge);
            }
            change.touch(instance);
        });
    }
}

impl Apply for Removed {
    fn apply(&self, state: &mut State, change: Change) {
        release_command::gone(state, self.of.id, change);
        let Some(instance) = state.instances.get(self.of.id) else {
            return;
        };
        let (serving, node) = (env::Serving::of(instance), instance.spec.node);
        let leaves = instance.spec.desired != Desired::Running;
        let instance = instance.clone();
        state.remember(&instance);
        state.index.forget(&instance, state.nodes.get(node));
        state.instances.remove(self.of.id);
        node::note(state, node, change);
        if let Some(serving) = serving {
            serving.count(state, change, false);
        }
        if leaves {
            env::count_leaving(state, self.of.env, change, false);
        }
    }
}
