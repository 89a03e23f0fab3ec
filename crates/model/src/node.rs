//! Nodes: machines that run instances. Operator infrastructure, no tenant's.

use serde::{Deserialize, Serialize};

use crate::condition;
use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Id, Kind, Name, Noun, Resource};

/// What is desired of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which subnet of the installation's block its instances draw from.
    pub subnet: u16,
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
}

impl Noun for Node {
    const KIND: Kind = Kind::Node;
    type Status = Status;

    fn facts(node: &Resource<Node>) -> Option<condition::Facts> {
        let ready = node.status.connected;
        Some(condition::Facts { ready, ..condition::Facts::default() })
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
        let spec = Node { subnet: self.subnet };
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
        if let Some(node) = state.nodes.get(self.id) {
            state.index.node(node);
        }
    }
}
