//! What servers, nodes and edges say to each other over a link.
//!
//! A machine opens a stream with its [`Hello`]; on it, [`ToNode`] or [`ToEdge`]
//! comes down and [`FromNode`] or [`EdgeReport`](crate::plan::EdgeReport) goes
//! up, one JSON document a message. For each exec or logs the server opens a
//! stream of its own with an [`Ask`], for traffic one to an edge with an [`AskEdge`], and a
//! node for secrets, an edge for
//! certificates, with an [`AskServer`]. After [`ExecBegun::Started`] an exec
//! stream has the frames of [`exec_frame`](crate::api::exec_frame); a logs
//! stream has [`LinkLog`] lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bundle::VersionId;
use crate::plan::{EdgePlan, NodePlan};
use crate::{
    Id, Instance, LogFilter, Name, Node, Problem, Snapshot, Timestamp, Volume, certificate, edge,
    instance, node, snapshot, volume,
};

/// The version of all of this. A server refuses a machine that speaks a later
/// one: servers are updated first.
pub const LINK_PROTOCOL: u32 = 1;

/// Who links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Hello {
    Node(NodeHello),
    Edge(EdgeHello),
}

/// A node's first words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeHello {
    pub protocol: u32,
    pub name: Name,
    pub facts: node::Facts,
}

/// An edge's first words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeHello {
    pub protocol: u32,
    pub name: Name,
    #[serde(default)]
    pub facts: edge::Facts,
}

/// From a node. The first is how things stand there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNode {
    Present {
        /// Instances whose programs live there now.
        present: BTreeSet<Id<Instance>>,
        /// What is seen of each instance it knows of.
        observed: Vec<Seen>,
    },
    Observed(Seen),
    Volume(VolumeSeen),
    /// How its disk is.
    Disk(node::Disk),
    Snapshot(SnapshotSeen),
}

/// What a node sees of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotSeen {
    pub snapshot: Id<Snapshot>,
    pub observed: snapshot::Observed,
}

/// What a node sees of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeSeen {
    pub volume: Id<Volume>,
    pub observed: volume::Observed,
}

/// What a node sees of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub instance: Id<Instance>,
    pub observed: instance::Observed,
}

/// To a node. The first is a welcome or a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNode {
    Welcome { node: Id<Node>, link: u64 },
    Refused { problem: Box<Problem> },
    Plan { plan: NodePlan },
}

/// To an edge. The first is a welcome or a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEdge {
    Welcome,
    Refused { problem: Box<Problem> },
    Plan { plan: EdgePlan },
}

/// What a server opens a stream to a node for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Ask {
    Exec {
        instance: Id<Instance>,
        command: Vec<String>,
        tty: bool,
        cols: u16,
        rows: u16,
        env: BTreeMap<String, String>,
    },
    Logs {
        instances: Vec<Id<Instance>>,
        tail_lines: usize,
        since: Option<Timestamp>,
        follow: bool,
        #[serde(default)]
        filter: LogFilter,
    },
}

/// What a server opens a stream to an edge for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AskEdge {
    /// What has gone through each endpoint. The answer is lists of
    /// [`Told`](crate::traffic::Told), until the stream ends.
    Traffic,
}

/// What a node or an edge opens a further stream to its server for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AskServer {
    /// The secrets of an instance on the node. After [`SecretsAnswer::Sent`] the
    /// next message is the file.
    Secrets { instance: Id<Instance>, version: VersionId },
    /// The login with which to pull the image of an instance on the node. After
    /// [`SecretsAnswer::Sent`] the next message is a [`PullLogin`], or `null` when
    /// it is pulled as nobody.
    PullLogin { instance: Id<Instance> },
    /// What a host is served with over TLS: of this certificate, or else made for it
    /// by the installation. Asked by edges. After [`SecretsAnswer::Sent`] the next
    /// message is a key and a chain in PEM.
    Certificate { host: String, pin: Option<certificate::Pin> },
    /// Something of backups; the next message is what belongs to the question. After
    /// [`BackupAnswer::Sent`] the next message is what belongs to the answer.
    Backup { ask: BackupAsk },
}

/// A user and a password at a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLogin {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for PullLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullLogin(hidden)")
    }
}

/// What a node wants of the store of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum BackupAsk {
    /// Which of the parts it lacks, whose sha256 are the lines beside this.
    Lacks { snapshot: Id<Snapshot> },
    /// Keep the part beside this.
    Put { snapshot: Id<Snapshot>, sha256: String },
    /// All parts are there. `lists` are those that list all others; beside this is what
    /// the node has to say of it.
    Finish { snapshot: Id<Snapshot>, lists: Vec<String> },
    /// How many lists there are, the sha256 of each, and what the node had to say.
    Open { snapshot: Id<Snapshot> },
    /// One part.
    Get { snapshot: Id<Snapshot>, sha256: String },
}

impl BackupAsk {
    /// Which backup it is about.
    pub fn snapshot(&self) -> Id<Snapshot> {
        match self {
            BackupAsk::Lacks { snapshot }
            | BackupAsk::Put { snapshot, .. }
            | BackupAsk::Finish { snapshot, .. }
            | BackupAsk::Open { snapshot }
            | BackupAsk::Get { snapshot, .. } => *snapshot,
        }
    }
}

/// The first message of the answer to [`AskServer::Backup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BackupAnswer {
    Sent,
    Refused { message: String, retryable: bool },
}

/// The first message of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SecretsAnswer {
    Sent,
    Refused { message: String },
}

/// The first message of an exec stream from the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecBegun {
    Started,
    Refused { message: String, not_running: bool },
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLog {
    pub instance: Id<Instance>,
    pub at: Timestamp,
    pub stderr: bool,
    pub line: String,
    pub truncated: bool,
    /// Lines lost before this one.
    #[serde(default)]
    pub dropped: u64,
}
