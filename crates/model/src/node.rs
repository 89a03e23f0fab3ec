//! Nodes: machines that run instances. Operator infrastructure, no tenant's.
//!
//! What is on a node that is [`Draining`](Availability::Draining), or that has not
//! reported for [`LOST_AFTER`], is replaced elsewhere before it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::condition;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Resource, Timestamp};

/// What is desired of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which subnet of the installation's block its instances draw from.
    pub subnet: u16,
    #[serde(default)]
    pub availability: Availability,
}

/// What a node may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Instances are placed on it.
    #[default]
    Active,
    /// Keeps what it has and gets nothing more.
    Cordoned,
    /// What it has goes elsewhere.
    Draining,
}

/// How long a node may not report before its instances begin elsewhere: longer
/// than an agent, or a machine, takes to start again.
pub const LOST_AFTER: Duration = Duration::from_secs(60);

impl Resource<Node> {
    /// Whether instances may be placed on it.
    pub fn takes_instances(&self) -> bool {
        self.is_usable() && self.status.disk_pressure().is_none()
    }

    /// Whether it is there and is meant to have instances; its disk may be full.
    pub fn is_usable(&self) -> bool {
        self.status.connected && self.spec.availability == Availability::Active
    }

    /// Whether it has not reported for so long that it counts as gone.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        // Whether it is ready is whether it is connected.
        !self.status.connected && now.since(self.standing.ready_since()) >= LOST_AFTER
    }

    /// Whether its instances should run elsewhere.
    pub fn is_draining(&self) -> bool {
        self.spec.availability == Availability::Draining
    }
}

/// What is known of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub connected: bool,
    /// The number of its present link, or of its last: each connection is one
    /// more. What came over an older one is no news.
    #[serde(default)]
    pub link: u64,
    /// Which replica of the server that link is with, by the URL it advertises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// How its disk is; `None` until it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

impl Status {
    /// Why its disk takes nothing new, if so.
    pub fn disk_pressure(&self) -> Option<&str> {
        self.disk.as_ref()?.pressure.as_deref()
    }
}

/// What a node says of the disk below its data directory. Told when the pressure
/// changes, and now and then when the figures do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Why nothing new is started; `None` while there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<String>,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// With less than this free it is under pressure.
    pub reserve_bytes: u64,
    /// What images take that were pulled and unpacked here.
    pub image_cache_bytes: u64,
    /// Above this, images that nothing uses are removed.
    pub image_cache_bytes_max: u64,
}

/// What a node says of itself when it connects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of `helix` it runs.
    pub version: String,
    pub cpus: u32,
    /// Memory that instances may share, bytes.
    pub memory_bytes: u64,
    /// What instances run under here: `container`, `container-rootless` or `process`.
    pub isolation: String,
    /// Why this one.
    pub isolation_reason: String,
    /// What would make it stronger, if anything can.
    #[serde(default)]
    pub isolation_advice: Option<String>,
    /// How it keeps volumes; `None` when it cannot.
    #[serde(default)]
    pub volumes: Option<VolumeFacts>,
}

/// How a node keeps volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// `lvm-thin`, `loop` or `directory`.
    pub driver: String,
    /// Whether more than its size does not fit into a volume.
    pub size_enforced: bool,
    /// Why this way.
    pub reason: String,
    /// How much all volumes together may take, bytes.
    pub capacity_bytes: u64,
}

impl Noun for Node {
    const KIND: Kind = Kind::Node;
    type Status = Status;

    /// Whether it is empty is known elsewhere; see [`note`].
    fn facts(_node: &Resource<Node>) -> Option<condition::Facts> {
        None
    }
}

/// Command: a node connects and says what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    pub name: Name,
    pub facts: Facts,
    /// The advertised URL of the replica it connects to, where there are several.
    #[serde(default)]
    pub replica: Option<String>,
}

/// Command: a node's link is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disconnect {
    pub node: Id<Node>,
    /// Which one; a node that has linked anew since is not gone.
    pub link: u64,
}

/// Command: a node says how its disk is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observe {
    pub node: Id<Node>,
    pub disk: Disk,
    /// The link it came over.
    pub link: u64,
}

/// Command: a node is to be used for less, or for more again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetAvailability {
    pub node: Id<Node>,
    pub availability: Availability,
}

/// Event: a node is used for less, or for more again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AvailabilityChanged {
    pub id: Id<Node>,
    pub availability: Availability,
}

/// Event: a node was first seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    pub id: Id<Node>,
    pub name: Name,
    pub subnet: u16,
}

/// Event: a node's link or facts changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChanged {
    pub id: Id<Node>,
    #[serde(flatten)]
    pub status: Status,
}

impl Apply for Enrolled {
    fn apply(&self, state: &mut State, change: Change) {
        state.nodes_enrolled += 1;
        let spec = Node { subnet: self.subnet, availability: Availability::Active };
        let node = change.create(self.id, self.name.clone(), None, spec);
        state.index.node(&node);
        state.nodes.insert(node);
    }
}

impl Apply for StatusChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.nodes.update(self.id, |node| {
            node.status = self.status.clone();
            change.touch(node);
        });
        noted(state, self.id, change);
    }
}

impl Apply for AvailabilityChanged {
    fn apply(&self, state: &mut State, change: Change) {
        state.nodes.update(self.id, |node| {
            node.spec.availability = self.availability;
            change.touch(node);
        });
        noted(state, self.id, change);
    }
}

fn noted(state: &mut State, id: Id<Node>, change: Change) {
    if let Some(node) = state.nodes.get(id) {
        state.index.node(node);
    }
    note(state, id, change);
}

/// Notes how a node stands: it is being drained until nothing is on it.
pub(crate) fn note(state: &mut State, id: Id<Node>, change: Change) {
    let Some(node) = state.nodes.get(id) else {
        return;
    };
    let facts = condition::Facts {
        ready: node.status.connected,
        reconciling: node.is_draining() && state.index.count(id) > 0,
        degraded: node.status.disk_pressure().is_some(),
    };
    if node.standing.facts() != facts {
        state.nodes.update(id, |node| node.standing.note(facts, change.at));
    }
}
